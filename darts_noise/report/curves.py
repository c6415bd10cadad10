"""Curves of a run, drawn from its `metrics.csv`: loss, accuracy, penalty, entropy, shares.

What there is to draw is in `panels.py`; this file sets the panels on a page.
"""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from darts_noise.report.metrics import read_metrics
from darts_noise.report.panels import draw_panel, epochs_of, make_panels
from darts_noise.report.style import RC

PANEL_WIDTH, PANEL_HEIGHT = 2.6, 1.9  # inches
MOST_IN_A_ROW = 4
LEGEND_SHARE = 0.45  # of a panel's width


def draw_curves(
    metrics_csv: Path, num_classes: int | None = None, title: str | None = None
) -> Figure:
    """Draw a run's curves as small multiples that fill the page.

    Args:
        metrics_csv: the file; any column may be missing and any cell empty.
        num_classes: C; adds dotted lines where a guess lies: log C (loss) and 1/C (accuracy).
        title: a line above the panels.

    Raises:
        ValueError: a cell that is not a number, or `num_classes` below 2.
    """
    if num_classes is not None and num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    panels = make_panels(read_metrics(Path(metrics_csv)), num_classes)
    rows = row_lengths(len(panels))
    with matplotlib.rc_context(RC):
        size = (PANEL_WIDTH * max(rows), PANEL_HEIGHT * len(rows) + (0.3 if title else 0.0))
        figure = Figure(figsize=size, layout="constrained")
        if title:
            figure.suptitle(title, size=9.0, weight="bold")
        if not panels:
            figure.text(0.5, 0.5, "no metrics yet", ha="center", va="center")
            return figure
        epochs, waiting = epochs_of(panels), iter(panels)
        outer = figure.add_gridspec(len(rows), 1)
        for row, length in enumerate(rows):
            # Each row fills the page, however many panels it has.
            beside = [next(waiting) for _ in range(length)]
            widths = [1.0 if panel.title else LEGEND_SHARE for panel in beside]
            inner = outer[row].subgridspec(1, length, width_ratios=widths)
            for k, panel in enumerate(beside):
                draw_panel(figure.add_subplot(inner[0, k]), panel, epochs)
    return figure


def row_lengths(count: int) -> list[int]:
    """How many panels stand in each row: as even as can be, the fuller rows first.

    >>> [row_lengths(count) for count in (0, 2, 5, 7, 10)]
    [[1], [2], [3, 2], [4, 3], [4, 3, 3]]
    """
    rows = max(1, -(-count // MOST_IN_A_ROW))
    least, more = divmod(count, rows)
    return [max(1, least + (row < more)) for row in range(rows)]
