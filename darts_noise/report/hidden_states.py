"""Heat maps of a controller's hidden states: one row per cell, one column per unit."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from darts_noise.report.style import RC
from darts_noise.search.learnt import Array

COLOUR_MAP = "cividis"  # as in the heat map of α
PANEL_SIZE = (3.2, 2.6)  # inches


def draw_states(states: Mapping[str, Array]) -> Figure:
    """Draw hidden states side by side, on a common scale that is symmetric around 0.

    Args:
        states: name of the controller → its states, (cells, hidden).
    """
    highest = max(float(np.abs(table).max()) for table in states.values()) or 1.0
    width, height = PANEL_SIZE
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
