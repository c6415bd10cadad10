"""A figure of a few lines with named axes, such as the curves of an examination."""

import math
from collections.abc import Collection, Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from darts_noise.report.curves import looks_of
from darts_noise.report.style import RC

SIZE = (5.6, 2.6)  # inches
MOST_TICKS = 8
"""Marked points get a tick each, unless there are more."""


def draw_lines(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    across: str,
    up: str,
    *,
    bounds: Collection[tuple[float, float]] = (),
    points: bool = False,
    log_across: bool = False,
    log_up: bool = False,
    accuracy: bool = False,
) -> Figure:
    """Draw lines by name. A value that is not finite leaves a gap.

    Args:
        lines: name → its points.
        across: name of the horizontal axis.
        up: name of the vertical axis.
        bounds: points of the lines that are only bounds. They get a cross.
        points: mark each point.
        log_across: a logarithmic horizontal axis.
        log_up: a logarithmic vertical axis.
        accuracy: the values are from 0 to 1 and shown in per cent.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        for name, (colour, style) in looks_of(lines).items():
            series = lines[name]
            values = [value if math.isfinite(value) else math.nan for _, value in series]
            marker = "o" if points or len(series) == 1 else None
            axes.plot(
                [place for place, _ in series],
                values,
                linestyle=style,
                color=colour,
                label=name,
                marker=marker,
                markersize=3.5,
                linewidth=1.3,
            )
            crossed = [point for point in series if point in bounds]
            if crossed:
                axes.plot(*zip(*crossed, strict=True), "x", color=colour, markersize=7.0)
        places = sorted({place for series in lines.values() for place, _ in series})
        if log_across:
            axes.set_xscale("log")
        elif points and len(places) <= MOST_TICKS:
            axes.set_xticks(places)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6))
        if log_up:
            axes.set_yscale("log")
        if accuracy:
            axes.set_ylim(-0.03, 1.03)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        if len(lines) > 1:
            figure.legend(loc="outside right upper", handlelength=2.6)
    return figure
