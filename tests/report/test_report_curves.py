"""Curves show the file's points, whatever is missing; the saver never leaves half a file."""

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from darts_noise.report.curves import draw_areas, draw_curves
from darts_noise.report.style import OPERATION_KINDS, save_figure
from darts_noise.space.macro import MACRO as MACRO_CHOICES
from darts_noise.space.operations import list_operations

KINDS, FIGURES = ("normal", "reduce"), ("loss", "accuracy")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def panels(figure: Figure) -> dict[str, Any]:
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.axison}


def test_curves_are_the_points_of_the_file_by_epochs_from_1(tmp_path: Path) -> None:
    text = "epoch,train/loss,val/loss\n0,2.0,2.5\n1,0.9,\n2,,1.5\n"
    figure = draw_curves(write(tmp_path / "m.csv", text))
    lines = {line.get_label(): line for line in panels(figure)["loss"].lines}
    np.testing.assert_array_equal(lines["validation"].get_xydata(), [(1, 2.5), (3, 1.5)])
    assert set(lines) == {"train", "validation"}
    assert panels(figure)["loss"].get_xlim() == (1, 3)


def test_only_panels_with_data_are_drawn(tmp_path: Path) -> None:
    text = "epoch,val/accuracy,alpha/entropy_normal,penalty,other\n0,0.1,2.0,,1\n1,0.4,1.9,,1\n"
    figure = draw_curves(write(tmp_path / "m.csv", text))
    assert set(panels(figure)) == {"accuracy", "entropy of α (nats)"}


@pytest.mark.parametrize("text", ["", "epoch,train/loss\n", "epoch,train/loss\n0,\n"])
def test_file_without_values(tmp_path: Path, text: str) -> None:
    figure = draw_curves(write(tmp_path / "m.csv", text), num_classes=10)
    assert [t.get_text() for t in figure.texts] == ["no metrics yet"]


@pytest.mark.parametrize(("scale", "chance"), [(1, 0.1), (100, 10.0)])
def test_chance_lines(tmp_path: Path, scale: int, chance: float) -> None:
    text = f"epoch,train/loss,noise/accuracy\n0,2.3,{0.1 * scale}\n1,2.2,{0.9 * scale}\n"
    path = write(tmp_path / "m.csv", text)
    found = panels(draw_curves(path, num_classes=10))
    height = {name: [text.xy[1] for text in axes.texts] for name, axes in found.items()}
    assert height == {"loss": [math.log(10)], "accuracy": [pytest.approx(chance)]}
    assert [line.get_ydata()[0] for line in found["loss"].lines[1:]] == height["loss"]
    unequal = panels(draw_curves(path, num_classes=10, chance=0.6))["accuracy"].texts[0]
    assert unequal.xy[1] == pytest.approx(6 * chance)
    assert unequal.get_text().split() == ["best", "constant", "answer"]  # the words of the card
    assert not any(axes.texts for axes in panels(draw_curves(path)).values())
    with pytest.raises(ValueError, match="num_classes: expected at least 2, got 1"):
        draw_curves(path, num_classes=1)


SHARES = (
    "epoch,share/normal/none,share/normal/skip_connect,share/normal/sep_conv_3x3,share/reduce/none\n"
    "0,0.2,0.3,0.5,1\n1,0.1,,0.9,1\n"
)


def test_shares_are_panels_with_a_legend_for_each_set_of_operations(tmp_path: Path) -> None:
    figure = draw_curves(write(tmp_path / "m.csv", SHARES))
    assert set(panels(figure)) == {"operation share: normal", "operation share: reduce"}
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend() is not None]
    shown = [[text.get_text() for text in legend.get_texts()] for legend in legends]
    assert shown == [["none", "skip_connect", "sep_conv_3x3"], ["none"]]
    same = SHARES.replace("share/normal/skip_connect,share/normal/sep_conv_3x3", "x,y")
    figure = draw_curves(write(tmp_path / "m.csv", same))
    assert sum(axes.get_legend() is not None for axes in figure.axes) == 1


MACRO = "epoch,share/width/1.0,share/width/0.5,alpha/entropy_width\n0,0.5,0.5,0.7\n1,0.9,0.1,0.3\n"


def test_a_macro_choice_is_lines_with_their_own_legend(tmp_path: Path) -> None:
    found = panels(draw_curves(write(tmp_path / "m.csv", MACRO)))
    assert set(found) == {"share: width", "entropy of α (nats)"}
    lines = found["share: width"].lines
    assert [line.get_label() for line in lines] == ["1", "0.5"]
    np.testing.assert_array_equal(lines[0].get_ydata(), [0.5, 0.9])
    assert found["share: width"].get_legend() is not None
    looks = {(line.get_color(), line.get_linestyle()) for line in lines}
    assert len(looks) == 2


def test_test_row_does_not_lengthen_the_curves(tmp_path: Path) -> None:
    text = "epoch,train/loss,test/loss\n0,2.0,\n1,1.0,\n5,,1.5\n"
    found = panels(draw_curves(write(tmp_path / "m.csv", text)))
    assert found["loss"].get_xlim() == (1, 2)


@pytest.mark.parametrize("epochs", [1, 4])
@pytest.mark.parametrize("penalty", [False, True])
@pytest.mark.parametrize("macro", [(), tuple(MACRO_CHOICES)])
def test_panels_of_a_search_neither_overlap_nor_are_clipped(
    tmp_path: Path, epochs: int, penalty: bool, macro: tuple[str, ...]
) -> None:
    values = {f"{split}/{name}": 0.5 for split in ("train", "val", "noise") for name in FIGURES}
    values |= {f"share/{kind}/{o}": 0.1 for kind in KINDS for o in list_operations()}
    values |= {f"alpha/entropy_{kind}": 1.0 for kind in (*KINDS, *macro)}
    values |= {f"share/{m}/{value}": 0.3 for m in macro for value in MACRO_CHOICES[m]}
    values |= {"noise/penalty": 0.1} if penalty else {}
    lines = [",".join(["epoch", *values])]
    lines += [",".join(map(str, [epoch, *values.values()])) for epoch in range(epochs)]
    figure = draw_curves(write(tmp_path / "m.csv", "\n".join(lines) + "\n"), num_classes=10)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    used = [axes for axes in figure.axes if axes.axison or axes.get_legend() is not None]
    assert len(used) == 6 + penalty + len(macro)
    boxes = [axes.get_tightbbox(canvas.get_renderer()) for axes in used]
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    ends: dict[float, float] = {}
    for axes, box in zip(used, boxes, strict=True):
        row = round(axes.get_position().y0, 2)
        ends[row] = max(ends.get(row, 0.0), box.x1 / figure.bbox.x1)
    assert min(ends.values()) > 0.9, "a row leaves the page empty at its end"


@pytest.mark.parametrize("lines", [2, 3, 6])
@pytest.mark.parametrize("value", [0.02, 0.5, 0.98])
def test_neither_legend_nor_label_covers_a_line(tmp_path: Path, lines: int, value: float) -> None:
    """Wherever the lines are: at the bottom, in the middle, at the top, or all over the axes."""
    values = {f"{split}/accuracy": value for split in ("train", "val", "noise")[:lines]}
    values |= {f"alpha/entropy_{kind}": value for kind in list("abcdef")[:lines]}
    rows = [[epoch, *values.values()] for epoch in range(3)]
    rows.append([3, *(1 - v for v in values.values())])
    text = "\n".join(",".join(map(str, row)) for row in [["epoch", *values], *rows])
    figure = draw_curves(write(tmp_path / "m.csv", text + "\n"), num_classes=10)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in panels(figure).values():
        inside = axes.get_window_extent()
        legend = axes.get_legend()
        assert legend is not None
        assert not legend.get_window_extent().overlaps(inside)
        assert not legend.get_window_extent().overlaps(axes.xaxis.label.get_window_extent())
        for label in axes.texts:
            assert label.get_window_extent().x0 >= inside.x1


def test_one_epoch_can_be_seen(tmp_path: Path) -> None:
    text = "epoch,train/loss,val/loss,share/normal/none\n3,2.0,2.0,1.0\n"
    found = panels(draw_curves(write(tmp_path / "m.csv", text)))
    assert found["loss"].lines[0].get_marker() == "o"
    assert found["loss"].get_xlim() == (3.5, 4.5)
    assert [x for x in found["loss"].get_xticks() if 3.5 <= x <= 4.5] == [4]
    first, second = found["loss"].lines  # equal values: the later drawn is the smaller
    assert first.get_markersize() > second.get_markersize()
    area = found["operation share: normal"].collections[0].get_paths()[0].get_extents()
    assert area.width == pytest.approx(1.0)


@pytest.mark.parametrize(("highest", "top"), [(0.4, 1.03), (6.9, 1.03 * 6.9)])
def test_a_penalty_is_drawn_on_0_to_1_and_beyond_if_it_goes_there(
    tmp_path: Path, highest: float, top: float
) -> None:
    text = f"epoch,noise/penalty\n0,0.1\n1,{highest}\n2,nan\n"
    axes = panels(draw_curves(write(tmp_path / "m.csv", text)))["penalty"]
    assert axes.get_ylim()[1] == pytest.approx(top)
    assert axes.get_ylim()[0] < 0.1


def test_entropy_is_drawn_from_zero(tmp_path: Path) -> None:
    text = "epoch,alpha/entropy_normal\n0,1.9459\n1,1.9458999\n"
    axes = panels(draw_curves(write(tmp_path / "m.csv", text)))["entropy of α (nats)"]
    assert axes.get_ylim()[0] == 0.0
    assert axes.get_ylim()[1] > 1.9459


def test_values_that_are_not_finite_are_gaps(tmp_path: Path) -> None:
    text = "epoch,train/loss,train/accuracy\n0,2,nan\n1,inf,nan\n2,1,nan\n"
    figure = draw_curves(write(tmp_path / "m.csv", text))
    np.testing.assert_array_equal(panels(figure)["loss"].lines[0].get_ydata(), [2, math.nan, 1])
    save_figure(figure, tmp_path / "curves", svg=False)


def test_saving_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    figure = Figure()
    figure.text(0.5, 0.5, "before")
    written = save_figure(figure, tmp_path / "run-0.5")
    assert [path.name for path in written] == ["run-0.5.png", "run-0.5.svg"]
    before = [path.read_bytes() for path in written]

    class Broken(Figure):
        def savefig(self, file: Any, **_: Any) -> None:
            file.write(b"half a pict")
            raise OSError("disc full")

    with pytest.raises(OSError, match="disc full"):
        save_figure(Broken(), tmp_path / "run-0.5")
    assert [path.read_bytes() for path in written] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-0.5.png", "run-0.5.svg"]


def test_svg_can_be_left_out(tmp_path: Path) -> None:
    assert [p.name for p in save_figure(Figure(), tmp_path / "deep" / "a", svg=False)] == ["a.png"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.png"]


AREAS = {
    "none": [(0.0, 0.2), (1.0, 0.1)],
    "skip_connect": [(0.0, 0.3)],
    "sep_conv_3x3": [(0.0, 0.5), (1.0, 0.9)],
}


def tops(axes: object, epoch: float) -> list[float]:
    corners = [area.get_paths()[0].vertices for area in axes.collections]  # type: ignore[attr-defined]
    return [points[points[:, 0] == epoch, 1].max() for points in corners]


def test_heights_add_up_in_the_order_of_the_kinds() -> None:
    axes = Figure().subplots()
    draw_areas(axes, AREAS)
    np.testing.assert_allclose(tops(axes, 0.0), [0.5, 0.8, 1.0])
    np.testing.assert_allclose(tops(axes, 1.0), [0.9, 0.9, 1.0])
    labels = [area.get_label() for area in axes.collections]
    assert labels == ["sep_conv_3x3", "skip_connect", "none"]
    colours = [to_hex(area.get_facecolor()[0]).upper() for area in axes.collections]
    assert colours == [OPERATION_KINDS[k].colour for k in ("convolution", "skip", "none")]


def test_shares_that_are_not_finite_or_all_zero() -> None:
    axes = Figure().subplots()
    draw_areas(axes, {"none": [(0.0, math.nan), (1.0, 0.0)]})
    assert tops(axes, 0.0) == [0.0]
    assert axes.get_ylim() == (0.0, 1.0)
