"""An examination: its folder and its page, a stop and the same call again, and bad input."""

import importlib
import inspect
import json
import math
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest
from conftest import refused
from rich.console import Console
from torch import nn

import darts_noise as dn
from darts_noise.cli.program import main
from darts_noise.examine import section as sections
from darts_noise.examine.record import as_json, from_json
from darts_noise.report.lines import draw_lines
from darts_noise.report.page import Table
from darts_noise.runs.examine import read_section
from darts_noise.runs.folder import RunLock
from darts_noise.train.factories import identify


def linear(num_classes, in_channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, num_classes))


@dataclass(frozen=True)
class Losses:
    losses: tuple[float, ...]
    name: str | None = None


STOP_AT: set[str] = set()


@pytest.fixture
def fast(monkeypatch):
    """Only one section, of two pieces, as a plugin would register it."""
    monkeypatch.setattr(sections, "_SECTIONS", {})
    STOP_AT.clear()

    @dn.register_section("losses")
    class LossSection(dn.Section[Losses]):
        title, question, sources = "Losses", "How large are the losses?", ("A paper, 2020",)
        result = Losses
        measured: ClassVar[list[str]] = []

        def __init__(self, factor: float = 1.0) -> None:
            self.factor = factor

        def steps(self, subject):
            return subject.steps(len(subject.train), 2)

        def piece(self, name, subject):
            if name in STOP_AT:
                raise KeyboardInterrupt
            self.measured.append(name)
            run = subject.fit(subject.train, seed=int(name))
            return self.factor * run.accuracy

        def measure(self, subject, pieces):
            names = ("1", "2")
            return Losses(
                tuple(pieces(n, float, lambda n=n: self.piece(n, subject)) for n in names), "x < y"
            )

        def sentence(self, result):
            return f"The last is {result.losses[-1]:.3f}."

        def figures(self, result):
            return {"The losses": draw_lines({"loss": list(enumerate(result.losses))}, "x", "y")}

        def tables(self, result):
            return [Table("Losses", ("n", "loss"), [(result.name, str(result.losses[0]))])]

    return LossSection


@pytest.fixture
def examine(fast, digits, tmp_path):
    def call(**settings):
        return dn.examine(
            linear,
            digits(),
            samples=40,
            epochs=2,
            runs=tmp_path,
            accelerator="cpu",
            console=Console(quiet=True),
            **settings,
        )

    return call


def test_a_stopped_examination_continues_and_equals_an_unbroken_one(examine, fast, tmp_path):
    whole = examine(name="whole")
    STOP_AT.add("2")
    fast.measured.clear()
    with pytest.raises(dn.Interrupted) as stop:
        examine(name="stopped")
    assert stop.value.run == tmp_path / "examine" / "stopped"
    STOP_AT.clear()
    continued = examine()  # the newest of the same network, images and settings
    assert continued.path == stop.value.run
    assert fast.measured == ["1", "2"]
    assert continued.results == whole.results
    assert examine().results == whole.results
    assert fast.measured == ["1", "2"]  # nothing is measured again
    assert {f.name for f in continued.path.iterdir()} == {
        "config.yaml",
        "losses.json",
        "report.html",
    }
    assert examine(sections={"losses": {"factor": 2.0}}).path not in (whole.path, continued.path)


@pytest.mark.parametrize("accelerator", ["mps", "tpu"])
def test_a_device_that_is_not_there_is_named(accelerator, tmp_path):
    said = f"accelerator: '{accelerator}' cannot be used"
    with pytest.raises(dn.SettingError, match=said):
        dn.examine(linear, "digits", runs=tmp_path, accelerator=accelerator)


def test_a_network_whose_code_has_changed_is_another_network(examine, tmp_path, monkeypatch):
    """Its layers are the same: only `forward` differs."""
    made = []
    for change in ("relu()", "tanh()"):
        (tmp_path / "own_net.py").write_text(
            "from torch import nn\n"
            "class Net(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.layer = nn.Linear(64, 10)\n"
            f"    def forward(self, x): return self.layer(x.flatten(1)).{change}\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        sys.modules.pop("own_net", None)
        importlib.invalidate_caches()
        own = importlib.import_module("own_net")
        made.append(identify(own.Net, own.Net()))
    assert made[0] != made[1]


def test_a_result_without_a_finite_number_is_valid_json():
    found = Losses((math.inf, -math.inf, 1.0))
    text = json.dumps(as_json(found), allow_nan=False)
    assert from_json(Losses, json.loads(text)) == found
    assert from_json(Losses, json.loads('{"losses": [Infinity]}')).losses == (math.inf,)


def test_the_page_shows_the_answer_and_needs_no_other_file(examine):
    page = examine().page.read_text("utf-8")
    for text in ("How large are the losses?", "The last is", "A paper, 2020", "x &lt; y", "<svg"):
        assert text in page
    assert "src=" not in page
    assert 'href="http' not in page


def test_a_result_is_read_as_it_was_written_and_checked(examine, fast, tmp_path):
    found = Losses((1.0, 2.5), None)
    assert from_json(Losses, json.loads(json.dumps(as_json(found)))) == found
    assert from_json(Losses, {"losses": [1.0]}) == Losses((1.0,))  # older than the second field
    for wrong in ({"name": "a"}, {"losses": ["1"], "name": None}, {"losses": 1, "name": None}):
        with pytest.raises(ValueError, match=r"^result"):
            from_json(Losses, wrong)
    file = examine().path / "losses.json"
    file.write_text(file.read_text().replace('"name"', '"nome"'))
    with pytest.raises(ValueError, match=r"losses\.json: .*losses, name.*delete it"):
        read_section(file, fast())


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["digits", "--only", "lossses"], "did you mean 'losses'"),
        (["runs/train/none"], "runs/train/none"),
        (["digitz"], "did you mean 'digits'"),
        (["resnet81"], "did you mean 'resnet18'"),
        (["digits", "--set", "losses.factr=2"], "did you mean 'factor'"),
        (["digits", "--set", "losses.factor=a"], "losses.factor"),
        (["digits", "--set", "factor"], "PART.KEY=VALUE"),
        (["digits", "--on", "digts"], "on: unknown data set or folder 'digts': did you mean"),
        (["nothing.py:net"], "nothing.py"),
        (["digits", "--epochs", "0"], "epochs: expected"),
        (["digits", "--name", "../x"], "name: expected"),
    ],
)
def test_bad_input_is_one_line(argv, named, fast, capsys, tmp_path):
    assert named in refused(main, ["examine", *argv, f"--runs={tmp_path}"], capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {chanels: 4}", "own.yaml: unknown config key 'model.chanels': did you mean"),
        ("sections: {losses: {factor: 2}}", "own.yaml: unknown config key 'sections'"),
        ("model: {channels: four}", "model.channels: expected int"),
    ],
)
def test_an_unknown_key_of_a_config_is_one_line(text, message, fast, capsys, tmp_path):
    config = tmp_path / "own.yaml"
    config.write_text(text)
    argv = ["examine", "resnet18", "--on=digits", f"--config={config}", f"--runs={tmp_path}"]
    assert message in refused(main, argv, capsys)
    assert [*tmp_path.iterdir()] == [config]


def test_every_list_of_every_section_names_the_item_that_is_wrong():
    lists = 0
    for name, cls in sections._SECTIONS.items():
        for setting, parameter in inspect.signature(cls, eval_str=True).parameters.items():
            if isinstance(parameter.default, tuple):
                lists += 1
                key = f"sections.{name}.{setting}"
                with pytest.raises(dn.SettingError, match=rf"^{key}\[0\]: expected a .*, got None"):
                    sections.make_sections((), {name: {setting: [None]}})
                with pytest.raises(dn.SettingError, match=f"^{key}: expected a list, got 3"):
                    sections.make_sections((), {name: {setting: 3}})
    assert lists > 5


def test_images_that_do_not_suit_a_network_and_another_examination_are_one_line(
    examine, fast, capsys, tmp_path
):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from torch import nn\n"
        "def net(num_classes, in_channels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(49, num_classes))\n"
    )
    argv = ["examine", f"{plugin}:net", f"--runs={tmp_path}", "--accelerator=cpu"]
    assert "images of (1, 8, 8)" in refused(main, argv, capsys)
    examine(name="mine")
    argv = ["examine", "alexnet", "--name=mine", f"--runs={tmp_path}", "--accelerator=cpu"]
    assert "another examination, whose network" in refused(main, argv, capsys)
    with pytest.raises(dn.SettingError, match=r"whose batch_size is 64, not 32"):
        examine(name="mine", batch_size=32)
    with pytest.raises(dn.SettingError, match=r"whose seed is 0, not 1"):  # also other images
        examine(name="mine", seed=1)
    lock = RunLock(tmp_path / "examine" / "mine")
    lock.take()
    try:
        with pytest.raises(dn.SettingError, match=r"^name: another process is working on"):
            examine(name="mine")
    finally:
        lock.release()


def test_the_command_examines_a_function_of_a_plugin(fast, tmp_path, capsys):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from torch import nn\n"
        "def net(num_classes, in_channels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    few = ["--samples=40", "--epochs=2", "--accelerator=cpu", f"--runs={tmp_path}"]
    main(["examine", f"{plugin}:net", "--set=losses.factor=3", *few])
    printed = capsys.readouterr().out
    assert "losses: at most about" in printed
    assert f"page: {tmp_path}/examine/digits-" in printed
