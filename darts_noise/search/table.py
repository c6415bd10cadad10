"""A table of measured cells: a strategy is told what a cell is worth without any training.

The file is CSV text with a header, one row for each cell:

    cell,validation,test,uniform,steps
    |nor_conv_3x3~0|+|none~0|skip_connect~1|,0.912,0.905,0.43,1200

- ``cell``: the cell in a form that `Genotype.from_text` reads. Required.
- ``validation``: validation accuracy, 0 to 1. Required.
- ``steps``: cost of the cell in gradient steps. Without this column, each cell costs 1.
- the name of a macro choice, such as ``normalisation``: its value. Without a column, it has its
  DARTS value.
- any other column is a figure, such as ``test``, or the accuracy on a family of noise.

The rows define the space: the operations that some row has on an edge, and the values that some row
has for a macro choice. The table must have every cell of this space that a strategy proposes.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from darts_noise.configured import require_at_least
from darts_noise.errors import SettingError, unknown
from darts_noise.reading_record import Reading
from darts_noise.search.candidate import Candidate
from darts_noise.search.strategies.cells import ordered
from darts_noise.shown import LONGEST, shortened, shown
from darts_noise.space.genotype import Genotype
from darts_noise.space.json_file import read_text, shown_path
from darts_noise.space.macro import MACRO, Value, as_text
from darts_noise.space.spaces import Space

MAX_BYTES = 1 << 26
"""Largest size of a file. The 15,625 cells of NAS-Bench-201 need 2 MB."""
MAX_STEPS = 1 << 53


@dataclass(frozen=True)
class MeasuredCell:
    """A row of a table.

    Attributes:
        genotype: the cell.
        figures: its figures by name. ``validation`` is one of them.
        steps: its cost.
        place: where it stands, for messages.
    """

    genotype: Genotype
    figures: Mapping[str, float]
    steps: int = 1
    place: str = "table"


class CellTable:
    """Cells with their measurements and their objective.

    The objective is that of a search, with accuracies in place of losses:

        F = 1 − A_val + λ · P,    P = max(0, (A_noise − chance) / (1 − chance))

    Attributes:
        candidates: the cells as strategies are told of them, in the order of the rows.
        space: the space of the cells.
        peak_epochs, shared_steps: part of the interface of measurements, without effect.

    Args:
        rows: the cells.
        noise: the figure A_noise, the accuracy on noise. None: λ = 0.
        noise_weight: λ.
        chance: accuracy on noise of a network that memorises nothing.

    Raises:
        ValueError: two rows have the same cell, a figure is missing or not an accuracy, or the
            cells have no space in common.
    """

    def __init__(
        self,
        rows: Iterable[MeasuredCell],
        noise: str | None = None,
        noise_weight: float = 1.0,
        chance: float = 0.1,
    ) -> None:
        require_at_least(0, noise_weight=noise_weight)
        if not 0 <= chance < 1:
            raise SettingError("chance", f"expected 0 or more and less than 1, got {chance}")
        self.rows = list(rows)
        self.space = space_of(self.rows)
        self.peak_epochs, self.shared_steps = 1, 0
        accuracies = self._accuracies("validation")
        fits = [chance] * len(self.rows) if noise is None else self._accuracies(noise)
        self.candidates = [
            Candidate(
                ordered(row.genotype),
                Reading(1 - accuracy, accuracy),
                None if noise is None else Reading(1 - fit, fit),
                1 - accuracy + noise_weight * max(0.0, (fit - chance) / (1 - chance)),
                row.steps,
            )
            for row, accuracy, fit in zip(self.rows, accuracies, fits, strict=True)
        ]
        self._number: dict[Genotype, int] = {}
        for number, (row, one) in enumerate(zip(self.rows, self.candidates, strict=True)):
            first = self._number.setdefault(one.genotype, number)
            if first != number:
                raise ValueError(f"{row.place}: the same cell as {self.rows[first].place}")

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        noise: str | None = None,
        noise_weight: float = 1.0,
        chance: float = 0.1,
    ) -> "CellTable":
        """Read a table; see `darts_noise.search.table` for the form of the file.

        Raises:
            ValueError: the file is missing or damaged. The message names the file and the line.
        """
        return cls(_read_rows(Path(path)), noise, noise_weight, chance)

    def figure(self, name: str) -> list[float]:
        """Return a figure of all cells, in the order of the rows.

        Raises:
            ValueError: the table has no such figure. The message lists the figures.
        """
        known = self.rows[0].figures
        if name not in known:
            raise unknown("figure of the table", shortened(name), known)
        return [row.figures[name] for row in self.rows]

    def _accuracies(self, name: str) -> list[float]:
        found = self.figure(name)
        for row, value in zip(self.rows, found, strict=True):
            if not 0 <= value <= 1:
                raise ValueError(f"{row.place}: {name}: expected 0 to 1, got {value}")
        return found

    def number(self, genotype: Genotype) -> int:
        """Return the number of the row of a cell, from 0.

        Raises:
            SettingError: the table does not have the cell.
        """
        number = self._number.get(ordered(genotype))
        if number is None:
            style = "nas_bench_201" if self.space.complete and _is_complete(genotype) else "nested"
            text = replace(genotype, macro={}).to_text(style)
            macro = "".join(f", {name} {as_text(value)}" for name, value in genotype.macro.items())
            raise SettingError(
                "table", f"expected a row for every cell, got none for {text}{macro}"
            )
        return number

    def measured(
        self, genotype: Genotype, least: float = math.inf, share: float = 1.0
    ) -> Candidate:
        """Return a cell with its figures; see `CandidateTrainings.measured`.

        Raises:
            SettingError: the table does not have the cell, or the training would be a short one.
        """
        if share != 1:
            raise SettingError(
                "share", f"expected 1, a table has no shorter trainings, got {share}"
            )
        return self.candidates[self.number(genotype)]


def space_of(rows: Sequence[MeasuredCell]) -> Space:
    """Return the smallest space that has all these cells.

    Raises:
        ValueError: there are no cells, or they have no space in common. The message names a row.
    """
    if not rows:
        raise ValueError("table: expected at least one cell")
    first = rows[0].genotype
    nodes, complete, kept = len(first.normal), _is_complete(first), max(map(len, first.normal))
    seen: dict[str, dict[tuple[int, int], set[str]]] = {"normal": {}, "reduce": {}}
    macro: dict[str, dict[Value, None]] = {name: {} for row in rows for name in row.genotype.macro}
    for row in rows:
        cell = row.genotype
        counts = [min(kept, node + 2 - complete) for node in range(nodes)]
        if _is_complete(cell) != complete or any(
            [len({predecessor for _, predecessor in pairs}) for pairs in of_kind] != counts
            or len(concat) != (1 if complete else nodes)
            for of_kind, concat in [
                (cell.normal, cell.normal_concat),
                (cell.reduce, cell.reduce_concat),
            ]
        ):
            raise ValueError(
                f"{row.place}: expected as many nodes, edges and outputs as in {rows[0].place}"
            )
        for kind, edges in seen.items():
            for node, pairs in enumerate(getattr(cell, kind)):
                for operation, predecessor in pairs:
                    if operation == "none" and not complete:
                        raise ValueError(f"{row.place}: expected no 'none', which is never drawn")
                    edges.setdefault((predecessor, node), set()).add(operation)
        for name, values in macro.items():
            values[cell.choice(name)] = None
    operations = tuple(
        dict.fromkeys(
            operation
            for row in rows
            for pairs in (*row.genotype.normal, *row.genotype.reduce)
            for operation, _ in pairs
        )
    )
    space = Space(
        "table",
        operations,
        nodes,
        kept,
        macro=tuple((name, tuple(values)) for name, values in macro.items()),
        complete=complete,
    )
    allowed = tuple(
        (kind, tuple(tuple(edges.get(edge, operations)) for edge in space.edges))
        for kind, edges in seen.items()
    )
    return replace(space, allowed=allowed)


def _is_complete(cell: Genotype) -> bool:
    """Return whether a cell has the form of NAS-Bench-201; see `Space`."""
    return (
        cell.normal == cell.reduce
        and cell.normal_concat == cell.reduce_concat == (len(cell.normal) + 1,)
        and all(
            sorted(predecessor for _, predecessor in pairs) == list(range(1, node + 2))
            for node, pairs in enumerate(cell.normal)
        )
    )


def _read_rows(path: Path) -> list[MeasuredCell]:
    """Return the rows of a file. Raise ``ValueError`` with the file and the line."""
    text = read_text(path, MAX_BYTES).removeprefix("\ufeff")  # spreadsheets write this mark
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[MeasuredCell] = []

    def place() -> str:
        return f"{shown_path(path)}, line {lines.line_num}"

    try:
        header = next(lines, [])
        if (
            not {"cell", "validation"} <= set(header)
            or len(set(header)) != len(header)
            or not all(name.isprintable() and len(name) <= LONGEST for name in header)
        ):
            raise ValueError(
                f"expected different columns, cell and validation among them, got {shown(header)}"
            )
        for values in lines:
            if len(values) != len(header):
                raise ValueError(f"expected {len(header)} values, got {len(values)}")
            rows.append(_row(dict(zip(header, values, strict=True)), place()))
        if not rows:
            raise ValueError("expected at least one cell below the header")
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{place()}: {error}") from None
    return rows


def _row(values: Mapping[str, str], place: str) -> MeasuredCell:
    figures, steps = {}, 1
    macro: dict[str, Value] = {}
    for name, text in values.items():
        number = _number(text)
        if name == "cell":
            continue
        if name in MACRO:
            macro[name] = text if number is None else number
        elif name == "steps":
            if number is None or not 1 <= number <= MAX_STEPS or number != int(number):
                raise ValueError(f"steps: expected a whole number from 1, got {shown(text)}")
            steps = int(number)
        elif number is None:
            raise ValueError(f"{shortened(name)}: expected a number, got {shown(text)}")
        else:
            figures[name] = number
    genotype = replace(Genotype.from_text(values["cell"]), macro=macro)
    return MeasuredCell(genotype, figures, steps, place)


def _number(text: str) -> float | None:
    """Return a finite number, or None for another text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
