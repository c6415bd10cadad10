"""Drawings of what a controller has learnt: its hidden states, and how accurate its cells are."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from darts_noise.report.curves import looks_of
from darts_noise.report.heatmap import COLOUR_MAP
from darts_noise.report.style import RC

MAP_SIZE, PANEL_SIZE = (3.2, 2.6), (3.3, 2.1)  # inches
Array = NDArray[np.float64]


def draw_states(states: Mapping[str, Array]) -> Figure:
    """Draw hidden states side by side, one row for each cell and one column for each unit.

    The common scale is symmetric around 0.

    Args:
        states: name of the controller → its states, (cells, hidden).
    """
    highest = max(float(np.abs(table).max()) for table in states.values()) or 1.0
    width, height = MAP_SIZE
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width * len(states) + 0.5, height), layout="constrained")
        panels = figure.subplots(1, len(states), sharey=True, squeeze=False)[0]
        for axes, (name, table) in zip(panels, states.items(), strict=True):
            picture = axes.imshow(
                table,
                cmap=COLOUR_MAP,
                vmin=-highest,
                vmax=highest,
                aspect="auto",
                interpolation="nearest",
            )
            axes.set_title(name, weight="bold", pad=4.0, loc="left")
            axes.set_xlabel("unit of the hidden state")
            axes.spines[:].set_visible(False)
            axes.tick_params(length=2)
        panels[0].set_ylabel("cell")
        bar = figure.colorbar(picture, ax=list(panels), shrink=0.7)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=2, labelsize=6.0)
    return figure


def draw_accuracies(accuracies: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the distribution functions of the accuracies of two controllers' cells."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=PANEL_SIZE, layout="constrained")
        axes = figure.subplots()
        for name, (colour, style) in looks_of(accuracies).items():
            axes.ecdf(accuracies[name], label=name, color=colour, linestyle=style, linewidth=1.2)
        axes.set_xlabel("validation accuracy")
        axes.set_ylabel("share of the draws")
        axes.legend(loc="upper left")
    return figure
