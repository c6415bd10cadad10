"""A plot of networks by two figures, with the Pareto front: the networks that none is better than.

points = {"λ = 0": [(0.99, 9e5)], "few_macs": [(0.98, 2e5), (0.97, 3e5)]}
figure = draw_front(points, ("test_accuracy", "multiply_adds"))
save_figure(figure, "front")
"""

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

from darts_noise.report.noise_plane import NetworkPoint, Pair
from darts_noise.report.style import OKABE_ITO, RC

GROWING = ("test_accuracy",)
"""Figures of which more is better. Of all others, less is better."""
SIZE = (5.2, 3.6)  # inches


def mean_points(points: Mapping[str, Sequence[Pair]]) -> dict[str, Pair]:
    """Return the mean over the seeds with both figures. Networks without such a seed are left out.

    >>> mean_points({"a": [(0.5, 2.0), (1.0, 4.0)], "b": [(float("nan"), 1.0)]})
    {'a': (0.75, 3.0)}
    """
    found = (NetworkPoint(name, seeds) for name, seeds in points.items())
    return {point.name: point.mean for point in found if point.measured}


def pareto(means: Mapping[str, Pair], figures: tuple[str, str]) -> list[str]:
    """Return the networks of the front, in the order of the first figure.

    A network is on the front if no other is at least as good in both figures and better in one.

    >>> pareto({"a": (0.9, 5), "b": (0.8, 2), "c": (0.7, 2)}, ("test_accuracy", "parameters"))
    ['b', 'a']
    """
    signs = [-1 if figure in GROWING else 1 for figure in figures]
    costs = {n: [s * v for s, v in zip(signs, pair, strict=True)] for n, pair in means.items()}
    front = [
        name
        for name, own in costs.items()
        if not any(
            other != own and all(o <= c for o, c in zip(other, own, strict=True))
            for other in costs.values()
        )
    ]
    return sorted(front, key=means.__getitem__)


def draw_front(
    points: Mapping[str, Sequence[Pair]], figures: tuple[str, str], title: str | None = None
) -> Figure:
    """Draw the second figure over the first: a dot for each seed, and the mean of each network.

    A line connects the networks of the front.

    Args:
        points: network → both figures of each seed. A seed with NaN is not drawn.
        figures: the names of the figures.
        title: a line above the plot.
    """
    means = mean_points(points)
    front = pareto(means, figures)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        axes.set_xlabel(figures[0].replace("_", " "))
        axes.set_ylabel(figures[1].replace("_", " "))
        if title:
            axes.set_title(title, weight="bold", loc="left")
        blue, grey = OKABE_ITO["blue"], "#777777"
        if front:
            axes.plot(*zip(*map(means.__getitem__, front), strict=True), color=blue, linewidth=1.0)
        for name, mean in means.items():
            colour = blue if name in front else grey
            for seed in points[name]:
                axes.plot(*seed, ".", color=colour, markersize=3)
            axes.plot(*mean, "o", color=colour if name in front else "white", mec=colour, ms=5)
            axes.annotate(name, mean, (4, 4), textcoords="offset points", size=6.5, color=colour)
        axes.margins(0.12)
    return figure
