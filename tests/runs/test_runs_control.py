"""The control of a training: the same cell with batch norm, trained beside it in the same way."""

import json
from dataclasses import replace

import pytest
from conftest import SMALL_TRAIN, train, undrawn
from pytorch_lightning.callbacks import EarlyStopping

import darts_noise as dn
from darts_noise.runs import noise_check
from darts_noise.train.control_networks import with_batch_norm
from darts_noise.train.module import TrainModule

pytestmark = pytest.mark.usefixtures("no_drawings")
SIZE = {"pooling": "average_2", "width": 0.5}
MACRO = {**SIZE, "normalisation": "none"}
OWN = [*SMALL_TRAIN, "--trainer.max_epochs=2", "--wandb=off", "--noise_samples=40"]


@pytest.fixture(scope="module")
def cell():
    """A cell without norms."""
    return replace(dn.load_genotype("darts_v1"), macro=MACRO)


def run_of(tmp_path, name, cell, *options):
    """The folder of a training and its card."""
    cell.to_json(tmp_path / "cell.json")
    where = [f"--model.genotype={tmp_path / 'cell.json'}", f"--runs={tmp_path}", f"--name={name}"]
    train([*OWN, *where, *options])
    run = tmp_path / "train" / name
    return run, json.loads((run / "card.json").read_text())


@pytest.fixture(scope="module")
def whole(cell, tmp_path_factory):
    """An unbroken run and its control."""
    with undrawn():
        return run_of(tmp_path_factory.mktemp("whole"), "a", cell)


@pytest.mark.parametrize(
    "macro",
    [
        MACRO,
        {"gain": "bounded", "logit_scale": 64.0, "reduction": "average"},
        {"contrast": "smooth", "input_filter": "blur_3x3"},
        {"input_filter": "blur_5x5", "width": 0.5},
        {"colour": "tinted"},
    ],
)
def test_the_control_differs_from_the_cell_only_in_what_keeps_noise_out(macro):
    cell = replace(dn.load_genotype("darts_v2"), macro=macro)
    control = with_batch_norm(cell)
    assert (control.choice("normalisation"), control.choice("gain")) == ("batch", "free")
    assert control.choice("logit_scale") == 1
    assert control.choice("contrast") == "none"
    assert (control.choice("colour"), control.choice("input_filter")) == ("all", "none")
    changed = {"normalisation", "gain", "logit_scale", "contrast", "input_filter", "colour"}
    assert {**control.macro} == {k: v for k, v in macro.items() if k not in changed}
    assert replace(control, macro=macro) == cell
    assert with_batch_norm(control) is None


def test_the_control_is_what_a_training_of_that_cell_gives(tmp_path, cell, capsys):
    families = "--noise_family=[uniform, random_labels]"
    run, card = run_of(tmp_path, "a", cell, families)
    printed = capsys.readouterr().out
    _, alone = run_of(tmp_path, "b", with_batch_norm(cell), families)
    control = card["control"]
    assert "control" not in alone
    for key in ("test_accuracy", "noise_accuracy", "parameters", "multiply_adds"):
        assert control[key] == alone[key]
    assert control["other_noise"] == [alone["other_noise"][0]["noise_accuracy"]]
    accuracy = alone["noise_accuracy"]
    assert card["noise"]["controls"] == {"with batch norm": accuracy}
    others = card["other_noise"][0]["noise"]["controls"]
    assert others == {"with batch norm": control["other_noise"][0]}
    for text in (printed, (run / "card.md").read_text()):
        assert f"{100 * alone['test_accuracy']:.2f}%" in text
        assert f"{100 * accuracy:.2f}%" in text
    [line] = [line for line in printed.splitlines() if line.startswith("control: Test")]
    other = 100 * alone["other_noise"][0]["noise_accuracy"]
    assert f"Training-noise accuracy, random_labels {other:.2f}%" in line
    assert dn.load_pretrained(run / "bundle").genotype == cell
    assert (tmp_path / "train" / "latest").resolve().name == "b"


def test_the_control_changes_nothing_for_the_cell(whole, tmp_path, cell):
    run, card = whole
    other, without = run_of(tmp_path, "b", cell, "--noise_controls=[]")
    assert "control" not in without
    assert not (other / "control").exists()
    assert (run / "metrics.csv").read_text() == (other / "metrics.csv").read_text()
    for key in ("test_loss", "noise_accuracy", "objective"):
        assert card[key] == without[key]
    assert (run.parent / "latest").resolve() == run.resolve()


def test_callbacks_that_count_start_anew_for_the_control(tmp_path, cell):
    """Otherwise a control that learns would be stopped by what early stopping saw of the cell."""

    def trained(genotype, name):
        patient = EarlyStopping("train/loss", patience=1, min_delta=100.0)  # after two epochs
        return dn.train(
            genotype,
            dn.ImageDataModule("digits", train_samples=80, batch_size=20),
            dn.TrainConfig(channels=4, num_cells=3, stem="small", auxiliary_weight=0),
            noise=dn.NoiseConfig(samples=40),
            trainer=dn.TrainerConfig(accelerator="cpu", max_epochs=5, callbacks=[patient]),
            run=dn.RunConfig(name=name, runs=str(tmp_path), wandb="off"),
        )

    control = trained(cell, "a").card["control"]
    card = trained(with_batch_norm(cell), "b").card
    assert card["epochs"] == 2
    for key in ("test_accuracy", "noise_accuracy"):
        assert control[key] == card[key]


def test_a_run_that_is_stopped_in_its_control_goes_on_there(
    whole, tmp_path, cell, capsys, monkeypatch
):
    step, steps = TrainModule.optimizer_step, []

    def stopped(self, *args, **settings):
        steps.append(self)
        if len(steps) == 9:  # the run makes 3 in each of 2 epochs; then the control begins
            raise KeyboardInterrupt
        step(self, *args, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(TrainModule, "optimizer_step", stopped)
        with pytest.raises(SystemExit) as stop:
            run_of(tmp_path, "broken", cell)
    assert stop.value.code == 130
    assert f"--resume {tmp_path / 'train' / 'broken'}\n" in capsys.readouterr().out
    broken = tmp_path / "train" / "broken"
    assert "not finished" in (broken / "card.md").read_text()
    train(["--resume=broken", f"--runs={tmp_path}"])
    card = json.loads((broken / "card.json").read_text())
    assert card["control"] == whole[1]["control"]
    assert card["noise_accuracy"] == whole[1]["noise_accuracy"]


def test_an_ended_control_is_not_trained_again(whole, tmp_path, cell, monkeypatch):
    def stops(*args, **settings):
        raise KeyboardInterrupt

    real, calls = noise_check.noise_fit, []

    def second(*args, **settings):
        calls.append(args)
        return real(*args, **settings) if len(calls) == 1 else stops()

    with monkeypatch.context() as patch:
        patch.setattr(noise_check, "noise_fit", second)
        with pytest.raises(SystemExit):
            run_of(tmp_path, "broken", cell)
    control = tmp_path / "train" / "broken" / "control" / "batch_norm" / "card.json"
    written = control.stat().st_mtime_ns
    train(["--resume=broken", f"--runs={tmp_path}"])
    assert control.stat().st_mtime_ns == written
    card = json.loads((tmp_path / "train" / "broken" / "card.json").read_text())
    assert card["control"] == whole[1]["control"]


def test_a_control_that_fails_is_left_out_with_one_line(tmp_path, cell, capsys, monkeypatch):
    real, calls = noise_check.noise_fit, []

    def first_fails(*args, **settings):
        calls.append(args)
        if len(calls) == 1:
            raise RuntimeError("out of\nmemory")
        return real(*args, **settings)

    monkeypatch.setattr(noise_check, "noise_fit", first_fails)
    _, card = run_of(tmp_path, "a", cell)
    assert "control: left out, because it failed: " in capsys.readouterr().out
    assert "control" not in card
    assert card["noise_accuracy"] is not None
    assert card["noise"]["controls"] == {}


def test_only_an_empty_list_is_accepted_with_quick():
    assert dn.NoiseConfig(controls=[]).controls == []
    with pytest.raises(dn.SettingError, match="controls: "):
        dn.NoiseConfig(controls=["alexnet"])
