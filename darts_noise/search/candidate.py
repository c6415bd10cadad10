"""A proposed cell, its measurements, and the file ``candidates.json``."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

from darts_noise.atomic import write_text
from darts_noise.reading_record import Reading, reading_from_json, reading_to_json
from darts_noise.shown import shown
from darts_noise.space.genotype import Genotype, format_json
from darts_noise.space.json_file import read_json, shown_path

KEYS = {"genotype", "validation", "noise", "objective"}
OPTIONAL = {"steps", "share", "peak", "terms", "bound"}
"""Keys of a row of the file. Older files do not have the optional keys."""


@dataclass(frozen=True)
class Candidate:
    """A proposed cell and its measurements.

    Attributes:
        genotype: the cell.
        validation: loss and accuracy on the images that train α, after training on the images that
            train w.
        noise: the best fit to the noise set. The fit stops early if it already rules the cell out.
            None if λ is 0, or if the validation loss alone rules the cell out.
        objective: F, or a lower bound of F if the fit to noise stopped early. None if the noise fit
            was needed but not measured, or if every training on noise diverged.
        steps: optimiser steps of these trainings.
        share: length of the trainings, as a share of the full number of epochs.
        peak: largest validation accuracy after the last epochs. None if only the last was read.
        terms: name of each objective of the search → its value after the training on images.
        bound: whether the fit to noise stopped early, so that its accuracy and the objective are
            lower bounds.
    """

    genotype: Genotype
    validation: Reading
    noise: Reading | None = None
    objective: float | None = None
    steps: int = 0
    share: float = 1.0
    peak: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict, hash=False)
    bound: bool = False

    @property
    def score(self) -> float:
        """The objective, or infinity if it is None."""
        return math.inf if self.objective is None else self.objective

    @property
    def least(self) -> str:
        """The sign before the noise accuracy and the objective, if they are lower bounds."""
        return "≥ " if self.bound else ""

    def __str__(self) -> str:
        parts = [] if self.share == 1 else [f"{100 * self.share:.3g}% of the epochs"]
        parts += [f"val {self.validation}"]
        parts += [f"{name} {value:.4f}" for name, value in self.terms.items()]
        parts += [] if self.noise is None else [f"noise {self.least}{self.noise}"]
        parts += [] if self.objective is None else [f"F {self.least}{self.objective:.4f}"]
        return "  ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the candidate as a JSON object. An infinite loss becomes null."""
        genotype = {k: v for k, v in self.genotype.to_dict().items() if k != "meta"}
        return {
            "genotype": genotype,
            "validation": reading_to_json(self.validation),
            "noise": None if self.noise is None else reading_to_json(self.noise),
            "objective": self.objective,
            "steps": self.steps,
            **({} if self.share == 1 else {"share": self.share}),
            **({} if self.peak is None else {"peak": self.peak}),
            **({"terms": _finite(self.terms)} if self.terms else {}),
            **({"bound": True} if self.bound else {}),
        }

    @classmethod
    def from_dict(cls, data: object) -> "Candidate":
        """Return the candidate that `to_dict` wrote.

        Raises:
            ValueError: ``data`` is not such an object.
        """
        if not isinstance(data, Mapping) or data.keys() - OPTIONAL != KEYS:
            raise ValueError(f"expected a candidate, got {shown(data)}")
        noise, objective = data["noise"], data["objective"]
        steps, share = data.get("steps", 0), data.get("share", 1.0)
        peak, terms = data.get("peak"), data.get("terms", {})
        if type(steps) is not int:
            raise ValueError(f"steps: expected an integer, got {shown(steps)}")
        if peak is not None and type(peak) is not float:
            raise ValueError(f"peak: expected a number or null, got {shown(peak)}")
        if not isinstance(terms, Mapping) or {*map(type, terms.values())} - {float, NoneType}:
            raise ValueError(f"terms: expected numbers by name, got {shown(terms)}")
        if type(share) is not float or not 0 < share <= 1:
            raise ValueError(f"share: expected a number above 0, at most 1, got {shown(share)}")
        if type(bound := data.get("bound", False)) is not bool:
            raise ValueError(f"bound: expected true or false, got {shown(bound)}")
        if objective is not None and type(objective) is not float:
            raise ValueError(f"objective: expected a number or null, got {shown(objective)}")
        return cls(
            Genotype.from_dict(data["genotype"]),
            reading_from_json(data["validation"]),
            None if noise is None else reading_from_json(noise),
            objective,
            steps,
            share,
            peak,
            {name: math.inf if value is None else value for name, value in terms.items()},
            bound,
        )


def ranked(found: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates, the best first.

    Candidates that were trained longer come first. Candidates without an objective come last, in
    the order of their validation loss.
    """
    return sorted(found, key=lambda one: (-one.share, one.score, one.validation.loss))


def write_candidates(path: Path, found: Iterable[Candidate]) -> None:
    """Write the file ``candidates.json`` of a search, the best candidate first."""
    rows = [candidate.to_dict() for candidate in ranked(found)]
    write_text(path, format_json({"candidates": rows}))


def read_candidates(path: Path) -> list[Candidate]:
    """Return the candidates that `write_candidates` wrote.

    Raises:
        ValueError: the file holds something else. The message names the file.
    """
    data = read_json(path)
    rows = data.get("candidates") if isinstance(data, Mapping) else None
    if not isinstance(rows, list):
        raise ValueError(f"{shown_path(path)}: expected a list of candidates")
    try:
        return [Candidate.from_dict(row) for row in rows]
    except ValueError as error:
        raise ValueError(f"{shown_path(path)}: {error}") from None


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
