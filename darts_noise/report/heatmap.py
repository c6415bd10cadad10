"""Heat maps of the relaxed architecture weights: one row per edge, one column per operation.

One map per kind of cell, side by side, on one common scale from 0. To change the size or when the
numbers are written into the squares, change the constants below.
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from darts_noise.report.style import RC, text_width

COLOUR_MAP = "cividis"  # perceptually uniform, and the same to colour-blind readers
TARGET_WIDTH = 7.0  # inches: a page's two columns; the squares shrink towards it down to the least
SQUARE_WIDTH, LEAST_SQUARE_WIDTH, SQUARE_HEIGHT = 0.36, 0.15, 0.19
NAME_TEXT, NUMBER_TEXT = 7.0, 5.5  # points
PAD, BAR_WIDTH = 0.08, 0.1


def edge_label(predecessor: int, node: int) -> str:
    """Name of an edge: predecessors count as in a genotype (0 and 1 are the inputs), nodes from 0.

    >>> edge_label(3, 3)
    '1→3'
    """
    if predecessor < 2:
        return f"$c_{{k-{2 - predecessor}}}$→{node}"
    return f"{predecessor - 2}→{node}"


def draw_alpha(
    weights: Mapping[str, Sequence[Sequence[float]]],
    operations: Sequence[str],
    edges: Sequence[tuple[int, int]],
    title: str | None = None,
) -> Figure:
    """Draw the weights of each kind of cell.

    Args:
        weights: kind → rows, one per edge, each with one weight per operation. A kind with another
            number of rows or columns (a macro choice) is drawn with numbered rows or columns.
        operations: names of the columns.
        edges: (predecessor, node) of each row: predecessors 0 and 1 are the inputs and 2 is node 0;
            nodes count from 0.
        title: a line above the maps.

    Raises:
        ValueError: nothing to draw, or a weight that is negative or not finite.
    """
    if not weights:
        raise ValueError("weights: expected at least one kind of cell, got none")
    tables = {kind: _table(kind, rows) for kind, rows in weights.items()}
    top_value = max(float(np.nanmax(table)) for table in tables.values()) or 1.0
    columns = {k: _names(operations, t.shape[1]) for k, t in tables.items()}
    rows = {
        k: [edge_label(*edge) for edge in edges]
        if t.shape[0] == len(edges)
        else [str(i) for i in range(t.shape[0])]
        for k, t in tables.items()
    }

    left = {k: PAD + 0.06 + max(text_width(r, NAME_TEXT) for r in rows[k]) for k in tables}
    fixed = sum(left.values()) + 3 * PAD + BAR_WIDTH + 0.35
    count = sum(t.shape[1] for t in tables.values())
    square = min(SQUARE_WIDTH, max(LEAST_SQUARE_WIDTH, (TARGET_WIDTH - fixed) / count))
    below = 0.12 + max(text_width(c, NAME_TEXT) for names in columns.values() for c in names)
    above = 0.24 + (0.24 if title else 0.0)
    tallest = max(t.shape[0] for t in tables.values()) * SQUARE_HEIGHT
    # A map as narrow as one or two squares still needs room for its own name.
    room = {k: max(t.shape[1] * square, text_width(k, 8.0) * 1.15) for k, t in tables.items()}
    width, height = fixed + sum(room.values()), above + tallest + below
    written = square > text_width(".00", NUMBER_TEXT) + 0.05

    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width, height))
        if title:
            figure.text(
                0.5, 1 - 0.06 / height, title, ha="center", va="top", size=9.0, weight="bold"
            )
        x = 0.0
        for kind, table in tables.items():
            x += left[kind]
            tall, wide = table.shape[0] * SQUARE_HEIGHT, table.shape[1] * square
            bottom = height - above - tall
            axes = figure.add_axes((x / width, bottom / height, wide / width, tall / height))
            image = axes.imshow(table, cmap=COLOUR_MAP, vmin=0.0, vmax=top_value, aspect="auto")
            axes.set_title(kind, weight="bold", pad=4.0, loc="left")
            axes.set_xticks(range(table.shape[1]), columns[kind], rotation=90, size=NAME_TEXT)
            axes.set_yticks(range(table.shape[0]), rows[kind], size=NAME_TEXT)
            axes.tick_params(length=0, pad=2.5)
            axes.spines[:].set_visible(False)
            if written:
                for (row, column), weight in np.ndenumerate(table):
                    if not math.isnan(weight):
                        light = weight < 0.6 * top_value
                        axes.text(
                            column,
                            row,
                            _short(weight),
                            ha="center",
                            va="center",
                            size=NUMBER_TEXT,
                            color="white" if light else "black",
                        )
            x += room[kind]
        bar_height = min(tallest, 1.6)
        bar = figure.add_axes(
            (
                (x + 2 * PAD) / width,
                (height - above - bar_height) / height,
                BAR_WIDTH / width,
                bar_height / height,
            )
        )
        figure.colorbar(image, cax=bar).outline.set_visible(False)
        bar.tick_params(length=2, pad=2, labelsize=6.0)
        bar.locator_params(axis="y", nbins=4 if bar_height > 0.5 else 1)
    return figure


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


def _names(operations: Sequence[str], count: int) -> list[str]:
    return list(operations) if len(operations) == count else [f"choice {i}" for i in range(count)]


def _short(weight: float) -> str:
    """Two decimals in the least room: .07, 1.0.

    >>> _short(0.07), _short(0.999)
    ('.07', '1.0')
    """
    text = f"{weight:.2f}"
    return text[1:] if text.startswith("0") else f"{weight:.1f}"
