"""The plane of test and noise accuracy: figures equal NumPy, and labels are readable."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from darts_noise.report.noise_plane import NetworkPoint, draw_noise_plane, spread

NAN = float("nan")
SEEDS = [(0.98, 0.5), (0.97, 0.7), (0.96, 0.3)]


def test_mean_and_deviation_are_over_the_seeds_that_have_both_figures() -> None:
    point = NetworkPoint("λ = 1", [*SEEDS, (NAN, 0.1), (0.2, NAN)])
    figures = np.array(SEEDS)
    assert point.mean == pytest.approx(figures.mean(axis=0))
    assert point.deviation == pytest.approx(figures.std(axis=0, ddof=1))
    assert point.label == "λ = 1: 97.00 ± 1.00, 50.0 ± 20.0 (n = 3)"
    assert NetworkPoint("alone", SEEDS[:1]).deviation is None


@given(st.lists(st.floats(0, 1), max_size=10), st.floats(0.01, 0.1))
def test_spread_positions_keep_their_order_and_their_distance(wanted, gap) -> None:
    placed = spread(wanted, gap)
    ordered = [placed[i] for i in sorted(range(len(wanted)), key=lambda i: wanted[i])]
    assert all(b - a >= gap - 1e-6 for a, b in pairwise(ordered))
    assert all(position <= 1 for position in placed)
    far = all(b - a >= gap for a, b in pairwise(sorted(wanted)))
    if far:
        assert placed == pytest.approx(wanted)


def test_every_network_is_drawn_where_it_is_and_curves_join_means_in_the_order_given() -> None:
    points = [
        NetworkPoint("λ = 0", [(0.9, 0.8), (0.8, 0.6)], "search"),
        NetworkPoint("λ = 1", [(0.7, 0.2)], "search"),
        NetworkPoint("λ = 2", [(0.95, 0.1)], "search"),
        NetworkPoint("control", [(0.99, 1.0)]),
    ]
    axes = draw_noise_plane(points, chance=0.1).axes[0]
    lines = [np.round(np.array(line.get_data()).T, 6).tolist() for line in axes.lines]
    assert [[85, 70], [70, 20], [95, 10]] in lines
    for mean in ([85, 70], [70, 20], [95, 10], [99, 100]):
        assert [mean] in lines
    for seed in ([90, 80], [80, 60]):
        assert [seed] in lines
        assert [[85, 70], seed] in lines
    assert [[0, 10], [1, 10]] in lines  # chance
    assert "control: 99.00, 100.0 (n = 1)" in [text.get_text() for text in axes.texts]


def test_names_of_many_networks_at_one_point_can_all_be_read() -> None:
    points = [NetworkPoint(f"a control with a long name, {i}", SEEDS) for i in range(30)]
    figure = draw_noise_plane([*points, NetworkPoint("lost", [(NAN, 1.0)])], 0.1, "A title")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [*figure.axes[0].texts, *figure.texts]
    # An annotation's own extent is with its line to the point.
    boxes = [Text.get_window_extent(text, renderer) for text in texts]
    assert len(boxes) == 34
    inside = figure.axes[0].get_window_extent()
    assert not any(box.overlaps(inside) for box in boxes)  # where data may be
    for box in boxes:
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1
    for a, b in combinations(boxes, 2):
        assert not a.overlaps(b)


@pytest.mark.parametrize("points", [[], [NetworkPoint("a", [(98.0, 0.5)])]])
def test_what_cannot_be_drawn_is_refused(points) -> None:
    with pytest.raises(ValueError, match="points"):
        draw_noise_plane(points)


def test_a_plane_of_nothing_measured_names_the_networks() -> None:
    figure = draw_noise_plane([NetworkPoint("lost", [])])
    assert [text.get_text() for text in figure.texts] == ["not measured: lost"]
