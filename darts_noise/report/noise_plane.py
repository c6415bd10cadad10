"""A plot of networks by test accuracy and noise accuracy: the gain and the cost of a penalty.

    figure = draw_noise_plane([NetworkPoint("λ = 0", [(0.99, 1.0), (0.98, 0.99)], curve="search"),
                               NetworkPoint("λ = 1", [(0.97, 0.31), (0.98, 0.35)], curve="search"),
                               NetworkPoint("resnet18", [(0.99, 1.0)])], chance=0.112)
    save_figure(figure, "plane")

Down and to the right is better. A network is a star: one dot per seed, connected to their mean.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from darts_noise.report.style import OKABE_ITO, RC, axes_at, text_width, write_title

CURVE_COLOURS = tuple(
    OKABE_ITO[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky")
)
CURVE_MARKERS = "osD^vPX"  # one more than colours, so that pairs repeat late
CONTROL_COLOUR, CHANCE_COLOUR, JOIN_COLOUR = "#555555", "#555555", "#B4B4B4"
PLANE_WIDTH, PLANE_HEIGHT = 4.2, 3.4  # inches, of the axes
LABEL_TEXT, LABEL_HEIGHT = 7.0, 0.15  # points; inches from one label to the next
LEFT, BELOW, ABOVE, LEADER, PAD = 0.55, 0.45, 0.3, 0.35, 0.08  # inches around the axes
HEADING = "test and noise accuracy, mean ± deviation"

Pair = tuple[float, float]  # test accuracy, noise accuracy
Style = tuple[str, str]  # colour, marker


@dataclass(frozen=True)
class NetworkPoint:
    """One network, or one setting of a search, with the accuracies of each of its seeds.

    Attributes:
        name: text beside the point.
        seeds: (test accuracy, noise accuracy) of each seed, in [0, 1]. NaN: not measured or
            diverged; such a seed is not drawn.
        curve: a line connects the means of all networks with the same curve, in the given order,
            such as the order of λ. None: no line, as for a control.
    """

    name: str
    seeds: Sequence[Pair]
    curve: str | None = None

    @property
    def measured(self) -> list[Pair]:
        """The seeds with both figures."""
        return [seed for seed in self.seeds if all(map(math.isfinite, seed))]

    @property
    def mean(self) -> Pair:
        """Mean over the measured seeds. There must be at least one."""
        test, noise = zip(*self.measured, strict=True)
        return statistics.fmean(test), statistics.fmean(noise)

    @property
    def deviation(self) -> Pair | None:
        """Standard deviation over the measured seeds (n − 1). None for fewer than two."""
        if len(self.measured) < 2:
            return None
        test, noise = zip(*self.measured, strict=True)
        return statistics.stdev(test), statistics.stdev(noise)

    @property
    def label(self) -> str:
        """The name with the figures: ``λ = 1: 98.27 ± 0.04, 33.1 ± 4.0 (n = 3)``, in per cent."""
        shown = [
            f"{100 * mean:.{digits}f}" + (f" ± {100 * spread:.{digits}f}" if self.deviation else "")
            for mean, spread, digits in zip(
                self.mean, self.deviation or self.mean, (2, 1), strict=True
            )
        ]
        return f"{self.name}: {', '.join(shown)} (n = {len(self.measured)})"


def draw_noise_plane(
    points: Sequence[NetworkPoint], chance: float | None = None, title: str | None = None
) -> Figure:
    """Draw noise accuracy over test accuracy, in per cent.

    Args:
        points: the networks. A network without a measured seed is named below the plot.
        chance: noise accuracy of the best constant answer, in [0, 1], drawn as a dotted line.
        title: a line above the plot.

    Raises:
        ValueError: there are no points, or an accuracy is outside [0, 1].
    """
    if not points:
        raise ValueError("points: expected at least one network, got none")
    for point in points:
        for seed in point.measured:
            if not all(0 <= value <= 1 for value in seed):
                raise ValueError(f"points[{point.name!r}]: expected 0 to 1, got {seed}")
    drawn = [point for point in points if point.measured]
    missing = [point.name for point in points if not point.measured]
    named = [*(p.label for p in drawn), *([] if chance is None else [_of_chance(chance)])]
    room = max(text_width(text, LABEL_TEXT) for text in [HEADING, *named])
    above = ABOVE + (0.22 if title else 0.0)
    below = BELOW + (0.16 if missing else 0.0)
    tall = max(PLANE_HEIGHT, LABEL_HEIGHT * len(named))
    width = LEFT + PLANE_WIDTH + LEADER + room + PAD
    height = below + tall + above
    of_curves = zip(cycle(CURVE_COLOURS), cycle(CURVE_MARKERS), strict=False)
    styles = [(CONTROL_COLOUR, "s") if p.curve is None else next(of_curves) for p in drawn]
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width, height))
        axes = axes_at(figure, LEFT, below, PLANE_WIDTH, tall)
        write_title(figure, title)
        if missing:
            names = f"not measured: {', '.join(missing)}"
            figure.text(PAD / width, 0.05 / height, names, size=LABEL_TEXT, color=CONTROL_COLOUR)
        axes.set_xlabel("test accuracy (%)")
        axes.set_ylabel("noise accuracy (%)")
        axes.set_ylim(-2.0, 102.0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        if chance is not None:
            axes.axhline(100 * chance, color=CHANCE_COLOUR, linestyle=":", linewidth=1.0, zorder=1)
        _join_means(axes, drawn)
        for point, style in zip(drawn, styles, strict=True):
            _draw_star(axes, point, style)
        axes.margins(x=0.06)
        axes.autoscale_view(scaley=False)
        _write_labels(axes, drawn, styles, LABEL_HEIGHT / tall, chance)
    return figure


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Return positions in [0, 1] near the wanted ones, in their order and at least `gap` apart.

    They leave [0, 1] only if they do not all fit into it.

    >>> spread([0.5, 0.5, 0.1], 0.1)
    [0.5, 0.6, 0.1]
    >>> spread([1.0, 0.95], 0.2)
    [1.0, 0.8]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [wanted[i] for i in order]
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    ceiling = 1.0
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    positions = dict(zip(order, placed, strict=True))
    return [positions[i] for i in range(len(wanted))]


def _percent(pair: Pair) -> Pair:
    return 100 * pair[0], 100 * pair[1]


def _of_chance(chance: float) -> str:
    return f"chance {100 * chance:.1f}%"


def _join_means(axes: Axes, points: Sequence[NetworkPoint]) -> None:
    for curve in dict.fromkeys(point.curve for point in points if point.curve is not None):
        test, noise = zip(*(_percent(p.mean) for p in points if p.curve == curve), strict=True)
        axes.plot(test, noise, color=JOIN_COLOUR, linewidth=1.2, zorder=1.5)


def _draw_star(axes: Axes, point: NetworkPoint, style: Style) -> None:
    colour, marker = style
    mean = _percent(point.mean)
    control = point.curve is None
    faint = 0.5 if control else 1.0  # the searches are the main subject
    for test, noise in map(_percent, point.measured):
        ray = (mean[0], test), (mean[1], noise)
        axes.plot(*ray, color=colour, linewidth=0.6, alpha=faint, zorder=2)
        axes.plot(test, noise, ".", color=colour, markersize=4, alpha=faint, zorder=3)
    axes.plot(
        *mean,
        marker,
        color="white" if control else colour,
        markeredgecolor=colour if control else "white",
        markeredgewidth=1.0 if control else 0.6,
        markersize=5.0 if control else 7.0,
        clip_on=False,
        zorder=5,
    )


def _write_labels(
    axes: Axes,
    points: Sequence[NetworkPoint],
    styles: Sequence[Style],
    gap: float,
    chance: float | None,
) -> None:
    """Write a column of labels to the right of the plot, each with a thin line to its point.

    The line of the best constant answer has its label among them, where no network is.
    """
    x = 1 + LEADER / PLANE_WIDTH
    top = 1 + 1.2 * gap
    axes.text(x, top, HEADING, transform=axes.transAxes, size=LABEL_TEXT, style="italic")
    low, high = axes.get_ylim()
    # If points have the same height, the right one is named higher, so that lines do not cross.
    heights = [
        (100 * noise - low) / (high - low) + 1e-6 * test for test, noise in (p.mean for p in points)
    ]
    labels: list[tuple[str, Pair, Any, str]] = [
        (point.label, _percent(point.mean), "data", colour)
        for point, (colour, _) in zip(points, styles, strict=True)
    ]
    if chance is not None:
        heights.append((100 * chance - low) / (high - low))
        end = axes.get_yaxis_transform()
        labels.append((_of_chance(chance), (1.0, 100 * chance), end, CHANCE_COLOUR))
    for (label, place, coordinates, colour), y in zip(labels, spread(heights, gap), strict=True):
        axes.annotate(
            label,
            place,
            (x, y),
            xycoords=coordinates,
            textcoords="axes fraction",
            size=LABEL_TEXT,
            color=colour,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.4,
                "alpha": 0.6,
                "shrinkA": 2.0,
                "shrinkB": 4.0,
                "relpos": (0.0, 0.5),
            },
        )
