"""Cell drawings: the picture holds exactly the genotype, and no part hides another."""

from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from drawn_genotypes import PUBLISHED, TWO, both, each
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyBboxPatch, PathPatch

from darts_noise.report.cell_layout import COLUMN_WIDTH, layout
from darts_noise.report.cells import _smooth, draw_cells, save_cells
from darts_noise.report.style import CONCATENATION, OPERATION_KINDS, operation_kind
from darts_noise.space.genotype import Genotype
from darts_noise.space.operations import Kind, list_operations


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


def test_curve_keeps_within_its_points() -> None:
    points = [(0.0, 0.0), (1.0, 5.0), (1.2, 5.0), (2.0, 5.5), (2.1, 9.0), (3.0, 1.0)]
    for i, polygon in enumerate(pairwise(points)):
        piece = _smooth(points).vertices[3 * i : 3 * i + 4, 1]
        low, high = sorted(y for _, y in polygon)
        assert piece.min() >= low - 1e-9
        assert piece.max() <= high + 1e-9


def test_published_cells_fit_a_column() -> None:
    for cells in PUBLISHED.values():
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


def test_kinds_differ_in_colour_and_in_line() -> None:
    kinds = (*OPERATION_KINDS.values(), CONCATENATION)
    assert len({kind.colour for kind in kinds}) == len(kinds)
    assert len({kind.dashes for kind in OPERATION_KINDS.values()}) == len(OPERATION_KINDS)
    assert set(OPERATION_KINDS) == set(get_args(Kind))  # a new kind needs a line of its own


def test_each_operation_is_drawn_as_its_registered_kind() -> None:
    for kind, look in OPERATION_KINDS.items():
        assert all(operation_kind(name) is look for name in list_operations(kind))
    with pytest.raises(ValueError, match="unknown operation 'sep_conv_3x'"):
        operation_kind("sep_conv_3x")


def test_legend_names_the_kinds_that_are_there() -> None:
    shown = [text.get_text() for text in draw_cells(TWO).legends[0].get_texts()]
    assert shown == ["convolution", "dilated convolution", "pooling / low-pass", "skip", "concat"]
    cell = [[("none", 0), ("conv_7x1_1x7", 1)]]
    figure = draw_cells(Genotype(cell, [2], cell, [2]))
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["convolution", "none", "concat"]


def test_a_reduction_cell_that_no_network_has_is_marked() -> None:
    normal, concat = [[("skip_connect", 0), ("skip_connect", 1)]], [2]
    for reductions, marked in (("none", True), ("second", False)):
        genotype = Genotype(normal, concat, normal, concat, macro={"reductions": reductions})
        texts = [text.get_text() for text in draw_cells(genotype).texts]
        assert ("Reduction cell (not used)" in texts) is marked


def test_files_are_the_same_each_time_and_svg_keeps_text(tmp_path: Path) -> None:
    first = save_cells(TWO, tmp_path / "a" / "cells-0.5")
    again = save_cells(TWO, tmp_path / "b" / "cells-0.5")
    assert [path.name for path in first] == ["cells-0.5.png", "cells-0.5.svg"]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    svg = first[1].read_text()
    assert ">sep_conv_3x3</text>" in svg
    assert "<dc:date>" not in svg
