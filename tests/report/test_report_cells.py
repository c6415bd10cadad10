"""Cell drawings: the picture holds exactly the genotype, and nothing in it hides anything else.

Add a genotype to `GENOTYPES` to have it checked.
"""

import json
import random
from itertools import combinations, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyBboxPatch, PathPatch

from darts_noise.report.cells import COLUMN_WIDTH, _smooth, draw_cells, layout, save_cells
from darts_noise.report.style import CONCATENATION, OPERATION_KINDS, operation_kind

GOLDEN = Path(__file__).parents[1] / "golden" / "darts.json"
NAMES = (
    "sep_conv_3x3",
    "sep_conv_5x5",
    "conv_7x1_1x7",
    "dil_conv_5x5",
    "max_pool_3x3",
    "blur_pool_3x3",
    "skip_connect",
    "none",
)


def genotype(normal: Any, normal_concat: Any, reduce: Any, reduce_concat: Any) -> Any:
    def cell(nodes: Any) -> Any:
        return tuple(tuple((operation, source) for operation, source in node) for node in nodes)

    return SimpleNamespace(
        normal=cell(normal),
        normal_concat=tuple(normal_concat),
        reduce=cell(reduce),
        reduce_concat=tuple(reduce_concat),
    )


def random_genotype(seed: int) -> Any:
    chance = random.Random(seed)

    def cell() -> Any:
        count = chance.choice((2, 4, 5, 7))
        nodes = [
            [
                (chance.choice(NAMES), chance.randrange(node + 2))
                for _ in range(chance.choice((1, 2, 2, 2, 3)))
            ]
            for node in range(count)
        ]
        return nodes, sorted(chance.sample(range(2, count + 2), chance.randint(1, count)))

    return genotype(*cell(), *cell())


def _published() -> dict[str, Any]:
    found = json.loads(GOLDEN.read_text())["genotypes"]
    return {name: genotype(**cells) for name, cells in found.items()}


AMOEBA = genotype(  # five nodes, parallel edges, unequal concatenations
    [
        [("avg_pool_3x3", 0), ("max_pool_3x3", 1)],
        [("skip_connect", 0), ("sep_conv_5x5", 2)],
        [("sep_conv_3x3", 2), ("sep_conv_5x5", 0)],
        [("avg_pool_3x3", 1), ("avg_pool_3x3", 1)],
        [("conv_7x1_1x7", 2), ("skip_connect", 2)],
    ],
    [3, 4, 5, 6],
    [
        [("max_pool_2x2", 0), ("sep_conv_3x3", 0)],
        [("sep_conv_7x7", 2), ("skip_connect", 1)],
        [("sep_conv_7x7", 1), ("sep_conv_7x7", 0)],
        [("conv_7x1_1x7", 0), ("max_pool_3x3", 3)],
        [("dil_conv_5x5", 4), ("dil_conv_3x3", 2)],
    ],
    [5, 6],
)
TWO = genotype(
    [[("sep_conv_3x3", 0), ("skip_connect", 1)], [("sep_conv_3x3", 0), ("dil_conv_3x3", 2)]],
    [2, 3],
    [[("max_pool_3x3", 0), ("skip_connect", 1)], [("skip_connect", 2), ("max_pool_3x3", 0)]],
    [3],
)
CHAIN = genotype(  # seven nodes, each after the last
    [[("sep_conv_5x5", i), ("conv_7x1_1x7", i + 1)] for i in range(7)],
    range(2, 9),
    [[("skip_connect", i + 1)] for i in range(7)],
    [0, 8],
)
GENOTYPES = {
    **_published(),
    "amoeba": AMOEBA,
    "two": TWO,
    "chain": CHAIN,
    **{f"random {seed}": random_genotype(seed) for seed in range(6)},
}
each = pytest.mark.parametrize("cells", GENOTYPES.values(), ids=GENOTYPES.keys())


def both(cells: Any) -> list[tuple[Any, Any]]:
    return [(cells.normal, cells.normal_concat), (cells.reduce, cells.reduce_concat)]


@each
def test_layout_has_every_pair_and_every_concatenation_once(cells: Any) -> None:
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
def test_edges_run_left_to_right_from_side_to_side(cells: Any) -> None:
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


def sampled(vertices: Any) -> Any:
    """Points along a path of cubic Bézier pieces (de Casteljau), far closer than a line is wide."""
    t = np.linspace(0.0, 1.0, 60)[:, None]
    pieces = []
    for i in range(0, len(vertices) - 3, 3):
        points = [vertices[i + k][None] for k in range(4)]
        while len(points) > 1:
            points = [(1 - t) * a + t * b for a, b in pairwise(points)]
        pieces.append(points[0])
    return np.concatenate(pieces)


def boxes_of(figure: Any, word: str) -> dict[str, Any]:
    return {
        patch.get_gid(): patch
        for axes in figure.axes
        for patch in axes.patches
        if isinstance(patch, FancyBboxPatch) and f"-{word}-" in str(patch.get_gid())
    }


@each
def test_nothing_overlaps_or_is_clipped(cells: Any) -> None:
    figure = draw_cells(cells, title="A title")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    labels, nodes = boxes_of(figure, "label"), boxes_of(figure, "node")
    assert len(labels) == sum(len(pairs) for cell, _ in both(cells) for pairs in cell)
    boxes = {name: patch.get_window_extent(renderer) for name, patch in {**labels, **nodes}.items()}
    for (name, box), (other_name, other) in combinations(boxes.items(), 2):
        assert not box.overlaps(other), (name, other_name)
    texts = [text for axes in figure.axes for text in axes.texts]
    assert len(texts) == len(boxes)
    for text in texts:  # each text lies inside one box
        extent = text.get_window_extent(renderer)
        assert any(
            box.x0 <= extent.x0
            and extent.x1 <= box.x1
            and box.y0 <= extent.y0 + 1
            and extent.y1 <= box.y1 + 1
            for box in boxes.values()
        ), text.get_text()
    captions = [text.get_window_extent(renderer) for text in figure.texts]
    captions.append(figure.legends[0].get_window_extent(renderer))
    for extent in [*boxes.values(), *captions]:
        assert extent.x0 >= 0
        assert extent.y0 >= 0
        assert extent.x1 <= figure.bbox.x1
        assert extent.y1 <= figure.bbox.y1
    for caption in captions:
        assert not any(caption.overlaps(box) for box in boxes.values())


@each
def test_no_edge_runs_under_a_foreign_node_or_label(cells: Any) -> None:
    figure = draw_cells(cells)
    FigureCanvasAgg(figure).draw()
    for axes, (cell, concat) in zip(figure.axes, both(cells), strict=True):
        plan = layout(cell, concat, width=figure.get_size_inches()[0])
        boxes = [
            (patch.get_gid(), patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height())
            for patch in axes.patches
            if isinstance(patch, FancyBboxPatch)
        ]
        curves = [patch for patch in axes.patches if type(patch) is PathPatch]
        assert len(curves) == len(plan.edges)
        for edge, curve in zip(plan.edges, curves, strict=True):
            own = (f"-node-{edge.source}", f"-node-{edge.target}")
            own += (f"-label-{edge.target - 2}-{edge.pair}",)
            dense = sampled(curve.get_path().vertices)
            for name, left, top, wide, high in boxes:
                if not name.endswith(own):
                    inside = (
                        (dense[:, 0] > left)
                        & (dense[:, 0] < left + wide)
                        & (dense[:, 1] > top)
                        & (dense[:, 1] < top + high)
                    )
                    assert not inside.any(), (name, edge)


def test_parallel_edges_stay_apart() -> None:
    plan = layout(AMOEBA.normal, AMOEBA.normal_concat)
    a, b = (edge for edge in plan.edges if (edge.source, edge.target) == (1, 5))
    assert all(abs(p[1] - q[1]) > 0.04 for p, q in zip(a.points, b.points, strict=True))


def test_curve_keeps_within_its_points() -> None:
    points = [(0.0, 0.0), (1.0, 5.0), (1.2, 5.0), (2.0, 5.5), (2.1, 9.0), (3.0, 1.0)]
    for i, polygon in enumerate(pairwise(points)):
        piece = _smooth(points).vertices[3 * i : 3 * i + 4, 1]
        low, high = sorted(y for _, y in polygon)
        assert piece.min() >= low - 1e-9
        assert piece.max() <= high + 1e-9


def test_published_cells_fit_a_column() -> None:
    for cells in _published().values():
        assert draw_cells(cells).get_size_inches()[0] == pytest.approx(COLUMN_WIDTH)


def test_strength_sets_the_line_width() -> None:
    strength = {"normal": [[0.0, 0.5], [1.0, 0.25]]}
    axes = draw_cells(TWO, strength=strength).axes[0]
    widths = [p.get_linewidth() for p in axes.patches if type(p) is PathPatch][:4]
    assert sorted(range(4), key=widths.__getitem__) == [0, 3, 1, 2]
    with pytest.raises(ValueError, match=r"expected rows of length \[2, 2\], got \[2, 1\]"):
        draw_cells(TWO, strength={"normal": [[0.0, 0.5], [1.0]]})
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        draw_cells(TWO, strength={"reduce": [[0.0, 0.5], [1.0, 2.0]]})
    with pytest.raises(ValueError, match="'macro'"):
        draw_cells(TWO, strength={"macro": [[0.0]]})


def test_impossible_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="node 0: expected predecessor < 2, got 2"):
        layout([[("skip_connect", 2)]], [2])
    with pytest.raises(ValueError, match="concat: expected an index from 0 to 2, got 3"):
        layout([[("skip_connect", 1)]], [3])


def test_kinds_differ_in_colour_and_in_line() -> None:
    kinds = (*OPERATION_KINDS, CONCATENATION)
    assert len({kind.colour for kind in kinds}) == len(kinds)
    assert len({kind.dashes for kind in OPERATION_KINDS}) == len(OPERATION_KINDS)
    legend = draw_cells(TWO).legends[0]
    shown = {text.get_text() for text in legend.get_texts()}
    used = {operation_kind(o).name for cell, _ in both(TWO) for node in cell for o, _ in node}
    assert shown == used | {"concat"}


def test_files_are_the_same_each_time_and_svg_keeps_text(tmp_path: Path) -> None:
    first = save_cells(TWO, tmp_path / "a" / "cells-0.5")
    again = save_cells(TWO, tmp_path / "b" / "cells-0.5")
    assert [path.name for path in first] == ["cells-0.5.png", "cells-0.5.svg"]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    svg = first[1].read_text()
    assert ">sep_conv_3x3</text>" in svg
    assert "<dc:date>" not in svg
