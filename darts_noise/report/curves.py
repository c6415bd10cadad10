"""Curves of a run, drawn from its `metrics.csv`: loss, accuracy, penalty, entropy, operation share.

A panel is drawn for what the file holds and left out otherwise. To plot another column, add a line
to `PANELS`; columns `alpha/entropy_<kind>` and `share/<kind>/<operation>` are found by their names.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from darts_noise.report.share_areas import draw_areas, explain_areas
from darts_noise.report.style import OKABE_ITO, RC, save_figure

__all__ = ["draw_curves", "read_metrics", "save_figure"]

Series = list[tuple[float, float]]  # (epoch, value), epochs ascending

# title → columns: (column, name in the legend, colour, line)
PANELS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "loss": (
        ("train/loss", "train", OKABE_ITO["blue"], "-"),
        ("val/loss", "validation", OKABE_ITO["green"], "--"),
        ("noise/loss", "noise", OKABE_ITO["vermillion"], "-."),
    ),
    "accuracy": (
        ("train/accuracy", "train", OKABE_ITO["blue"], "-"),
        ("val/accuracy", "validation", OKABE_ITO["green"], "--"),
        ("noise/accuracy", "noise", OKABE_ITO["vermillion"], "-."),
    ),
    "penalty": (("noise/penalty", "P(α)", OKABE_ITO["vermillion"], "-"),),
}
ENTROPY, SHARE = "alpha/entropy_", "share/"
ENTROPY_PANEL = "entropy of α (nats)"
LINES = ("-", "--", "-.", ":")
PANEL_WIDTH, PANEL_HEIGHT = 2.6, 1.9  # inches
ENTROPY_LINES = tuple(
    zip((OKABE_ITO[c] for c in ("blue", "vermillion", "green", "purple")), LINES, strict=True)
)


def read_metrics(metrics_csv: Path) -> dict[str, Series]:
    """Column → its (epoch, value) pairs; empty cells are left out, the last row of an epoch wins.

    Without a column `epoch` (or where its cell is empty) the row's number stands for it.

    Raises:
        ValueError: a cell that is not a number.
    """
    columns: dict[str, dict[float, float]] = {}
    with Path(metrics_csv).open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file)):
            values: dict[str, float] = {}
            for name, cell in row.items():
                # A cut-off line gives None, surplus cells stand under the name None.
                if not isinstance(name, str) or not isinstance(cell, str) or not cell.strip():
                    continue
                try:
                    values[name] = float(cell)
                except ValueError:
                    raise ValueError(
                        f"{metrics_csv}, row {number + 1}, column {name!r}: "
                        f"expected a number, got {cell!r}"
                    ) from None
            epoch = values.pop("epoch", float(number))
            for name, value in values.items():
                columns.setdefault(name, {})[epoch] = value
    return {name: sorted(points.items()) for name, points in columns.items()}


def draw_curves(
    metrics_csv: Path, num_classes: int | None = None, title: str | None = None
) -> Figure:
    """Draw a run's curves as small multiples, one row of the file per epoch.

    Args:
        metrics_csv: the file; any column may be missing and any cell empty.
        num_classes: C; adds dotted lines where a guess lies: log C (loss) and 1/C (accuracy).
        title: a line above the panels.

    Raises:
        ValueError: a cell that is not a number, or `num_classes` below 2.
    """
    if num_classes is not None and num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    series = read_metrics(Path(metrics_csv))
    lines = {
        name: kept
        for name, columns in PANELS.items()
        if (kept := [column for column in columns if column[0] in series])
    }
    entropies = [name for name in series if name.startswith(ENTROPY)]
    if entropies:
        lines[ENTROPY_PANEL] = [
            (name, name.removeprefix(ENTROPY), *ENTROPY_LINES[i % len(ENTROPY_LINES)])
            for i, name in enumerate(entropies)
        ]
    shares: dict[str, dict[str, Series]] = {}
    for name, points in series.items():
        if name.startswith(SHARE) and name.count("/") >= 2:
            kind, operation = name.removeprefix(SHARE).split("/", 1)
            shares.setdefault(kind, {})[operation] = points

    # Kinds of cell with the same operations need one legend between them; it has a panel.
    kinds = list(shares)
    explained = {k for k, then in pairwise(kinds) if set(shares[k]) != set(shares[then])}
    explained.update(kinds[-1:])
    count = len(lines) + len(shares) + len(explained)
    tall, wide = _grid(count)
    with matplotlib.rc_context(RC):
        size = (PANEL_WIDTH * wide, PANEL_HEIGHT * tall + (0.3 if title else 0.0))
        figure = Figure(figsize=size, layout="constrained")
        if title:
            figure.suptitle(title, size=9.0, weight="bold")
        if not count:
            figure.text(0.5, 0.5, "no metrics yet", ha="center", va="center")
            return figure
        panels = iter(figure.subplots(tall, wide, squeeze=False).flat)
        drawn = [series[column] for columns in lines.values() for column, *_ in columns]
        drawn += [points for operations in shares.values() for points in operations.values()]
        epochs = [epoch for points in drawn for epoch, _ in points]
        for name, columns in lines.items():
            axes = next(panels)
            _prepare(axes, name, epochs)
            _draw_lines(axes, columns, series)
            if name == "loss" and num_classes is not None:
                _draw_chance(axes, math.log(num_classes))
            values = [v for column, *_ in columns for _, v in series[column] if math.isfinite(v)]
            if name == "accuracy":
                whole = 100.0 if max(values, default=0.0) > 1.5 else 1.0  # per cent or fraction
                axes.set_ylim(-0.03 * whole, 1.03 * whole)
                if num_classes is not None:
                    _draw_chance(axes, whole / num_classes)
            if name == "penalty":  # the logarithmic form goes beyond 1
                highest = max([1.0, *values])
                axes.set_ylim(-0.03 * highest, 1.03 * highest)
            if (
                name == ENTROPY_PANEL
            ):  # from 0, an α that has decided; else rounding fills the panel
                axes.set_ylim(0.0, 1.08 * max(axes.get_ylim()[1], 0.1))
            if len(columns) > 1 or (num_classes is not None and name in ("loss", "accuracy")):
                axes.legend(handlelength=2.2, labelspacing=0.2)
        for kind, operations in shares.items():
            axes = next(panels)
            _prepare(axes, f"operation share: {kind}", epochs)
            draw_areas(axes, operations)
            if kind in explained:
                explain_areas(next(panels), operations)
        for axes in panels:
            axes.set_axis_off()
    return figure


def _grid(count: int) -> tuple[int, int]:
    """Rows and columns for so many panels: up to three or four a row, whichever leaves less empty.

    >>> [_grid(n) for n in (0, 2, 4, 5, 6, 7, 9)]
    [(1, 1), (1, 2), (1, 4), (2, 3), (2, 3), (2, 4), (3, 3)]
    """
    wide = min((3, 4), key=lambda w: (-count % w, w)) if count > 3 else max(1, count)
    return max(1, -(-count // wide)), wide


def _prepare(axes: Axes, name: str, epochs: Sequence[float]) -> None:
    axes.set_title(name, weight="bold", loc="left")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    first, last = min(epochs), max(epochs)
    axes.set_xlim((first, last) if last > first else (first - 0.5, first + 0.5))


def _draw_lines(
    axes: Axes, columns: Sequence[tuple[str, str, str, str]], series: Mapping[str, Series]
) -> None:
    for i, (column, name, colour, line) in enumerate(columns):
        epochs, values = zip(*series[column], strict=True)
        marker = "o" if len(values) == 1 else None  # a line of one point would not be seen
        shown = [value if math.isfinite(value) else math.nan for value in values]
        axes.plot(
            epochs,
            shown,
            line,
            color=colour,
            label=name,
            marker=marker,
            markersize=max(3, 8 - 2.5 * i),  # equal points stand one inside the other
            linewidth=1.2,
            clip_on=marker is None,
        )


def _draw_chance(axes: Axes, value: float) -> None:
    axes.axhline(value, color="#555555", linestyle=":", linewidth=1.0, label="chance", zorder=1)
