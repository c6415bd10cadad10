"""The curves of a run, drawn from its ``metrics.csv``: loss, accuracy, penalty, entropy, shares.

A panel is drawn if the file has figures for it. To plot another column, add a line to `LINES`.
`alpha/entropy_<kind>`, `share/<kind>/<candidate>` and `objectives/<name>` are found by their names.
The operations of a cell are stacked areas, the few candidates of a macro choice are lines.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from darts_noise.report.metrics import Series, read_metrics
from darts_noise.report.style import OKABE_ITO, RC, explain_operations, looks
from darts_noise.space.macro import MACRO

PANEL_WIDTH, PANEL_HEIGHT = 2.6, 2.1  # inches
MOST_IN_A_ROW = 4
LEGEND_SHARE = 0.45  # of a panel's width
MOST_BESIDE = 3  # names in a row of a legend
LEGEND_BELOW = 29.0  # points from the axes down to the legend, below the name of the axis
CHANCE_COLOUR = "#555555"
GUESS = {"loss": "uniform\nguess", "accuracy": "best\nconstant\nanswer"}
"""Title of a panel → name of its dotted line."""

Look = tuple[str, Any]  # colour; a name of a line style, or (offset, dashes)
Lines = dict[str, tuple[Series, Look]]  # by the name in the legend

SPLITS: dict[str, tuple[str, Look]] = {
    "train": ("train", (OKABE_ITO["blue"], "-")),
    "val": ("validation", (OKABE_ITO["green"], "--")),
    "noise": ("noise", (OKABE_ITO["vermillion"], "-.")),
}
LINES: dict[str, tuple[tuple[str, str, Look], ...]] = {
    "loss": tuple((f"{split}/loss", *line) for split, line in SPLITS.items()),
    "accuracy": tuple((f"{split}/accuracy", *line) for split, line in SPLITS.items()),
    "penalty": (("noise/penalty", "P(α)", (OKABE_ITO["vermillion"], "-")),),
    "objective": (
        ("objective/cell", "each cell", (OKABE_ITO["green"], "--")),
        ("objective/best", "best so far", (OKABE_ITO["blue"], "-")),
    ),
}
"""Title of a panel → column, name in the legend and look of each of its lines."""
COMPARED = {
    "val/accuracy": "validation accuracy",
    "noise/accuracy": "noise accuracy",
    "noise/penalty": "penalty",
    "train/loss": "training loss",
    "noise/loss": "noise loss",
    "alpha/entropy_normal": "entropy of α (nats): normal",
    "alpha/entropy_reduce": "entropy of α (nats): reduce",
}
"""Column of the comparison of runs → title of its panel."""
BEST = "objective/best"
"""A column of searches that count measured cells instead of epochs."""
ENTROPY, SHARE, OBJECTIVES = "alpha/entropy_", "share/", "objectives/"
ENTROPY_TITLE = "entropy of α (nats)"
OTHER_LOOKS: tuple[Look, ...] = (
    (OKABE_ITO["blue"], "-"),
    (OKABE_ITO["vermillion"], "--"),
    (OKABE_ITO["green"], "-."),
    (OKABE_ITO["purple"], ":"),
    (OKABE_ITO["black"], (0, (6.0, 1.2, 1.2, 1.2, 1.2, 1.2))),
)
"""Panels of lines with unknown names: one for each kind of row of α."""


@dataclass(frozen=True)
class Panel:
    """One panel of the page.

    Attributes:
        title: title of the panel. Empty: the panel is only a legend.
        draw: function that draws into empty axes.
        series: the lines by their names in the legend.
        axis: name of the horizontal axis.
    """

    title: str
    draw: Callable[[Axes], None]
    series: Mapping[str, Series] = field(default_factory=dict)
    axis: str = "epoch"


def draw_curves(
    metrics_csv: Path,
    num_classes: int | None = None,
    title: str | None = None,
    chance: float | None = None,
) -> Figure:
    """Draw the curves of a run as panels that fill the page.

    Args:
        metrics_csv: the file. Columns may be missing and cells empty.
        num_classes: C. A dotted line shows the loss of a uniform guess: log C.
        title: a line above the panels.
        chance: the accuracy of the best constant answer, in [0, 1], for another dotted line.
            Default: 1/C.

    Raises:
        ValueError: a cell is not a number, or `num_classes` is below 2.
    """
    if num_classes is not None and num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    panels = make_panels(read_metrics(Path(metrics_csv)), num_classes, chance)
    rows = row_lengths(len(panels))
    with matplotlib.rc_context(RC):
        size = (PANEL_WIDTH * max(rows), PANEL_HEIGHT * len(rows) + (0.3 if title else 0.0))
        figure = Figure(figsize=size, layout="constrained")
        if title:
            figure.suptitle(title, size=9.0, weight="bold")
        if not panels:
            figure.text(0.5, 0.5, "no metrics yet", ha="center", va="center")
            return figure
        epochs, waiting = epochs_of(panels), iter(panels)
        outer = figure.add_gridspec(len(rows), 1)
        for row, length in enumerate(rows):
            # Each row fills the page, for any number of panels.
            beside = [next(waiting) for _ in range(length)]
            widths = [1.0 if panel.title else LEGEND_SHARE for panel in beside]
            inner = outer[row].subgridspec(1, length, width_ratios=widths)
            for k, panel in enumerate(beside):
                draw_panel(figure.add_subplot(inner[0, k]), panel, epochs)
    return figure


def row_lengths(count: int) -> list[int]:
    """Return the number of panels in each row: as equal as possible, fuller rows first.

    >>> [row_lengths(count) for count in (0, 2, 5, 7, 10)]
    [[1], [2], [3, 2], [4, 3], [4, 3, 3]]
    """
    rows = max(1, -(-count // MOST_IN_A_ROW))
    least, more = divmod(count, rows)
    return [max(1, least + (row < more)) for row in range(rows)]


def make_panels(
    series: Mapping[str, Series], num_classes: int | None = None, chance: float | None = None
) -> list[Panel]:
    """Make the panels for the columns of a ``metrics.csv``, in the order of a page.

    `num_classes` and `chance` are those of `draw_curves`.
    """
    guess = {}
    if num_classes is not None:
        guess = {"loss": math.log(num_classes), "accuracy": chance or 1 / num_classes}
    panels: dict[str, Lines] = {
        title: {name: (series[column], look) for column, name, look in columns if column in series}
        for title, columns in LINES.items()
    }
    terms = [name.removeprefix(OBJECTIVES) for name in series if name.startswith(OBJECTIVES)]
    panels["further objectives"] = {
        name: (series[OBJECTIVES + name], look) for name, look in looks_of(terms).items()
    }
    kinds = [name.removeprefix(ENTROPY) for name in series if name.startswith(ENTROPY)]
    cells_first = sorted(kinds, key=lambda kind: kind in MACRO)
    panels[ENTROPY_TITLE] = {
        kind: (series[ENTROPY + kind], look) for kind, look in looks_of(cells_first).items()
    }
    shares: dict[str, dict[str, Series]] = {}
    for column, points in series.items():
        kind, _, candidate = column.removeprefix(SHARE).partition("/")
        if column.startswith(SHARE) and candidate:
            shares.setdefault(kind, {})[candidate] = points
    for kind in [kind for kind in shares if kind in MACRO]:
        of_kind = shares.pop(kind)
        panels[f"share: {kind}"] = {
            c.removesuffix(".0"): (of_kind[c], look) for c, look in looks_of(of_kind).items()
        }
    found = [_line_panel(t, lines, guess.get(t)) for t, lines in panels.items() if lines]
    # Kinds of cell with the same operations share one legend, which has its own panel.
    kinds = list(shares)
    explained = {k for k, then in pairwise(kinds) if set(shares[k]) != set(shares[then])}
    explained.update(kinds[-1:])
    for kind, operations in shares.items():
        areas = partial(draw_areas, shares=operations)
        found.append(Panel(f"operation share: {kind}", areas, operations))
        if kind in explained:
            found.append(Panel("", partial(explain_operations, look=looks(operations))))
    return [replace(panel, axis="cell") for panel in found] if BEST in series else found


def make_comparison(runs: Mapping[str, Mapping[str, Series]]) -> list[Panel]:
    """Make panels with a line for each run, whose looks are those of `looks_of`.

    Searches that count cells have panels of their own beside runs that count epochs.

    Args:
        runs: name → its series.
    """
    found, look = [], looks_of(runs)
    for column, title in COMPARED.items():
        lines = {n: (runs[n][column], look[n]) for n in runs if runs[n].get(column)}
        for axis in ("epoch", "cell"):
            own = {n: of for n, of in lines.items() if (BEST in runs[n]) == (axis == "cell")}
            if own:
                found.append(replace(_line_panel(title, own, legend=False), axis=axis))
    return found


def epochs_of(panels: Sequence[Panel]) -> tuple[float, float]:
    """Return the first and the last epoch of all panels."""
    epochs = [epoch for p in panels for points in p.series.values() for epoch, _ in points]
    return min(epochs, default=0.0), max(epochs, default=0.0)


def draw_panel(axes: Axes, panel: Panel, epochs: tuple[float, float]) -> None:
    """Draw a panel into the axes, for these first and last epochs."""
    if panel.title:
        axes.set_title(panel.title, weight="bold", loc="left")
        axes.set_xlabel(panel.axis)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        first, last = epochs
        axes.set_xlim((first, last) if last > first else (first - 0.5, first + 0.5))
    panel.draw(axes)


def draw_areas(axes: Axes, shares: Mapping[str, Series]) -> None:
    """Draw the shares of operations as stacked areas, in the order of `looks`. Missing: 0."""
    look = looks(shares)
    tables = {name: dict(shares[name]) for name in look}
    epochs = sorted({epoch for table in tables.values() for epoch in table})
    heights = [
        [value if math.isfinite(value := table.get(epoch, 0.0)) else 0.0 for epoch in epochs]
        for table in tables.values()
    ]
    if len(epochs) == 1:  # an area without width would be invisible
        epochs, heights = [epochs[0] - 0.5, epochs[0] + 0.5], [row * 2 for row in heights]
    areas = axes.stackplot(epochs, heights, labels=list(tables), linewidth=0.4, edgecolor="white")
    for area, (colour, hatch) in zip(areas, look.values(), strict=True):
        area.set_facecolor(colour)
        area.set_hatch(hatch)
    axes.set_ylim(0.0, max(map(sum, zip(*heights, strict=True))) or 1.0)


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """Return a different look for each name, as long as there are looks."""
    count = len(OTHER_LOOKS)
    return {
        name: (OTHER_LOOKS[i % count][0], OTHER_LOOKS[(i + i // count) % count][1])
        for i, name in enumerate(names)
    }


def _line_panel(title: str, lines: Lines, guess: float | None = None, legend: bool = True) -> Panel:
    draw = partial(_draw_lines, title=title, lines=lines, guess=guess, legend=legend)
    return Panel(title, draw, {name: points for name, (points, _) in lines.items()})


def _draw_lines(axes: Axes, title: str, lines: Lines, guess: float | None, legend: bool) -> None:
    for i, (name, (points, (colour, style))) in enumerate(lines.items()):
        epochs, values = zip(*points, strict=True)
        marker = "o" if len(values) == 1 else None  # a line of one point would be invisible
        axes.plot(
            epochs,
            [value if math.isfinite(value) else math.nan for value in values],
            linestyle=style,
            color=colour,
            label=name,
            marker=marker,
            markersize=max(3, 8 - 2.5 * i),  # equal points are drawn inside each other
            linewidth=1.2,
            clip_on=marker is None,
        )
    _scale(axes, title, [value for points, _ in lines.values() for _, value in points], guess)
    if len(lines) > 1 and legend:  # below the axes, where it covers no line
        figure = axes.get_figure(root=True)
        assert figure is not None
        below = ScaledTranslation(0.0, -LEGEND_BELOW / 72.0, figure.dpi_scale_trans)
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(0.0, 0.0),
            bbox_transform=axes.transAxes + below,
            borderaxespad=0.0,
            handlelength=2.2,
            handletextpad=0.4,
            labelspacing=0.2,
            ncols=min(len(lines), MOST_BESIDE),
            columnspacing=0.8,
            borderpad=0.0,
        )


def _scale(axes: Axes, title: str, values: Sequence[float], guess: float | None) -> None:
    """Set the range of the values by their kind, and draw the line of a guess."""
    highest = max(filter(math.isfinite, values), default=0.0)
    whole = 1.0
    if title.endswith("accuracy"):
        whole = 100.0 if highest > 1.5 else 1.0  # per cent or a fraction
        axes.set_ylim(-0.03 * whole, 1.03 * whole)
    elif title.startswith(ENTROPY_TITLE):  # 0: α has decided
        axes.set_ylim(0.0, 1.08 * max(axes.get_ylim()[1], 0.1))
    elif not title.endswith(
        ("loss", "objective", "objectives")
    ):  # a share, or a penalty; the logarithmic penalty exceeds 1
        axes.set_ylim(-0.03 * max(1.0, highest), 1.03 * max(1.0, highest))
    if guess is not None:
        # Its name is right of the axes, where no line is.
        axes.axhline(whole * guess, color=CHANCE_COLOUR, linestyle=":", linewidth=1.0, zorder=1)
        axes.annotate(
            GUESS[title],
            (1.0, whole * guess),
            xycoords=axes.get_yaxis_transform(),
            xytext=(2.0, 0.0),
            textcoords="offset points",
            ha="left",
            va="center",
            size=6.0,
            color=CHANCE_COLOUR,
        )
