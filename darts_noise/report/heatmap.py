"""Heat maps of the relaxed architecture weights: one row per edge, one column per operation.

The maps of the kinds of cells are side by side, on a common scale from 0. Macro choices are below
them. The constants below are the sizes, and decide when numbers are written into the squares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from darts_noise.report.alpha_history import Entry, Weights, chosen_entries, edge_label
from darts_noise.report.style import RC, axes_at, text_width, write_title
from darts_noise.space.genotype import Genotype
from darts_noise.space.macro import as_text

COLOUR_MAP = "cividis"  # perceptually uniform, also for colour-blind readers
TARGET_WIDTH = (
    7.0  # inches: the two columns of a page; squares shrink down to the least size to fit
)
SQUARE_WIDTH, LEAST_SQUARE_WIDTH, SQUARE_HEIGHT = 0.36, 0.15, 0.19
NAME_TEXT, NUMBER_TEXT = 7.0, 5.5  # points
PAD, BAR_WIDTH, ABOVE = 0.08, 0.1, 0.24
DARK = 0.5  # share of the scale below which a square is dark and its text white


@dataclass(frozen=True)
class _Map:
    """One map without a position. Its sizes are in inches."""

    title: str
    table: np.ndarray  # (rows, columns)
    rows: Sequence[str]
    columns: Sequence[str]
    chosen: Sequence[Entry]

    @property
    def left(self) -> float:
        """Width of the names of the rows."""
        widest = max((text_width(name, NAME_TEXT) for name in self.rows if name), default=0.0)
        return PAD + 0.06 + widest

    @property
    def below(self) -> float:
        """Height of the names of the columns."""
        return 0.12 + max(text_width(name, NAME_TEXT) for name in self.columns)

    @property
    def height(self) -> float:
        """Height of the squares."""
        return len(self.rows) * SQUARE_HEIGHT

    def room(self, square: float) -> float:
        """Return the width of the squares. A small map still needs room for its title."""
        return max(len(self.columns) * square, text_width(self.title, 8.0) * 1.15)


def draw_alpha(
    weights: Weights,
    operations: Sequence[str],
    edges: Sequence[tuple[int, int]],
    title: str | None = None,
    *,
    macro: Mapping[str, Sequence[str]] | None = None,
    genotype: Genotype | None = None,
) -> Figure:
    """Draw the weights of each kind of cell side by side, and the macro choices below them.

    Args:
        weights: kind → rows, one per edge, each with one weight per operation.
        operations: names of the columns.
        edges: (predecessor, node) of each row: predecessors 0 and 1 are the inputs and 2 is node 0;
            nodes count from 0.
        title: a line above the maps.
        macro: the kinds that are macro choices, each with the names of its candidates. They have
            one row. A choice with one candidate is decided and not drawn.
        genotype: the genotype whose operations get a frame.

    Raises:
        ValueError: there is nothing to draw, rows have another shape, a weight is negative or not
            finite, or the genotype has an operation or an edge that the weights lack.
    """
    if not weights:
        raise ValueError("weights: expected at least one kind of cell, got none")
    macro = macro or {}
    chosen: dict[str, list[Entry]] = {}
    if genotype is not None:
        for kind, nodes in chosen_entries(genotype, operations, edges).items():
            chosen[kind] = [entry for pairs in nodes for entry in pairs]
        for kind, names in macro.items():
            value = as_text(genotype.choice(kind))
            chosen[kind] = [(0, column) for column, name in enumerate(names) if name == value]
    labels = [edge_label(*edge) for edge in edges]
    bands: list[list[_Map]] = [[], []]  # the cells; the macro choices
    for kind, rows in weights.items():
        # The title of a macro choice names its one row.
        names, columns = ([""], macro[kind]) if kind in macro else (labels, operations)
        if kind in macro and len(columns) == 1:
            continue
        table = _table(kind, rows, (len(names), len(columns)))
        drawn = _Map(kind, table, names, columns, chosen.get(kind, ()))
        bands[kind in macro].append(drawn)
    bands = [band for band in bands if band]
    highest = max(float(m.table.max()) for band in bands for m in band) or 1.0

    beside = 3 * PAD + BAR_WIDTH + 0.35  # the colour bar
    names_width = max(sum(m.left for m in band) for band in bands)
    count = max(sum(len(m.columns) for m in band) for band in bands)
    square = (TARGET_WIDTH - (names_width + beside)) / count
    square = min(SQUARE_WIDTH, max(LEAST_SQUARE_WIDTH, square))
    tall = [max(m.height for m in band) + max(m.below for m in band) + ABOVE for band in bands]
    wide = max(sum(m.left + m.room(square) for m in band) for band in bands)
    top = sum(tall)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(wide + beside, top + (0.24 if title else 0.0)))
        write_title(figure, title)
        bar_height = min(max(m.height for m in bands[0]), 1.6)
        bar_place = (wide + 2 * PAD, top - ABOVE - bar_height, BAR_WIDTH, bar_height)
        for band, room in zip(bands, tall, strict=True):
            x = 0.0
            for drawn in band:
                x += drawn.left
                across = len(drawn.columns) * square
                axes = axes_at(figure, x, top - ABOVE - drawn.height, across, drawn.height)
                mesh = _paint(axes, drawn, highest)
                if square > text_width(".00", NUMBER_TEXT) + 0.05:
                    _write_numbers(axes, drawn.table, highest)
                x += drawn.room(square)
            top -= room
        bar = axes_at(figure, *bar_place)
        figure.colorbar(mesh, cax=bar).outline.set_visible(False)
        bar.tick_params(length=2, pad=2, labelsize=6.0)
        bar.locator_params(axis="y", nbins=4 if bar_height > 0.5 else 1)
    return figure


def _table(kind: str, rows: Sequence[Sequence[float]], shape: tuple[int, int]) -> np.ndarray:
    if [len(row) for row in rows] != [shape[1]] * shape[0]:
        raise ValueError(f"weights[{kind!r}]: expected {shape[0]} rows of {shape[1]} weights")
    table = np.array(rows, dtype=float)
    for i, row in enumerate(table):
        if not (np.isfinite(row) & (row >= 0)).all():
            raise ValueError(
                f"weights[{kind!r}], row {i}: expected finite weights from 0, got {row.tolist()}"
            )
    return table


def _paint(axes: Axes, drawn: _Map, highest: float) -> QuadMesh:
    height, width = drawn.table.shape
    mesh = axes.pcolormesh(  # squares as vectors; painted edges hide the seams
        np.arange(width + 1) - 0.5,
        np.arange(height + 1) - 0.5,
        drawn.table,
        cmap=COLOUR_MAP,
        vmin=0.0,
        vmax=highest,
        edgecolors="face",
        linewidth=0.2,
    )
    axes.invert_yaxis()
    axes.set_title(drawn.title, weight="bold", pad=4.0, loc="left")
    axes.set_xticks(range(width), drawn.columns, rotation=90, size=NAME_TEXT)
    axes.set_yticks(range(height), drawn.rows, size=NAME_TEXT)
    axes.tick_params(length=0, pad=2.5)
    axes.spines[:].set_visible(False)
    for row, column in drawn.chosen:
        frame = Rectangle((column - 0.45, row - 0.42), 0.9, 0.84, fill=False, linewidth=1.2)
        frame.set_edgecolor(_readable_on(drawn.table[row, column], highest))
        axes.add_patch(frame)
    return mesh


def _write_numbers(axes: Axes, table: np.ndarray, highest: float) -> None:
    for (row, column), weight in np.ndenumerate(table):
        colour = _readable_on(weight, highest)
        text = _short(weight)
        axes.text(column, row, text, ha="center", va="center", size=NUMBER_TEXT, color=colour)


def _readable_on(weight: float, highest: float) -> str:
    return "white" if weight < DARK * highest else "black"


def _short(weight: float) -> str:
    """Return a weight as short text with two digits: .07, 1.0.

    >>> _short(0.07), _short(0.999)
    ('.07', '1.0')
    """
    text = f"{weight:.2f}"
    return text[1:] if text.startswith("0") else f"{weight:.1f}"
