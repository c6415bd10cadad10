"""A cell that α has proposed, with what was measured of it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darts_noise.atomic import write_text
from darts_noise.reading import Reading
from darts_noise.space.genotype import Genotype, format_json
from darts_noise.space.json_file import read_json, shown_path
from darts_noise.space.shown import shown

KEYS = {"genotype", "validation", "noise", "objective"}


@dataclass(frozen=True)
class Candidate:
    """A proposed cell and its figures.

    Attributes:
        genotype: the cell.
        validation: on the images that α learns from, after a training on those of w.
        noise: the better of the fits to the noise set, which ends where it is enough to rule the
            cell out; None where λ is 0, and where the validation loss alone rules it out.
        objective: F, or what it had grown to; None where noise was not measured but had to be,
            and where every training on it diverged.
    """

    genotype: Genotype
    validation: Reading
    noise: Reading | None = None
    objective: float | None = None

    @property
    def score(self) -> float:
        """The objective, and infinity where there is none."""
        return math.inf if self.objective is None else self.objective

    def __str__(self) -> str:
        parts = [f"val {self.validation}"]
        parts += [] if self.noise is None else [f"noise {self.noise}"]
        parts += [] if self.objective is None else [f"F {self.objective:.4f}"]
        return "  ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: an infinite loss, which JSON has not, is null."""
        genotype = {k: v for k, v in self.genotype.to_dict().items() if k != "meta"}
        readings: dict[str, Any] = {}
        for name, reading in (("validation", self.validation), ("noise", self.noise)):
            if reading is not None:
                loss = reading.loss if math.isfinite(reading.loss) else None
                readings[name] = [loss, reading.accuracy]
            else:
                readings[name] = None
        return {"genotype": genotype, **readings, "objective": self.objective}

    @classmethod
    def from_dict(cls, data: object) -> "Candidate":
        """The candidate that `to_dict` has written; ``ValueError`` for anything else."""
        if not isinstance(data, Mapping) or data.keys() != KEYS:
            raise ValueError(f"expected a candidate, got {shown(data)}")
        noise, objective = data["noise"], data["objective"]
        if objective is not None and type(objective) is not float:
            raise ValueError(f"objective: expected a number or null, got {shown(objective)}")
        return cls(
            Genotype.from_dict(data["genotype"]),
            _reading(data["validation"]),
            None if noise is None else _reading(noise),
            objective,
        )


def ranked(found: Iterable[Candidate]) -> list[Candidate]:
    """The best first; behind those with an objective the others by their validation loss."""
    return sorted(found, key=lambda candidate: (candidate.score, candidate.validation.loss))


def write_candidates(path: Path, found: Iterable[Candidate]) -> None:
    """Writes the file ``candidates.json`` of a search, the best first."""
    rows = [candidate.to_dict() for candidate in ranked(found)]
    write_text(path, format_json({"candidates": rows}))


def read_candidates(path: Path) -> list[Candidate]:
    """What `write_candidates` has written; ``ValueError``, which names the file, otherwise."""
    data = read_json(path)
    rows = data.get("candidates") if isinstance(data, Mapping) else None
    if not isinstance(rows, list):
        raise ValueError(f"{shown_path(path)}: expected a list of candidates")
    try:
        return [Candidate.from_dict(row) for row in rows]
    except ValueError as error:
        raise ValueError(f"{shown_path(path)}: {error}") from None


def _reading(value: object) -> Reading:
    if isinstance(value, list) and len(value) == 2 and type(value[1]) is float:
        loss, accuracy = value
        if loss is None or type(loss) is float:
            return Reading(math.inf if loss is None else loss, accuracy)
    raise ValueError(f"expected a loss and an accuracy, got {shown(value)}")
