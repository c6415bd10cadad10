"""A map of one value for each place of a square grid, such as the errors by frequency."""

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from darts_noise.report.heatmap import COLOUR_MAP
from darts_noise.report.style import RC

SIZE = (3.6, 2.9)  # inches


def draw_square_map(
    values: Sequence[Sequence[float]],
    across: str,
    down: str,
    name: str,
    origin: tuple[float, float] = (0, 0),
) -> Figure:
    """Draw values from 0 to 1 as coloured squares with a colour bar.

    Args:
        values: rows from top to bottom, of equal length.
        across: name of the horizontal axis.
        down: name of the vertical axis.
        name: name of the colour bar.
        origin: (row, column) of the place that the axes call (0, 0).
    """
    row, column = origin
    edges = (-0.5 - column, len(values[0]) - 0.5 - column, len(values) - 0.5 - row, -0.5 - row)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(values, cmap=COLOUR_MAP, vmin=0.0, vmax=1.0, extent=edges)
        axes.locator_params(integer=True, nbins=7)
        axes.set_xlabel(across)
        axes.set_ylabel(down)
        figure.colorbar(image, label=name, shrink=0.85).outline.set_visible(False)
    return figure
