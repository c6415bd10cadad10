"""Heat maps of the relaxed architecture weights: one row per edge, one column per operation.

One map per kind of cell, side by side, on one common scale from 0; macro choices stand below. To
change the size or when the numbers are written into the squares, change the constants below.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from darts_noise.report.chosen import chosen_entries
from darts_noise.report.style import RC, text_width
from darts_noise.space.genotype import Genotype

COLOUR_MAP = "cividis"  # perceptually uniform, and the same to colour-blind readers
TARGET_WIDTH = 7.0  # inches: a page's two columns; the squares shrink towards it down to the least
SQUARE_WIDTH, LEAST_SQUARE_WIDTH, SQUARE_HEIGHT = 0.36, 0.15, 0.19
NAME_TEXT, NUMBER_TEXT = 7.0, 5.5  # points
PAD, BAR_WIDTH, ABOVE = 0.08, 0.1, 0.24
DARK = 0.5  # share of the scale below which a square is dark, and what is written on it white


def edge_label(predecessor: int, node: int) -> str:
    """Name of an edge: predecessors count as in a genotype (0 and 1 are the inputs), nodes from 0.

    >>> edge_label(3, 3)
    '1→3'
    """
    if predecessor < 2:
        return f"$c_{{k-{2 - predecessor}}}$→{node}"
    return f"{predecessor - 2}→{node}"


@dataclass(frozen=True)
class _Map:
    """One map before it is placed."""

    title: str
    table: np.ndarray  # (rows, columns)
    rows: Sequence[str]
    columns: Sequence[str]
    chosen: Sequence[tuple[int, int]]

    @property
    def left(self) -> float:
        """Inches that the names of the rows take."""
        return (
            PAD
            + 0.06
            + max((text_width(name, NAME_TEXT) for name in self.rows if name), default=0.0)
        )

    @property
    def below(self) -> float:
        """Inches that the names of the columns take."""
        return 0.12 + max(text_width(name, NAME_TEXT) for name in self.columns)

    def room(self, square: float) -> float:
        """Inches of the squares; a map of one or two still needs room for its own title."""
        return max(float(self.table.shape[1]) * square, text_width(self.title, 8.0) * 1.15)

    @property
    def height(self) -> float:
        """Inches of the squares."""
        return float(self.table.shape[0]) * SQUARE_HEIGHT


def draw_alpha(
    weights: Mapping[str, Sequence[Sequence[float]]],
    operations: Sequence[str],
    edges: Sequence[tuple[int, int]],
    title: str | None = None,
    *,
    macro: Mapping[str, Sequence[str]] | None = None,
    genotype: Genotype | None = None,
) -> Figure:
    """Draw the weights of each kind of cell side by side, and below them those of macro choices.

    Args:
        weights: kind → rows, one per edge, each with one weight per operation. A kind with another
            number of rows or columns is drawn with numbered rows or columns.
        operations: names of the columns.
        edges: (predecessor, node) of each row: predecessors 0 and 1 are the inputs and 2 is node 0;
            nodes count from 0.
        title: a line above the maps.
        macro: the kinds that are macro choices, each with the names of its candidates.
        genotype: whose operations get a frame, such as the one that was read from these weights.

    Raises:
        ValueError: nothing to draw, a weight that is negative or not finite, or a genotype with an
            operation or an edge that is not there.
    """
    if not weights:
        raise ValueError("weights: expected at least one kind of cell, got none")
    macro = macro or {}
    maps = {
        kind: _map(kind, rows, macro.get(kind, operations), edges, kind in macro)
        for kind, rows in weights.items()
    }
    if genotype is not None:
        for kind, nodes in chosen_entries(genotype, operations, edges).items():
            if kind in maps:
                entries = [entry for pairs in nodes for entry in pairs]
                maps[kind] = replace(maps[kind], chosen=entries)
        for kind, names in macro.items():
            if kind in maps and str(genotype.choice(kind)) in names:
                at = list(names).index(str(genotype.choice(kind)))
                maps[kind] = replace(maps[kind], chosen=[(0, at)])
    bands = [
        band
        for band in (
            [m for kind, m in maps.items() if kind not in macro],
            [m for kind, m in maps.items() if kind in macro],
        )
        if band
    ]
    top_value = max(float(np.nanmax(m.table)) for m in maps.values()) or 1.0

    fixed = max(sum(m.left for m in band) for band in bands) + 3 * PAD + BAR_WIDTH + 0.35
    count = max(sum(m.table.shape[1] for m in band) for band in bands)
    square = min(SQUARE_WIDTH, max(LEAST_SQUARE_WIDTH, (TARGET_WIDTH - fixed) / count))
    tall = [max(m.height for m in band) + max(m.below for m in band) + ABOVE for band in bands]
    wide = max(sum(m.left + m.room(square) for m in band) for band in bands)
    width = wide + 3 * PAD + BAR_WIDTH + 0.35
    heading = 0.24 if title else 0.0
    height = heading + sum(tall)
    written = square > text_width(".00", NUMBER_TEXT) + 0.05

    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width, height))
        if title:
            figure.text(
                0.5, 1 - 0.06 / height, title, ha="center", va="top", size=9.0, weight="bold"
            )
        top = height - heading
        for band, room in zip(bands, tall, strict=True):
            x = 0.0
            for drawn in band:
                x += drawn.left
                across = drawn.table.shape[1] * square
                bottom = top - ABOVE - drawn.height
                axes = figure.add_axes(
                    (x / width, bottom / height, across / width, drawn.height / height)
                )
                mesh = _paint(axes, drawn, top_value, written)
                x += drawn.room(square)
            top -= room
        tallest = max(m.height for m in bands[0])
        bar_height = min(tallest, 1.6)
        bar = figure.add_axes(
            (
                (wide + 2 * PAD) / width,
                (height - heading - ABOVE - bar_height) / height,
                BAR_WIDTH / width,
                bar_height / height,
            )
        )
        figure.colorbar(mesh, cax=bar).outline.set_visible(False)
        bar.tick_params(length=2, pad=2, labelsize=6.0)
        bar.locator_params(axis="y", nbins=4 if bar_height > 0.5 else 1)
    return figure


def _map(
    kind: str,
    rows: Sequence[Sequence[float]],
    columns: Sequence[str],
    edges: Sequence[tuple[int, int]],
    macro: bool,
) -> _Map:
    table = _table(kind, rows)
    height, width = table.shape
    names = [edge_label(*edge) for edge in edges] if height == len(edges) else None
    if macro:  # one row, which the title names
        names = [""] * height
    return _Map(
        kind,
        table,
        rows=names or [str(i) for i in range(height)],
        columns=columns if len(columns) == width else [f"choice {i}" for i in range(width)],
        chosen=(),
    )


def _paint(axes: Axes, drawn: _Map, top_value: float, written: bool) -> QuadMesh:
    table = drawn.table
    height, width = table.shape
    mesh = axes.pcolormesh(  # squares that stay vectors, edges painted so that no seam shows
        np.arange(width + 1) - 0.5,
        np.arange(height + 1) - 0.5,
        table,
        cmap=COLOUR_MAP,
        vmin=0.0,
        vmax=top_value,
        edgecolors="face",
        linewidth=0.2,
    )
    axes.invert_yaxis()
    axes.set_title(drawn.title, weight="bold", pad=4.0, loc="left")
    axes.set_xticks(range(table.shape[1]), drawn.columns, rotation=90, size=NAME_TEXT)
    axes.set_yticks(range(table.shape[0]), drawn.rows, size=NAME_TEXT)
    axes.tick_params(length=0, pad=2.5)
    axes.spines[:].set_visible(False)
    if written:
        for (row, column), weight in np.ndenumerate(table):
            if not math.isnan(weight):
                axes.text(
                    column,
                    row,
                    _short(weight),
                    ha="center",
                    va="center",
                    size=NUMBER_TEXT,
                    color="white" if weight < DARK * top_value else "black",
                )
    for row, column in drawn.chosen:
        frame = Rectangle((column - 0.45, row - 0.42), 0.9, 0.84, fill=False, linewidth=1.2)
        frame.set_edgecolor("white" if table[row, column] < DARK * top_value else "black")
        axes.add_patch(frame)
    return mesh


def _table(kind: str, rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Rows as one array, short ones filled with NaN (drawn blank)."""
    width = max((len(row) for row in rows), default=0)
    if width == 0:
        raise ValueError(f"weights[{kind!r}]: expected at least one weight, got none")
    table = np.full((len(rows), width), np.nan)
    for i, row in enumerate(rows):
        for j, weight in enumerate(row):
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(
                    f"weights[{kind!r}], row {i}: expected finite weights from 0, got {weight}"
                )
            table[i, j] = weight
    return table


def _short(weight: float) -> str:
    """Two decimals in the least room: .07, 1.0.

    >>> _short(0.07), _short(0.999)
    ('.07', '1.0')
    """
    text = f"{weight:.2f}"
    return text[1:] if text.startswith("0") else f"{weight:.1f}"
