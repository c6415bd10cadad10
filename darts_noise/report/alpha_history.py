"""How α went: its relaxed weights and the genotype after every epoch, as a run's `history.json`."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from darts_noise.atomic import write_text
from darts_noise.space.genotype import Genotype

FORMAT = "darts_noise.alpha_history/1"
MAX_BYTES = 1 << 26
DECIMALS = 5  # `alpha.json` holds the last ones in full


@dataclass(frozen=True)
class Moment:
    """α after an epoch.

    Attributes:
        epoch: from 1.
        genotype: what α stood for.
        weights: kind of cell or macro choice → rows, one per edge, of weights.
    """

    epoch: int
    genotype: Genotype
    weights: Mapping[str, Sequence[Sequence[float]]]


@dataclass(frozen=True)
class AlphaHistory:
    """α over a search.

    Attributes:
        operations: names of the columns of a cell's α.
        edges: (predecessor, node) of its rows; see `darts_noise.space.spaces.Space.edges`.
        macro: choice → its candidates, as text.
        moments: by epoch.
    """

    operations: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    macro: Mapping[str, tuple[str, ...]]
    moments: tuple[Moment, ...] = ()

    def with_moment(self, moment: Moment) -> "AlphaHistory":
        """With one more; what came at or after its epoch, of a run that was stopped, is dropped."""
        before = tuple(m for m in self.moments if m.epoch < moment.epoch)
        return replace(self, moments=(*before, moment))

    def changes(self) -> list[Moment]:
        """The first moment, and each whose genotype is another than the one before."""
        pairs = zip((None, *self.moments), self.moments, strict=False)
        return [now for was, now in pairs if was is None or was.genotype != now.genotype]


def to_rows(history: AlphaHistory) -> list[dict[str, Any]]:
    """As JSON values, the epochs after a head; also what a checkpoint holds of it."""
    head = {
        "format": FORMAT,
        "operations": list(history.operations),
        "edges": [list(edge) for edge in history.edges],
        "macro": {name: list(values) for name, values in history.macro.items()},
    }
    rows: list[dict[str, Any]] = [head]
    for moment in history.moments:
        rounded = {
            kind: [[round(weight, DECIMALS) for weight in row] for row in rows]
            for kind, rows in moment.weights.items()
        }
        cell = moment.genotype.to_dict()
        rows.append({"epoch": moment.epoch, "genotype": cell, "weights": rounded})
    return rows


def from_rows(rows: Any) -> AlphaHistory:
    """What `to_rows` was given, up to the rounding.

    Raises:
        ValueError: the values are no such history.
    """
    try:
        head, *moments = rows
        if head["format"] != FORMAT:
            raise ValueError(f"expected the format {FORMAT!r}")
        return AlphaHistory(
            operations=tuple(map(str, head["operations"])),
            edges=tuple((int(p), int(node)) for p, node in head["edges"]),
            macro={str(name): tuple(map(str, values)) for name, values in head["macro"].items()},
            moments=tuple(map(_moment, moments)),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from None


def write_history(path: Path, history: AlphaHistory) -> None:
    """Writes the file, a line for each epoch, in one step."""
    write_text(path, "[" + ",\n".join(map(json.dumps, to_rows(history))) + "]\n")


def read_history(path: Path) -> AlphaHistory:
    """The history that a file holds; it is checked, and no code runs from it.

    Raises:
        ValueError: not such a file; the message names it.
        OSError: it cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_BYTES} bytes")
    try:
        return from_rows(json.loads(path.read_text("utf-8")))
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path}: not the history of a search: {error}") from None


def _moment(row: Any) -> Moment:
    weights = {
        str(kind): [[_weight(weight) for weight in row] for row in rows]
        for kind, rows in row["weights"].items()
    }
    return Moment(int(row["epoch"]), Genotype.from_dict(row["genotype"]), weights)


def _weight(value: Any) -> float:
    if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
        raise ValueError(f"expected finite weights from 0, got {value!r:.40}")
    return float(value)
