"""Heat maps of the weights: the given values, on one scale, inside the page."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from small_histories import history_of

from darts_noise.report.alpha_history import chosen_entries, edge_label
from darts_noise.report.heatmap import draw_alpha
from darts_noise.space.macro import as_text
from darts_noise.space.spaces import get_space


def edges_of(nodes: int) -> list[tuple[int, int]]:
    return [(source, node) for node in range(nodes) for source in range(node + 2)]


def weights_of(rows: int, columns: int, seed: int = 0) -> list[list[float]]:
    return np.random.default_rng(seed).dirichlet(np.ones(columns), rows).tolist()


def test_edge_labels() -> None:
    labels = ["$c_{k-2}$→0", "$c_{k-1}$→0", "$c_{k-2}$→1", "$c_{k-1}$→1", "0→1"]
    assert [edge_label(*edge) for edge in edges_of(2)] == labels


def test_rows_columns_and_scale_are_those_given() -> None:
    weights = {"normal": weights_of(5, 3), "reduce": weights_of(5, 3, seed=1)}
    figure = draw_alpha(weights, ["none", "skip_connect", "sep_conv_3x3"], edges_of(2))
    *maps, bar = figure.axes
    assert [axes.get_title(loc="left") for axes in maps] == ["normal", "reduce"]
    for axes, rows in zip(maps, weights.values(), strict=True):
        np.testing.assert_array_equal(axes.collections[0].get_array(), rows)
        assert axes.collections[0].get_clim() == (0.0, np.max(list(weights.values())))
        assert [t.get_text() for t in axes.get_yticklabels()][4] == "0→1"
        assert [t.get_text() for t in axes.get_xticklabels()][1] == "skip_connect"
        for text in axes.texts:
            column, row = text.get_position()
            assert float(text.get_text()) == pytest.approx(rows[int(row)][int(column)], abs=0.0501)
        assert len(axes.texts) == 15
    assert bar.get_ylim()[0] == 0.0


def test_a_decided_choice_is_not_drawn() -> None:
    weights = {"normal": weights_of(2, 3), "gain": [[1.0]], "width": [[0.25, 0.75]]}
    macro = {"gain": ("bounded",), "width": ("1.0", "0.5")}
    *maps, _ = draw_alpha(weights, ["a", "b", "c"], edges_of(1), macro=macro).axes
    assert [axes.get_title(loc="left") for axes in maps] == ["normal", "width"]


@pytest.mark.parametrize("columns", [3, 8, 20])
@pytest.mark.parametrize("nodes", [2, 4, 7])
def test_text_fits_and_nothing_is_clipped(nodes: int, columns: int) -> None:
    edges = edges_of(nodes)
    weights = {
        "normal": weights_of(len(edges), columns),
        "reduce": weights_of(len(edges), columns),
        "normalisation": weights_of(1, 2),
    }
    names = [f"conv_7x1_1x7_{i}" for i in range(columns)]
    macro = {"normalisation": ("batch", "none")}
    figure = draw_alpha(weights, names, edges, title="A title", macro=macro)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    page = figure.bbox
    tight = [axes.get_tightbbox(renderer) for axes in figure.axes]
    for box in tight:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= page.x1
        assert box.y1 <= page.y1
    for one, other in combinations(tight, 2):
        assert not one.overlaps(other)
    for axes in figure.axes:
        square = axes.bbox.width / max(1, len(axes.get_xticks()))
        for text in axes.texts:
            assert text.get_window_extent(renderer).width < square
    assert bool(figure.axes[0].texts) == (columns < 20)


@pytest.mark.parametrize("rows", [[[0.2, 0.8]], [[0.2], [1.0]], [[0.2, 0.8], [1.0]]])
def test_rows_of_another_shape_are_refused(rows: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"weights\['normal'\]: expected 2 rows of 2 weights"):
        draw_alpha({"normal": rows}, ["none", "skip_connect"], [(0, 0), (1, 0)])


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_weights_that_are_none_are_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=r"weights\['normal'\], row 0"):
        draw_alpha({"normal": [[weight]]}, ["none"], [(0, 0)])
    with pytest.raises(ValueError, match="got none"):
        draw_alpha({}, ["none"], [(0, 0)])


def test_all_zero_weights_have_a_scale() -> None:
    figure = draw_alpha({"normal": [[0.0]]}, ["none"], [(0, 0)])
    assert figure.axes[0].collections[0].get_clim() == (0.0, 1.0)


def test_an_alpha_with_candidates_of_its_own_on_each_edge_is_drawn() -> None:
    history = history_of("robust_darts_s1", epochs=1, nodes=4)
    [moment] = history.moments
    figure = draw_alpha(moment.weights, history.operations, history.edges, genotype=moment.genotype)
    for axes, kind in zip(figure.axes, moment.weights, strict=False):
        table = axes.collections[0].get_array()
        assert [len(row.nonzero()[0]) for row in table] == [2] * 14
        for frame in axes.patches:
            column, row = map(round, frame.get_center())
            assert history.operations[column] in get_space("robust_darts_s1").candidates(kind)[row]


def test_macro_choices_stand_below_with_their_names_and_the_genotype_is_framed() -> None:
    history = history_of("noise", epochs=2)
    weights, genotype = history.moments[-1].weights, history.moments[-1].genotype
    figure = draw_alpha(
        weights, history.operations, history.edges, macro=history.macro, genotype=genotype
    )
    axes = {a.get_title(loc="left"): a for a in figure.axes}
    for name, values in history.macro.items():
        assert [t.get_text() for t in axes[name].get_xticklabels()] == list(values)
        assert axes[name].get_position().y1 < axes["normal"].get_position().y0
        [frame] = axes[name].patches
        assert values[round(frame.get_center()[0])] == as_text(genotype.choice(name))
    for kind, nodes in chosen_entries(genotype, history.operations, history.edges).items():
        framed = {tuple(map(round, frame.get_center()[::-1])) for frame in axes[kind].patches}
        assert framed == {entry for pairs in nodes for entry in pairs}
