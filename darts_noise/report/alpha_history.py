"""The history of α in a search, its file ``history.json``, and the entries that a cell has."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from darts_noise.atomic import write_text
from darts_noise.space.genotype import Genotype
from darts_noise.space.json_file import read_text

FORMAT = "darts_noise.alpha_history/1"
MAX_BYTES = 1 << 26
DECIMALS = 5  # `alpha.json` holds the last weights in full

Entry = tuple[int, int]  # row and column of α
Weights = Mapping[str, Sequence[Sequence[float]]]  # kind → rows, one per edge, of relaxed weights


@dataclass(frozen=True)
class Moment:
    """α after one epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        genotype: the genotype of this α.
        weights: kind of cell or macro choice → rows, one per edge, of relaxed weights.
    """

    epoch: int
    genotype: Genotype
    weights: Weights


@dataclass(frozen=True)
class AlphaHistory:
    """α after each epoch of a search.

    A search without α has a moment for each measured cell instead. Its genotype is the best cell so
    far, and its weights are the shares of the last cells that have each operation.

    Attributes:
        operations: names of the columns of a cell's α.
        edges: (predecessor, node) of its rows; see `darts_noise.space.spaces.Space.edges`.
        macro: choice → its candidates, as text.
        moments: in the order of their epochs.
        counted: what the moments count: ``epoch`` or ``cell``.
    """

    operations: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    macro: Mapping[str, tuple[str, ...]]
    moments: tuple[Moment, ...] = ()
    counted: str = "epoch"

    def with_moment(self, moment: Moment) -> "AlphaHistory":
        """Return the history with one more moment, which replaces moments from its epoch on.

        A resumed run starts from a checkpoint, so it may repeat its last epochs.
        """
        before = tuple(m for m in self.moments if m.epoch < moment.epoch)
        return replace(self, moments=(*before, moment))

    def changes(self) -> list[Moment]:
        """Return the first moment, and each moment with another genotype than the moment before."""
        pairs = zip((None, *self.moments), self.moments, strict=False)
        return [now for was, now in pairs if was is None or was.genotype != now.genotype]


def to_rows(history: AlphaHistory) -> list[dict[str, Any]]:
    """Return JSON values: a head, then one row per epoch. A checkpoint holds them as well."""
    head = {
        "format": FORMAT,
        "operations": list(history.operations),
        "edges": [list(edge) for edge in history.edges],
        "macro": {name: list(values) for name, values in history.macro.items()},
        **({} if history.counted == "epoch" else {"counted": history.counted}),
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
    """Return the history that `to_rows` wrote, up to rounding.

    Raises:
        ValueError: the values are not a history.
    """
    try:
        head, *moments = rows
        if head["format"] != FORMAT:
            raise ValueError(f"expected the format {FORMAT!r}")
        return AlphaHistory(
            operations=tuple(map(str, head["operations"])),
            edges=tuple((int(p), int(node)) for p, node in head["edges"]),
            macro={str(name): tuple(map(str, of)) for name, of in head["macro"].items()},
            moments=tuple(map(_moment, moments)),
            counted=str(head.get("counted", "epoch")),
        )
    except (ArithmeticError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from None


def write_history(path: Path, history: AlphaHistory) -> None:
    """Write the file in one step, with one line per epoch."""
    write_text(path, "[" + ",\n".join(map(json.dumps, to_rows(history))) + "]\n")


def read_history(path: Path) -> AlphaHistory:
    """Read and check the history in a file. The file cannot run code.

    Raises:
        ValueError: the file cannot be read, or is not a history. The message names it.
    """
    text = read_text(path, MAX_BYTES)
    try:
        return from_rows(json.loads(text))
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path}: not the history of a search: {error}") from None


def chosen_entries(
    genotype: Genotype, operations: Sequence[str], edges: Sequence[tuple[int, int]]
) -> dict[str, list[list[Entry]]]:
    """Return the entries of α for a genotype: kind → node → pair → (row, column).

    Args:
        genotype: a genotype of the search.
        operations: names of α's columns.
        edges: (predecessor, node) of α's rows.

    Raises:
        ValueError: the search did not have an operation or an edge.
    """
    row = {tuple(edge): i for i, edge in enumerate(edges)}
    column = {name: i for i, name in enumerate(operations)}
    found = {}
    for kind, cell in (("normal", genotype.normal), ("reduce", genotype.reduce)):
        try:
            found[kind] = [
                [(row[predecessor, node], column[name]) for name, predecessor in pairs]
                for node, pairs in enumerate(cell)
            ]
        except KeyError as error:
            raise ValueError(f"{kind}: α has no row or column for {error}") from None
    return found


def strengths(
    genotype: Genotype,
    weights: Weights,
    operations: Sequence[str],
    edges: Sequence[tuple[int, int]],
) -> dict[str, list[list[float]]]:
    """Return the relaxed weight of each operation of the cells, for `draw_cells`.

    Raises:
        ValueError: the search did not have an operation, an edge or a row.
    """
    try:
        return {
            kind: [[weights[kind][i][j] for i, j in pairs] for pairs in nodes]
            for kind, nodes in chosen_entries(genotype, operations, edges).items()
        }
    except (KeyError, IndexError) as error:
        raise ValueError(f"weights: no entry for a chosen operation: {error}") from None


def edge_label(predecessor: int, node: int) -> str:
    """Return the name of an edge in a drawing: the inputs are c_{k-2} and c_{k-1}.

    Predecessors count as in a genotype (0 and 1 are the inputs), nodes from 0.

    >>> edge_label(3, 3)
    '1→3'
    """
    if predecessor < 2:
        return f"$c_{{k-{2 - predecessor}}}$→{node}"
    return f"{predecessor - 2}→{node}"


def edge_name(edge: Sequence[int]) -> str:
    """Return the name of an edge in words.

    >>> edge_name((1, 0))
    'input c(k−1) → node 0'
    """
    predecessor, node = edge
    return f"{source_name(predecessor)} → node {node}"


def source_name(predecessor: int) -> str:
    """Return the name of a predecessor in words.

    >>> [source_name(p) for p in (0, 1, 2)]
    ['input c(k−2)', 'input c(k−1)', 'node 0']
    """
    return f"input c(k−{2 - predecessor})" if predecessor < 2 else f"node {predecessor - 2}"


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
