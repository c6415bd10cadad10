"""The film strip of a search: which operation every edge would have kept, epoch by epoch.

A row is an edge of a kind of cell, or a macro choice; a bar spans the epochs in which the genotype
had the same there, in the colour and hatch of its operation. Where a row is empty, the genotype
did without that edge. To change the sizes, change the constants below.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from darts_noise.report.alpha_history import AlphaHistory, Moment
from darts_noise.report.heatmap import edge_label
from darts_noise.report.share_areas import explain_areas, looks
from darts_noise.report.style import RC, text_width

WIDTH, LEGEND_WIDTH, LABEL_WIDTH = 7.0, 1.35, 0.75  # inches: of a page's two columns
ROW_HEIGHT, ABOVE, BELOW = 0.16, 0.24, 0.36
LEAST_LEGEND_HEIGHT = 1.6
VALUE_TEXT, PAD = 6.0, 0.05  # points, inches
MACRO_COLOUR = "#E4E4E4"
CELLS = ("normal", "reduce")


@dataclass(frozen=True)
class _Row:
    name: str
    values: Sequence[str | None]  # one per moment; None where there is no such edge


def draw_film(history: AlphaHistory, title: str | None = None) -> Figure:
    """Draw how the genotype changed over a search.

    Args:
        history: with a moment at least.
        title: a line above.

    Raises:
        ValueError: there is no moment.
    """
    if not history.moments:
        raise ValueError("history: expected at least one epoch, got none")
    bands = {name: rows for name, rows in _bands(history) if rows}
    kept = {value for kind in CELLS for row in bands.get(kind, ()) for value in row.values}
    look = {name: of for name, of in looks(history.operations).items() if name in kept}
    tall = [ABOVE + ROW_HEIGHT * len(rows) for rows in bands.values()]
    heading = 0.24 if title else 0.0
    height = heading + max(sum(tall) + BELOW, LEAST_LEGEND_HEIGHT)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, height))
        if title:
            figure.text(
                0.5, 1 - 0.06 / height, title, ha="center", va="top", size=9.0, weight="bold"
            )
        top = height - heading
        for (name, rows), room in zip(bands.items(), tall, strict=True):
            top -= room
            across = WIDTH - LEGEND_WIDTH - LABEL_WIDTH
            box = (LABEL_WIDTH / WIDTH, top / height, across / WIDTH, (room - ABOVE) / height)
            axes = figure.add_axes(box)
            _paint(axes, rows, history.moments, look if name in CELLS else {}, across)
            axes.set_title(name, weight="bold", loc="left", pad=3.0)
        axes.tick_params(axis="x", length=2.0, labelbottom=True)
        axes.set_xlabel("epoch")
        legend_height = height - heading - ABOVE
        left = WIDTH - LEGEND_WIDTH + 0.05
        legend = (left / WIDTH, 0.0, (LEGEND_WIDTH - 0.05) / WIDTH, legend_height / height)
        explain_areas(figure.add_axes(legend), look)
    return figure


def _bands(history: AlphaHistory) -> Iterator[tuple[str, list[_Row]]]:
    """Rows of each kind of cell, and of the macro choices, in the order of α."""
    for kind in CELLS:
        found = [getattr(moment.genotype, kind) for moment in history.moments]
        rows = []
        for predecessor, node in history.edges:
            values = [
                next((o for o, p in cell[node] if p == predecessor), None)
                if node < len(cell)
                else None
                for cell in found
            ]
            rows.append(_Row(edge_label(predecessor, node), values))
        yield kind, rows
    yield (
        "whole network",
        [
            _Row(name, [str(moment.genotype.choice(name)) for moment in history.moments])
            for name in history.macro
        ],
    )


def _paint(
    axes: Axes,
    rows: Sequence[_Row],
    moments: Sequence[Moment],
    look: Mapping[str, tuple[str, str]],
    across: float,
) -> None:
    """Fills axes that are `across` inches wide; what is no operation is written into its bar."""
    epochs = moments[-1].epoch - moments[0].epoch + 1
    for at, row in enumerate(rows):
        start = 0
        for value, group in groupby(row.values):
            stop = start + len(list(group))
            first, last = moments[start].epoch - 0.5, moments[stop - 1].epoch + 0.5
            start = stop
            if value is None:
                continue
            colour, hatch = look.get(value, (MACRO_COLOUR, ""))
            bar = Rectangle((first, at - 0.42), last - first, 0.84, facecolor=colour, hatch=hatch)
            bar.set(edgecolor="white", linewidth=0.6)
            axes.add_patch(bar)
            room = across * (last - first) / epochs
            if value not in look and text_width(value, VALUE_TEXT) + PAD < room:
                middle = (first + last) / 2
                axes.text(middle, at, value, ha="center", va="center", size=VALUE_TEXT)
    axes.set_xlim(moments[0].epoch - 0.5, moments[-1].epoch + 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.tick_params(length=0, pad=2.5, labelbottom=False)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.spines[:].set_visible(False)
