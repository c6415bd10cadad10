"""Curves of a run, drawn from its `metrics.csv`: loss, accuracy, penalty, entropy, operation share.

A panel is drawn for what the file holds and left out otherwise. To plot another column, add a line
to `PANELS`; columns `alpha/entropy_<kind>` and `share/<kind>/<operation>` are found by their names.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
PANEL_WIDTH, PANEL_HEIGHT, PANELS_A_ROW = 2.6, 1.9, 3  # inches
AREA_COLOURS = [OKABE_ITO[c] for c in ("blue", "vermillion", "green", "purple", "orange", "sky")]
AREA_HATCHES = ("", "////", "....", "xxxx")  # one more each time that the colours run out


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
        styles = list(zip(AREA_COLOURS, ["-", "--", "-.", ":", "-", "--"], strict=True))
        lines["entropy of α (nats)"] = [
            (name, name.removeprefix(ENTROPY), *styles[i % len(styles)])
            for i, name in enumerate(entropies)
        ]
    shares: dict[str, dict[str, Series]] = {}
    for name, points in series.items():
        if name.startswith(SHARE) and name.count("/") >= 2:
            kind, operation = name.removeprefix(SHARE).split("/", 1)
            shares.setdefault(kind, {})[operation] = points

    count = len(lines) + len(shares)
    wide = max(1, min(PANELS_A_ROW, count))
    tall = max(1, -(-count // wide))
    with matplotlib.rc_context(RC):
        size = (PANEL_WIDTH * wide, PANEL_HEIGHT * tall + (0.3 if title else 0.0))
        figure = Figure(figsize=size, layout="constrained")
        if title:
            figure.suptitle(title, size=9.0, weight="bold")
        if not count:
            figure.text(0.5, 0.5, "no metrics yet", ha="center", va="center")
            return figure
        panels = iter(figure.subplots(tall, wide, squeeze=False).flat)
        epochs = [epoch for points in series.values() for epoch, _ in points]
        for name, columns in lines.items():
            axes = next(panels)
            _prepare(axes, name, epochs)
            _draw_lines(axes, columns, series)
            if name == "loss" and num_classes is not None:
                _draw_chance(axes, math.log(num_classes))
            if name == "accuracy":
                values = [
                    v for column, *_ in columns for _, v in series[column] if math.isfinite(v)
                ]
                whole = 100.0 if max(values, default=0.0) > 1.5 else 1.0  # per cent or fraction
                axes.set_ylim(-0.03 * whole, 1.03 * whole)
                if num_classes is not None:
                    _draw_chance(axes, whole / num_classes)
            if name == "penalty":
                axes.set_ylim(-0.03, 1.03)
            if len(columns) > 1 or (num_classes is not None and name in ("loss", "accuracy")):
                axes.legend(handlelength=2.2, labelspacing=0.2)
        order = list(shares.values())
        for i, (kind, operations) in enumerate(shares.items()):
            axes = next(panels)
            _prepare(axes, f"operation share: {kind}", epochs)
            _draw_areas(axes, operations)
            # Neighbours with the same operations in the same order need one legend between them.
            if i + 1 == len(order) or list(order[i + 1]) != list(operations):
                _explain_areas(axes)
        for axes in panels:
            axes.set_axis_off()
    return figure


def _prepare(axes: Axes, name: str, epochs: Sequence[float]) -> None:
    axes.set_title(name, weight="bold", loc="left")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    first, last = min(epochs), max(epochs)
    axes.set_xlim((first, last) if last > first else (first - 0.5, first + 0.5))


def _draw_lines(
    axes: Axes, columns: Sequence[tuple[str, str, str, str]], series: Mapping[str, Series]
) -> None:
    for column, name, colour, line in columns:
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
            markersize=4,
            linewidth=1.2,
            clip_on=marker is None,
        )


def _draw_chance(axes: Axes, value: float) -> None:
    axes.axhline(value, color="#555555", linestyle=":", linewidth=1.0, label="chance", zorder=1)


def _draw_areas(axes: Axes, operations: Mapping[str, Series]) -> None:
    """Stack the shares; an epoch that lacks an operation counts it as 0."""
    tables = {name: dict(points) for name, points in operations.items()}
    epochs = sorted({epoch for table in tables.values() for epoch in table})
    heights = [
        [value if math.isfinite(value := table.get(epoch, 0.0)) else 0.0 for epoch in epochs]
        for table in tables.values()
    ]
    if len(epochs) == 1:  # an area of no width would not be seen
        epochs, heights = [epochs[0] - 0.5, epochs[0] + 0.5], [row * 2 for row in heights]
    areas = axes.stackplot(epochs, heights, labels=list(tables), linewidth=0.4, edgecolor="white")
    for i, area in enumerate(areas):
        area.set_facecolor(AREA_COLOURS[i % len(AREA_COLOURS)])
        area.set_hatch(AREA_HATCHES[i // len(AREA_COLOURS) % len(AREA_HATCHES)])
    axes.set_ylim(0.0, max(map(sum, zip(*heights, strict=True))) or 1.0)


def _explain_areas(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(  # reversed: in the order of the stack
        handles[::-1],
        labels[::-1],
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        fontsize=6.0,
        handlelength=1.2,
        labelspacing=0.25,
    )
