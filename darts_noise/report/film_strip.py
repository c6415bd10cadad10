"""The film strip of a search: the operation that the genotype had on every edge, epoch by epoch.

A row is an edge of a kind of cell, or a macro choice. A bar spans the epochs with the same
operation, in the colour and hatch of the operation. A row is empty in the epochs in which the
genotype did not have that edge. The constants below are the sizes.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from darts_noise.report.alpha_history import AlphaHistory, edge_label
from darts_noise.report.style import (
    RC,
    axes_at,
    explain_operations,
    looks,
    text_width,
    write_title,
)
from darts_noise.space.macro import as_text

WIDTH, LEGEND_WIDTH, LABEL_WIDTH = 7.0, 1.35, 0.75  # inches: the two columns of a page
ROW_HEIGHT, ABOVE, BELOW = 0.16, 0.24, 0.36
LEAST_LEGEND_HEIGHT = 1.6
VALUE_TEXT, PAD = 6.0, 0.05  # points, inches
MACRO_COLOUR = "#E4E4E4"
CELLS = ("normal", "reduce")

Rows = dict[str, list[str | None]]  # name of a row → its values, one per epoch; None: no such edge


def draw_film(history: AlphaHistory, title: str | None = None) -> Figure:
    """Draw how the genotype changed over a search.

    Args:
        history: a history of at least one moment.
        title: a line above the drawing.

    Raises:
        ValueError: there is no moment.
    """
    if not history.moments:
        raise ValueError("history: expected at least one epoch, got none")
    bands = _bands(history)
    kept = {value for kind in CELLS for values in bands.get(kind, {}).values() for value in values}
    look = {name: of for name, of in looks(history.operations).items() if name in kept}
    epochs = [moment.epoch for moment in history.moments]
    tall = [ABOVE + ROW_HEIGHT * len(rows) for rows in bands.values()]
    top = max(sum(tall) + BELOW, LEAST_LEGEND_HEIGHT)
    across = WIDTH - LEGEND_WIDTH - LABEL_WIDTH
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, top + (0.24 if title else 0.0)))
        write_title(figure, title)
        beside = (WIDTH - LEGEND_WIDTH + 0.05, 0.0, LEGEND_WIDTH - 0.05, top - ABOVE)
        for (name, rows), room in zip(bands.items(), tall, strict=True):
            top -= room
            axes = axes_at(figure, LABEL_WIDTH, top, across, room - ABOVE)
            _paint(axes, rows, epochs, look if name in CELLS else {}, across)
            axes.set_title(name, weight="bold", loc="left", pad=3.0)
        axes.tick_params(axis="x", length=2.0, labelbottom=True)
        axes.set_xlabel(history.counted)
        explain_operations(axes_at(figure, *beside), look)
    return figure


def _bands(history: AlphaHistory) -> dict[str, Rows]:
    """Return the rows of each kind of cell and of the macro choices, in the order of α."""
    genotypes = [moment.genotype for moment in history.moments]
    bands: dict[str, Rows] = {}
    for kind in CELLS:
        kept = [
            {(p, node): name for node, pairs in enumerate(getattr(g, kind)) for name, p in pairs}
            for g in genotypes
        ]
        bands[kind] = {edge_label(*e): [cell.get(e) for cell in kept] for e in history.edges}
    bands["whole network"] = {n: [as_text(g.choice(n)) for g in genotypes] for n in history.macro}
    return {name: rows for name, rows in bands.items() if rows}


def _paint(
    axes: Axes,
    rows: Rows,
    epochs: Sequence[int],
    look: Mapping[str, tuple[str, str]],
    across: float,
) -> None:
    """Draw into axes of `across` inches. Choices that are not operations are written as text."""
    start, end = epochs[0] - 0.5, epochs[-1] + 0.5
    for at, values in enumerate(rows.values()):
        for value, group in groupby(zip(values, epochs, strict=True), lambda pair: pair[0]):
            if value is None:
                continue
            spanned = [epoch for _, epoch in group]
            first, last = spanned[0] - 0.5, spanned[-1] + 0.5
            colour, hatch = look.get(value, (MACRO_COLOUR, ""))
            bar = Rectangle((first, at - 0.42), last - first, 0.84, facecolor=colour, hatch=hatch)
            bar.set(edgecolor="white", linewidth=0.6)
            axes.add_patch(bar)
            room = across * (last - first) / (end - start)
            if value not in look and text_width(value, VALUE_TEXT) + PAD < room:
                middle = (first + last) / 2
                axes.text(middle, at, value, ha="center", va="center", size=VALUE_TEXT)
    axes.set_xlim(start, end)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.tick_params(length=0, pad=2.5, labelbottom=False)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.spines[:].set_visible(False)
