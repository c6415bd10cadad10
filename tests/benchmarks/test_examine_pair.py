"""The benchmark of two networks: what it writes, and that its pictures can be compared."""

import json
import shutil
import xml.etree.ElementTree as ET

import pytest

from benchmarks import commands
from benchmarks import examine_pair as benchmark
from darts_noise.examine.input_gradients import InputGradients
from darts_noise.examine.record import from_json
from darts_noise.examine.sections import list_sections
from darts_noise.report.lines import draw_lines


@pytest.mark.parametrize("data", benchmark.PRESETS)
def test_the_pair_is_a_cell_of_bounded_gain_and_one_with_batch_norm(data):
    bounded, batch_norm = benchmark.pair(data).values()
    assert bounded.macro["gain"] == "bounded"
    assert batch_norm.macro.get("gain", "free") == "free"
    assert (bounded.normal == batch_norm.normal) == (data == "digits")


def test_the_results_are_those_of_the_present_pair():
    for data in benchmark.PRESETS:
        file = commands.RESULTS / f"examine_{data}.json"
        cells = json.loads(file.read_text("utf-8"))["cells"] if file.is_file() else {}
        for name, cell in benchmark.pair(data).items():
            assert not cells or cells[name] == cell.to_dict()


def test_the_limits_of_a_row_of_figures_are_alike():
    """And they hold all points."""
    small = draw_lines({"a": [(1, 0.2), (2, 0.3)]}, "x", "y")
    large = draw_lines({"a": [(0, -5.0), (4, 7.0)]}, "x", "y")
    benchmark.alike([small, large])
    (one,), (two,) = small.axes, large.axes
    assert one.get_xlim() == two.get_xlim()
    assert one.get_ylim() == two.get_ylim()
    assert one.get_ylim()[0] <= -5 < 7 <= one.get_ylim()[1]
    huge = draw_lines({"a": [(0, -5e3), (4, 7e3)]}, "x", "y")
    before = two.get_ylim()
    benchmark.alike([large, huge])
    assert (two.get_ylim(), two.get_xlim()) == (before, huge.axes[0].get_xlim())


def test_a_picture_places_the_figures_side_by_side_and_is_valid():
    def row():
        return {name: draw_lines({"a": [(0, 1.0), (1, 2.0)]}, "x", "y") for name in ("one", "two")}

    root = ET.fromstring(benchmark.picture([row(), row()], "Losses, digits"))
    drawn = [child for child in root if child.tag.endswith("svg")]
    places = [(int(svg.get("x")), int(svg.get("y"))) for svg in drawn]
    width, height = int(drawn[0].get("width")), int(drawn[0].get("height"))
    assert places == [(0, 0), (width, 0), (0, height), (width, height)]
    assert (int(root.get("width")), int(root.get("height"))) == (2 * width, 2 * height)
    names = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(names) == len(set(names))


def test_both_networks_are_measured_once_and_stored(tmp_path, monkeypatch, capsys):
    shutil.copy(commands.RESULTS / "main_job_digits.json", tmp_path)
    monkeypatch.setattr(commands, "RESULTS", tmp_path)
    sections = {"input_gradients": {"lines": 1, "points": 3, "draws": 1}}
    monkeypatch.setitem(benchmark.PRESETS, "digits", {"samples": 20, "sections": sections})
    page = tmp_path / "examine" / "input_gradients.md"
    for measured in (2, 0):
        benchmark.examine_pair("digits", "data", tmp_path / "runs", ["input_gradients"])
        assert capsys.readouterr().out.count("lines between images") == measured
        text = page.read_text("utf-8")
        assert ("They differ." in text) == (measured == 0)
        page.write_text(text.replace("<!-- end of con", "They differ.\n<!-- end of con"), "utf-8")
    found = json.loads((tmp_path / "examine_digits.json").read_text("utf-8"))
    results = found["sections"]["input_gradients"]
    layers = [from_json(InputGradients, result).layers for result in results.values()]
    assert list(results) == ["bounded gain", "batch norm"]
    assert len(layers[1]) > 1 < len(layers[0])
    assert (page.parent / "input_gradients_digits.svg").is_file()
    assert "](input_gradients_digits.svg)" in text
    assert text.count("They differ.") == 1


def test_every_chosen_figure_is_of_a_section():
    assert {*benchmark.PICTURES} <= {*list_sections()}
