"""The film strip shows the genotype of every epoch on every edge."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from small_histories import history_of

from darts_noise.report.alpha_history import AlphaHistory
from darts_noise.report.film_strip import draw_film
from darts_noise.report.style import looks


@pytest.mark.parametrize("space", ["noise", "darts"])
def test_bars_are_the_genotypes_of_the_epochs(space: str) -> None:
    history = history_of(space, epochs=7)
    axes = {a.get_title(loc="left"): a for a in draw_film(history).axes}
    for kind in ("normal", "reduce"):
        bars = [patch for patch in axes[kind].patches if isinstance(patch, Rectangle)]
        for moment in history.moments:
            cell = getattr(moment.genotype, kind)
            kept = {(p, node): name for node, pairs in enumerate(cell) for name, p in pairs}
            look = looks(history.operations)
            for row, edge in enumerate(history.edges):
                here = [b for b in bars if _covers(b, moment.epoch, row)]
                assert len(here) == (tuple(edge) in kept)
                if here:
                    colour, hatch = look[kept[edge]]
                    assert to_hex(here[0].get_facecolor()) == colour.lower()
                    assert (here[0].get_hatch() or "") == hatch
    assert ("whole network" in axes) == bool(history.macro)


def _covers(bar: Rectangle, epoch: int, row: int) -> bool:
    left, bottom = bar.get_xy()
    return left < epoch < left + bar.get_width() and bottom < row < bottom + bar.get_height()


@pytest.mark.parametrize("epochs", [1, 40])
def test_text_stays_on_the_page_and_in_its_bar(epochs: int) -> None:
    figure = draw_film(history_of(epochs=epochs, nodes=4), title="A title")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in figure.axes:
        box = axes.get_tightbbox(canvas.get_renderer())
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    macro = next(a for a in figure.axes if a.get_title(loc="left") == "whole network")
    for text in macro.texts:
        extent = text.get_window_extent(canvas.get_renderer())
        assert any(
            bar.get_window_extent().x0 <= extent.x0 and extent.x1 <= bar.get_window_extent().x1
            for bar in macro.patches
        )


def test_without_an_epoch_there_is_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="at least one epoch"):
        draw_film(AlphaHistory((), (), {}))
