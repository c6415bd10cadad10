"""The panels that the curves of a run consist of: each a title and a function that draws it.

A panel is there for what the figures hold and left out otherwise. To plot another column, add a
line to `LINES`; columns `alpha/entropy_<kind>` and `share/<kind>/<candidate>` are found by their
names. The operations of a cell are stacked areas, the few candidates of a macro choice lines.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from darts_noise.report.metrics import Series
from darts_noise.report.share_areas import draw_areas, explain_areas, looks
from darts_noise.report.style import OKABE_ITO
from darts_noise.space.macro import MACRO

Line = Any  # a name or (offset, dashes); matplotlib types the names as literals
Column = tuple[str, str, str, Line]  # column, name in the legend, colour, line

TRAIN, VALIDATION, NOISE = (
    ("train", OKABE_ITO["blue"], "-"),
    ("validation", OKABE_ITO["green"], "--"),
    ("noise", OKABE_ITO["vermillion"], "-."),
)
LINES: dict[str, tuple[Column, ...]] = {
    "loss": (
        ("train/loss", *TRAIN),
        ("val/loss", *VALIDATION),
        ("noise/loss", *NOISE),
    ),
    "accuracy": (
        ("train/accuracy", *TRAIN),
        ("val/accuracy", *VALIDATION),
        ("noise/accuracy", *NOISE),
    ),
    "penalty": (("noise/penalty", "P(α)", OKABE_ITO["vermillion"], "-"),),
}
MOST_BESIDE = 4  # lines whose legend finds room beside them
CHANCE_COLOUR = "#555555"
COMPARED = {
    "val/accuracy": "validation accuracy",
    "noise/accuracy": "noise accuracy",
    "noise/penalty": "penalty",
    "train/loss": "training loss",
    "noise/loss": "noise loss",
    "alpha/entropy_normal": "entropy of α (nats): normal",
    "alpha/entropy_reduce": "entropy of α (nats): reduce",
}
"""What runs are compared by: column → title."""
ENTROPY, SHARE = "alpha/entropy_", "share/"
ENTROPY_TITLE = "entropy of α (nats)"
LOOKS = (
    (OKABE_ITO["blue"], "-"),
    (OKABE_ITO["vermillion"], "--"),
    (OKABE_ITO["green"], "-."),
    (OKABE_ITO["purple"], ":"),
    (OKABE_ITO["black"], (0, (6.0, 1.2, 1.2, 1.2, 1.2, 1.2))),
)
"""Of lines whose names are not known beforehand: one for each kind of row that α may have."""


@dataclass(frozen=True)
class Panel:
    """One of the small multiples.

    Attributes:
        title: what is drawn; empty for a legend that stands for itself.
        draw: fills empty axes.
        series: what is drawn, by its name in the legend.
    """

    title: str
    draw: Callable[[Axes], None]
    series: Mapping[str, Series] = field(default_factory=dict)


def make_panels(series: Mapping[str, Series], num_classes: int | None = None) -> list[Panel]:
    """The panels for these figures, in the order of a page.

    Args:
        series: column of ``metrics.csv`` → its points.
        num_classes: C; adds dotted lines where a guess lies: log C (loss) and 1/C (accuracy).
    """
    lines = {title: [c for c in columns if c[0] in series] for title, columns in LINES.items()}
    entropies = {name.removeprefix(ENTROPY): name for name in series if name.startswith(ENTROPY)}
    cells_first = sorted(entropies, key=lambda kind: kind in MACRO)
    lines[ENTROPY_TITLE] = _look({kind: entropies[kind] for kind in cells_first})
    shares: dict[str, dict[str, Series]] = {}
    for name in series:
        kind, _, candidate = name.removeprefix(SHARE).partition("/")
        if name.startswith(SHARE) and candidate:
            shares.setdefault(kind, {})[candidate] = series[name]
    macro = {kind: shares.pop(kind) for kind in list(shares) if kind in MACRO}
    for kind, candidates in macro.items():
        lines[f"share: {kind}"] = _look({c: f"{SHARE}{kind}/{c}" for c in candidates})
    found = [
        Panel(
            title,
            partial(_draw_lines, title=title, columns=columns, series=series, classes=num_classes),
            {name: series[column] for column, name, *_ in columns},
        )
        for title, columns in lines.items()
        if columns
    ]
    # Kinds of cell with the same operations need one legend between them; it has a panel.
    kinds = list(shares)
    explained = {k for k, then in pairwise(kinds) if set(shares[k]) != set(shares[then])}
    explained.update(kinds[-1:])
    for kind, operations in shares.items():
        title = f"operation share: {kind}"
        areas = partial(draw_areas, shares=operations)
        found.append(Panel(title, areas, operations))
        if kind in explained:
            found.append(Panel("", partial(explain_areas, look=looks(operations))))
    return found


def make_comparison(runs: Mapping[str, Mapping[str, Series]]) -> list[Panel]:
    """Panels with a line for each run, and one with the legend for all of them.

    Args:
        runs: name → its series.
    """
    looks = _look({name: name for name in runs})
    found = []
    for column, title in COMPARED.items():
        having = {name: series[column] for name, series in runs.items() if series.get(column)}
        columns = [look for look in looks if look[0] in having]
        if columns:
            lines = partial(_draw_lines, title=title, columns=columns, series=having, legend=False)
            found.append(Panel(title, lines, having))
    if found:
        found.append(Panel("", partial(_explain_lines, columns=looks)))
    return found


def draw_panel(axes: Axes, panel: Panel, epochs: tuple[float, float]) -> None:
    """Fills the axes with a panel that shows these epochs, from the first to the last."""
    if panel.title:
        axes.set_title(panel.title, weight="bold", loc="left")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        first, last = epochs
        axes.set_xlim((first, last) if last > first else (first - 0.5, first + 0.5))
    panel.draw(axes)


def epochs_of(panels: Sequence[Panel]) -> tuple[float, float]:
    """The first and the last epoch that any of the panels shows."""
    epochs = [epoch for p in panels for points in p.series.values() for epoch, _ in points]
    return min(epochs, default=0.0), max(epochs, default=0.0)


def _look(columns: Mapping[str, str]) -> list[Column]:
    """Name in the legend → column, each with a look of its own as long as there are any."""
    count = len(LOOKS)
    return [
        (column, name, LOOKS[i % count][0], LOOKS[(i + i // count) % count][1])
        for i, (name, column) in enumerate(columns.items())
    ]


def _draw_lines(
    axes: Axes,
    title: str,
    columns: Sequence[Column],
    series: Mapping[str, Series],
    classes: int | None = None,
    legend: bool = True,
) -> None:
    for i, (column, name, colour, line) in enumerate(columns):
        epochs, values = zip(*series[column], strict=True)
        marker = "o" if len(values) == 1 else None  # a line of one point would not be seen
        axes.plot(
            epochs,
            [value if math.isfinite(value) else math.nan for value in values],
            linestyle=line,
            color=colour,
            label=name,
            marker=marker,
            markersize=max(3, 8 - 2.5 * i),  # equal points stand one inside the other
            linewidth=1.2,
            clip_on=marker is None,
        )
    _scale(axes, title, [v for column, *_ in columns for _, v in series[column]], classes)
    if len(columns) > MOST_BESIDE and legend:  # the legend needs room above the lines
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.5 * (high - low))
    if len(columns) > 1 and legend:
        box: dict[str, Any] = {
            "frameon": True,
            "framealpha": 0.9,
            "edgecolor": "none",
            "borderpad": 0.2,
        }
        names = 2 if len(columns) > MOST_BESIDE else 1
        axes.legend(handlelength=2.6, labelspacing=0.2, ncols=names, columnspacing=1.0, **box)


def _explain_lines(axes: Axes, columns: Sequence[Column]) -> None:
    """Fills an empty panel with the legend."""
    axes.set_axis_off()
    handles = [
        Line2D([], [], color=colour, linestyle=line, linewidth=1.2, label=name)
        for _, name, colour, line in columns
    ]
    axes.legend(handles=handles, loc="center left", handlelength=2.6)


def _scale(axes: Axes, title: str, values: Sequence[float], classes: int | None) -> None:
    """The range of the values, by what they are, and the line of a guess."""
    highest = max(filter(math.isfinite, values), default=0.0)
    chance = None
    if title.endswith("loss"):
        chance = None if classes is None else math.log(classes)
    elif title.endswith("accuracy"):
        whole = 100.0 if highest > 1.5 else 1.0  # per cent or a fraction
        axes.set_ylim(-0.03 * whole, 1.03 * whole)
        chance = None if classes is None else whole / classes
    elif title.startswith(
        ENTROPY_TITLE
    ):  # from 0, an α that has decided; else rounding fills the panel
        axes.set_ylim(0.0, 1.08 * max(axes.get_ylim()[1], 0.1))
    else:  # a share; or a penalty, whose logarithmic form goes beyond 1
        axes.set_ylim(-0.03 * max(1.0, highest), 1.03 * max(1.0, highest))
    if chance is not None:
        _draw_chance(axes, chance)


def _draw_chance(axes: Axes, value: float) -> None:
    """The line of a guess, named at its end, where no legend need stand over it."""
    axes.axhline(value, color=CHANCE_COLOUR, linestyle=":", linewidth=1.0, zorder=1)
    axes.annotate(
        "chance",
        (1.0, value),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0.0, 1.0),
        textcoords="offset points",
        ha="right",
        va="bottom",
        size=6.5,
        color=CHANCE_COLOUR,
        bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.3},
    )
