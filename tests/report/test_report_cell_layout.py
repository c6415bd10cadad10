"""Layout: every edge of the cell once, from port to port, past all other nodes and labels."""

from itertools import pairwise

import pytest
from drawn_genotypes import AMOEBA, both, each

from darts_noise.report.cell_layout import layout
from darts_noise.space.genotype import Genotype


@each
def test_layout_has_every_pair_and_every_concatenation_once(cells: Genotype) -> None:
    for cell, concat in both(cells):
        plan = layout(cell, concat)
        wanted = [
            (source, node, operation, pair)
            for node, pairs in enumerate(cell, start=2)
            for pair, (operation, source) in enumerate(pairs)
        ]
        wanted += [(source, len(cell) + 2, None, None) for source in concat]
        assert [(e.source, e.target, e.operation, e.pair) for e in plan.edges] == wanted
        assert [node.index for node in plan.nodes] == list(range(len(cell) + 3))


@each
def test_edges_run_left_to_right_from_side_to_side(cells: Genotype) -> None:
    for cell, concat in both(cells):
        plan = layout(cell, concat)
        for edge in plan.edges:
            source, target = plan.nodes[edge.source], plan.nodes[edge.target]
            assert all(a[0] < b[0] for a, b in pairwise(edge.points))
            assert edge.points[0][0] == pytest.approx(source.x + source.width / 2)
            assert edge.points[-1][0] == pytest.approx(target.x - target.width / 2)
            assert abs(edge.points[0][1] - source.y) < source.height / 2
            assert abs(edge.points[-1][1] - target.y) < target.height / 2
            if edge.label is not None:  # the edge runs through the middle of its label
                (x, y) = edge.label
                around = [(a, b) for a, b in pairwise(edge.points) if a[0] < x < b[0]]
                assert around[0][0][1] == around[0][1][1] == y


def test_parallel_edges_stay_apart() -> None:
    plan = layout(AMOEBA.normal, AMOEBA.normal_concat)
    a, b = (edge for edge in plan.edges if (edge.source, edge.target) == (1, 5))
    assert all(abs(p[1] - q[1]) > 0.04 for p, q in zip(a.points, b.points, strict=True))


def test_impossible_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="node 0: expected predecessor < 2, got 2"):
        layout([[("skip_connect", 2)]], [2])
    with pytest.raises(ValueError, match="concat: expected an index from 0 to 2, got 3"):
        layout([[("skip_connect", 1)]], [3])


def test_concatenation_of_an_input_and_a_wanted_width() -> None:
    plan = layout([[("skip_connect", 1)]], [0, 2], width=9.0)
    assert [(e.source, e.target) for e in plan.edges] == [(1, 2), (0, 3), (2, 3)]
    assert plan.width == 9.0
    assert plan.nodes[3].x + plan.nodes[3].width / 2 == pytest.approx(9.0 - 0.05)


def test_labels_of_long_edges_spread_over_the_columns() -> None:
    plan = layout(
        [[("skip_connect", 1)], [("skip_connect", 2), ("sep_conv_3x3", 0), ("sep_conv_5x5", 0)]],
        [3],
    )
    columns = [edge.label[0] for edge in plan.edges if edge.label is not None]
    assert sorted(columns) == sorted([min(columns), max(columns)] * 2)
    assert columns[2] != columns[3]
