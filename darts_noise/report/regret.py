"""A plot of regret over cost: how fast search strategies find good cells.

figure = draw_regret({"random": (costs, mean, low, high)})
save_figure(figure, "regret")
"""

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

from darts_noise.report.style import OKABE_ITO, RC, axes_at, write_title

LOOKS = (
    *((OKABE_ITO["blue"], "-"), (OKABE_ITO["vermillion"], "--"), (OKABE_ITO["green"], "-.")),
    *((OKABE_ITO["purple"], ":"), (OKABE_ITO["orange"], (0, (6, 2, 1, 2, 1, 2)))),
    (OKABE_ITO["sky"], (0, (8, 2))),
)
WIDTH, HEIGHT = 4.2, 2.8  # inches, of the axes

Values = Sequence[float]


def draw_regret(
    lines: Mapping[str, tuple[Values, Values, Values, Values]],
    title: str | None = None,
    unit: str = "gradient steps",
) -> Figure:
    """Draw the mean regret of each strategy over the cost, with its interval as an area.

    Both axes are logarithmic. A regret of 0 is below the plot.

    Args:
        lines: strategy → costs, means, lower and upper ends of the interval.
        title: a line above the plot.
        unit: unit of the costs.
    """
    if not lines:
        raise ValueError("lines: expected at least one strategy, got none")
    positive = [value for _, mean, _, _ in lines.values() for value in mean if value > 0]
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH + 0.8, HEIGHT + 0.8))
        axes = axes_at(figure, 0.6, 0.5, WIDTH, HEIGHT)
        write_title(figure, title)
        for number, (name, (costs, mean, low, high)) in enumerate(lines.items()):
            colour, dashes = LOOKS[number % len(LOOKS)]
            axes.plot(costs, mean, color=colour, linestyle=dashes, linewidth=1.4, label=name)
            axes.fill_between(costs, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.set_xscale("log")
        axes.set_ylim(bottom=min(positive, default=0.01) / 2)  # first: a log scale needs it
        axes.set_yscale("log", nonpositive="clip")
        axes.set_xlabel(f"cost ({unit})")
        axes.set_ylabel("regret: F of the best cell − F of the best of all")
        axes.legend()
    return figure
