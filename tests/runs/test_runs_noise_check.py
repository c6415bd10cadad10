"""Noise in a search and after a training: families, protocols, interruption, what is refused."""

import json
from dataclasses import replace

import pytest
import torch
import yaml
from conftest import SMALL_SEARCH, SMALL_TRAIN, refused, search, train
from PIL import Image

import darts_noise as dn
from darts_noise.noise.families import fingerprint
from darts_noise.runs import noise_check
from darts_noise.runs.folder import has_ended
from darts_noise.runs.noise_check import noise_rows
from darts_noise.train import noise_runs
from darts_noise.train.control_networks import alexnet
from darts_noise.train.module import TrainModule

pytestmark = pytest.mark.usefixtures("no_drawings")
ONE_EPOCH = ["--trainer.max_epochs=1", "--wandb=off"]
CELL = [*SMALL_TRAIN, *ONE_EPOCH, "--model.genotype=darts_v1"]
CONVERGED = [
    "--noise_protocol=converged",
    "--noise_samples=40",
    "--noise_epochs=2",
    "--noise_controls=[alexnet]",
    "--noise_grid.sgd_rates=[0.1]",
    "--noise_grid.adam_rates=[0.01]",
    "--noise_grid.muon_rates=[]",
    "--noise_grid.seeds=1",
    "--noise_grid.scales=[1]",
]
GRID = dn.NoiseGrid(sgd_rates=(0.1,), adam_rates=(0.01,), muon_rates=(), seeds=1, scales=(1,))


def run_of(tmp_path, name, *options):
    """What a training leaves: its folder and its card."""
    train([*CELL, *options, f"--runs={tmp_path}", f"--name={name}"])
    run = tmp_path / "train" / name
    return run, json.loads((run / "card.json").read_text())


def without_times(record):
    runs = [{**run, "seconds": 0} for run in record["runs"]]
    return json.loads(json.dumps({**record, "seconds": 0, "runs": runs}))


def test_each_named_family_has_its_row_and_the_default_is_that_of_the_search(tmp_path, capsys):
    """With a file of its own, so that a stopped run goes on with each."""
    cell = tmp_path / "cell.json"
    meta = {"noise_family": "shuffled_pixels", "dataset": "digits"}
    replace(dn.load_genotype("darts_v1"), meta=meta).to_json(cell)
    _, card = run_of(tmp_path, "a", f"--model.genotype={cell}", "--noise_samples=20")
    assert card["noise"]["family"] == "shuffled_pixels"
    assert "other_noise" not in card
    families = "--noise_family=[uniform, {random_labels: 1}]"
    run, card = run_of(tmp_path, "b", families, *CONVERGED)
    said = capsys.readouterr().out
    assert "noise fit, network on uniform noise, " in said
    assert "noise fit, network on random_labels noise, " in said
    assert "random_labels noise: " in said.splitlines()[-1]  # the verdict
    assert card["noise"]["family"] == "uniform"
    assert [other["noise"]["family"] for other in card["other_noise"]] == ["random_labels"]
    shown = (run / "card.md").read_text("utf-8")
    assert "| Training-noise accuracy, random_labels | " in shown
    kept = [(run / name).read_text() for name in ("noise_runs.json", "noise_runs_2.json")]
    found = [noise["fingerprint"] for noise in (card["noise"], card["other_noise"][0]["noise"])]
    assert [digest in text for text in kept for digest in found] == [True, False, False, True]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["noise_family"] == ["uniform", {"random_labels": 1}]


def test_the_noise_is_normalised_as_the_images(tmp_path, monkeypatch):
    """Without that, the channels of a grey image would differ."""
    real, seen = noise_check.noise_fit, []

    def noted(*args, normalisation, **settings):
        seen.append(normalisation)
        return real(*args, normalisation=normalisation, **settings)

    monkeypatch.setattr(noise_check, "noise_fit", noted)
    run, _ = run_of(tmp_path, "a", "--noise_samples=20")
    config = json.loads((run / "bundle" / "config.json").read_text())["images"]
    assert [list(seen[0].mean), list(seen[0].std)] == [config["mean"], config["std"]]


def test_a_file_of_noise_runs_is_of_one_family():
    with pytest.raises(dn.SettingError, match="runs: "):
        dn.NoiseConfig(family=["uniform", "blur"], protocol="converged", runs="noise_runs.json")
    with pytest.raises(dn.SettingError, match="family: "):
        dn.NoiseConfig(family=[])


def test_converged_is_what_the_function_measures_and_the_card_says_all_of_it(tmp_path, capsys):
    run, card = run_of(tmp_path, "a", *CONVERGED)
    data = dn.ImageDataModule("digits", train_samples=80, validation_fraction=0.1)
    data.setup()
    fit = dn.noise_fit(
        "darts_v1",
        data.train,
        protocol="converged",
        samples=40,
        epochs=2,
        batch_size=20,
        recipe={"channels": 4, "num_cells": 3, "stem": "small"},
        grid=GRID,
        controls={"alexnet": alexnet},
        trainer={"accelerator": "cpu"},
    )
    assert without_times(card["noise"]) == without_times(fit.to_dict())
    assert card["noise_accuracy"] == fit.accuracy
    shown = (run / "card.md").read_text()
    for line in (
        f"| Training-noise accuracy | {100 * fit.accuracy:.2f}% |",
        "| Noise protocol | converged: 40 uniform images, at most 2 epochs, best constant answer ",
        "| Trainings on noise | SGD 0.1; Adam 0.01; initial weights × 1; 1 seed each; weight ",
        f"| Of these, diverged | 0 of {len(fit.runs)} |",
        "| The same trainings on real images | 40 real images fitted to "
        f"{100 * fit.real_accuracy:.2f}% (too little: the noise accuracy proves nothing) |",
        f"| Positive control's noise accuracy | alexnet {100 * fit.controls['alexnet']:.2f}% "
        "(too little: the measurement was too weak) |",
    ):
        assert line in shown
    assert len(fit.runs) == 6  # two rates on noise, on real images and of the control
    assert capsys.readouterr().out.count("noise fit, ") == 6  # a line for each training
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["noise_protocol"] == "converged"
    assert config["noise_grid"]["sgd_rates"] == [0.1]
    again = [f"--config={run / 'config.yaml'}", f"--runs={tmp_path}", "--name=b"]
    train(again)
    repeated = json.loads((tmp_path / "train" / "b" / "card.json").read_text())
    assert without_times(repeated["noise"]) == without_times(card["noise"])


def test_the_training_on_data_is_the_same_whatever_is_measured_after_it(tmp_path):
    runs = [
        run_of(tmp_path, "a", *CONVERGED),
        run_of(tmp_path, "b", "--noise_check=false"),
    ]
    assert len({(run / "metrics.csv").read_text() for run, _ in runs}) == 1
    assert len({card["test_loss"] for _, card in runs}) == 1


def test_an_interrupted_measurement_goes_on_in_another_run(tmp_path, capsys, monkeypatch):
    _, whole = run_of(tmp_path, "whole", *CONVERGED)
    real, made = noise_runs.measure_fit, []

    def counted(*args, **settings):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(settings)
        return real(*args, **settings)

    monkeypatch.setattr(noise_runs, "measure_fit", counted)
    with pytest.raises(SystemExit) as stop:
        run_of(tmp_path, "broken", *CONVERGED)
    assert stop.value.code == 130
    file = tmp_path / "train" / "broken" / "noise_runs.json"
    assert f"--noise_runs {file}" in capsys.readouterr().out
    before = file.read_text()
    made.clear()
    left = len(whole["noise"]["runs"]) - 3
    made[:] = [None] * (3 - left)
    _, card = run_of(tmp_path, "on", *CONVERGED, f"--noise_runs={file}")
    assert len(made) == 3
    assert without_times(card["noise"]) == without_times(whole["noise"])
    assert file.read_text() == before


def test_selectivity_has_a_row_of_its_own(tmp_path, capsys):
    options = [option for option in CONVERGED[1:] if "controls" not in option]
    run, card = run_of(tmp_path, "a", "--noise_protocol=selectivity", *options)
    assert card["noise_accuracy"] is None
    assert card["noise"]["protocol"] == "selectivity"
    expected = card["noise"]["shown_selectivity"] or "not measured: no training reached half"
    row = next(r for r in (run / "card.md").read_text().splitlines() if "Selectivity" in r)
    assert f"| Selectivity (steps on noise / on data) | {expected}" in row
    assert card["positive_control"] is None


@pytest.mark.parametrize(
    ("accuracies", "shown"),
    [
        ({"resnet18": 1.0}, "resnet18 100.00%"),
        ({"a": 0.5, "b": 0.99}, "a 50.00%, b 99.00%"),
        ({"a": 0.5}, "a 50.00% (too little: the measurement was too weak)"),
        ({"a": float("nan")}, "a diverged (too little: the measurement was too weak)"),
        ({}, None),
    ],
)
def test_a_weak_control_is_flagged(accuracies, shown):
    fit = dn.NoiseFit("converged", "uniform", 0.2, 0.2, 0.1, 9, 9, 0, "", 1.0, controls=accuracies)
    assert noise_rows(fit, GRID)["positive_control"] == shown


def test_where_every_training_diverged_the_card_says_so(tmp_path):
    wild = [
        "--noise_grid.sgd_rates=[1e30]",
        "--noise_grid.adam_rates=[]",
        "--noise_grid.muon_rates=[]",
        "--noise_grid.seeds=1",
    ]
    more = ["--noise_grid.gradient_clip=0", "--noise_controls=[]", "--noise_grid.scales=[1]"]
    run, card = run_of(tmp_path, "a", *CONVERGED[:3], *wild, *more)
    assert card["diverged"] == ["noise_accuracy"]
    assert card["noise"]["accuracy"] is None
    shown = (run / "card.md").read_text()
    assert "| Training-noise accuracy | diverged |" in shown
    assert "| Of these, diverged | 2 of 2 |" in shown  # one on noise, one on real images
    assert "| 40 real images fitted to diverged (too little" in shown


def test_a_last_batch_of_one_image_does_not_end_the_check(tmp_path):
    """8 pixels become a map of 1×1, in which a batch norm of one image finds no variance."""
    images = tmp_path / "images"
    for split, count in (("train", 18), ("test", 4)):
        for i in range(count):
            folder = images / split / f"class {i % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 10 * i).save(folder / f"{i}.png")
    data = [
        "--data.name=image_folder",
        f"--data.root={images}",
        "--data.batch_size=17",
        "--data.validation_fraction=0",
    ]
    data += ["--data.train_samples=null", "--data.image_size=8", "--model.stem_stride=2"]
    _, card = run_of(tmp_path, "a", *data)
    assert card["noise"]["samples"] == 18
    assert card["noise_accuracy"] is not None
    grid = [*CONVERGED[4:], "--noise_protocol=converged", "--noise_epochs=1"]
    _, card = run_of(tmp_path, "b", *data, *grid)
    assert card["noise"]["samples"] == 18


def test_a_check_that_fails_leaves_the_clean_result_and_a_run_that_goes_on(
    tmp_path, capsys, monkeypatch
):
    def fails(*args, **settings):
        raise RuntimeError("out of\nmemory")

    with monkeypatch.context() as patch:
        patch.setattr(noise_check, "noise_fit", fails)
        line = refused(train, [*CELL, f"--runs={tmp_path}", "--name=a"], capsys)
    assert "noise check: out of memory; " in line
    assert "--resume a" in line
    run = tmp_path / "train" / "a"
    clean = json.loads((run / "card.json").read_text())
    assert 0 <= clean["test_accuracy"] <= 1
    assert clean["noise_accuracy"] is None
    assert "| Noise check | not finished" in (run / "card.md").read_text()
    assert dn.load_pretrained(run / "bundle").genotype == dn.load_genotype("darts_v1")
    assert not has_ended(run)
    train(["--resume=a", f"--runs={tmp_path}"])
    card = json.loads((run / "card.json").read_text())
    assert has_ended(run)
    assert "noise_check" not in card
    assert card["noise_accuracy"] is not None
    _, whole = run_of(tmp_path, "b")
    for key in ("test_accuracy", "test_loss", "noise_accuracy"):
        assert card[key] == whole[key]


@pytest.mark.parametrize(
    ("limit", "clean", "noise"),  # steps; of 70 images, noise alone has a last batch of ten
    [
        ("limit_train_batches=2", 4, 4),
        ("limit_train_batches=0.5", 2, 4),
        ("max_steps=3", 3, 3),
        ("overfit_batches=1", 2, 2),
        ("log_every_n_steps=1", 6, 8),
    ],
)
def test_the_quick_check_is_as_short_as_the_training(tmp_path, monkeypatch, limit, clean, noise):
    taken = []
    step = TrainModule.optimizer_step

    def counted(self, *args, **settings):
        taken.append(type(self))
        step(self, *args, **settings)

    monkeypatch.setattr(TrainModule, "optimizer_step", counted)
    _, card = run_of(tmp_path, "a", "--trainer.max_epochs=2", f"--trainer.{limit}")
    epochs = "1 epoch," if "max_steps" in limit else "2 epochs,"
    assert f", {epochs}" in card["noise_protocol"]
    on_noise = sum(kind is not TrainModule for kind in taken)
    assert (len(taken) - on_noise, on_noise) == (clean, noise)


def test_a_grid_says_that_it_does_not_follow_the_limit_of_the_training(tmp_path, capsys):
    run_of(tmp_path, "a", *CONVERGED, "--trainer.limit_train_batches=1", "--noise_epochs=1")
    assert "converged does not follow limit_train_batches; " in capsys.readouterr().out


def test_a_card_from_before_there_were_real_images_beside_noise_is_shown():
    fit = dn.NoiseFit("converged", "uniform", 0.2, 0.2, 0.1, 9, 9, 0, "", 1.0)
    assert "noise_real" not in noise_rows(fit, GRID)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--noise_protocol=selectivity", "--noise_samples=73"], "at most the 70 real images"),
        (["--noise_family=dataset:digits", "--noise_samples=2000"], "at most 1438"),
        ([*CONVERGED, "--noise_controls=[resnet19]"], "noise_controls: expected resnet18, "),
        ([*CONVERGED, "--noise_controls=[pooled_cnn]"], "pooled_cnn: cannot take images of (1, 8"),
        ([*CONVERGED, "--noise_runs=nowhere"], "noise_runs: expected the noise_runs.json of a r"),
        ([*CONVERGED, f"--noise_runs={__file__}"], "noise_runs: expected runs of a noise fit"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line_before_the_training(
    tmp_path, capsys, options, message
):
    argv = [*CELL, *options, f"--runs={tmp_path}", "--name=a"]
    assert message in refused(train, argv, capsys)
    assert not (tmp_path / "train").exists()


@pytest.fixture
def views(tmp_path):
    """A folder of 30 images in three classes."""
    for i in range(30):
        folder = tmp_path / "views" / f"view {i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 9), (8 * i, 0, 255 - 8 * i)).save(folder / f"{i}.png")
    return tmp_path / "views"


def test_a_mixture_is_searched_and_another_family_is_measured(views, tmp_path):
    mixture = {"uniform": 2.0, f"dataset:{views}": {"labels": "random", "weight": 1}}
    own = [*ONE_EPOCH, "--name=a", f"--runs={tmp_path}"]
    noise = ["--model.noise_samples=45", f"--model.noise_family={json.dumps(mixture)}"]
    search([*SMALL_SEARCH, *own, *noise])
    run = tmp_path / "search" / "a"
    real = dn.ImageDataModule("digits", train_samples=80)
    real.setup()
    card = json.loads((run / "card.json").read_text())
    named = f"33.3% dataset:{views} (random labels) + 66.7% uniform"
    assert card["noise_family"] == named
    assert card["noise_fingerprint"] == fingerprint(dn.make_noise(mixture, 45, real.train))
    assert f"| Noise family of the search | {named} |" in (run / "card.md").read_text()
    assert dn.load_genotype(run).meta["noise_family"] == mixture
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["noise_family"] == mixture
    held = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert held["hyper_parameters"]["noise_family"] == mixture

    train([*SMALL_TRAIN, *own, f"--noise_family=dataset:{views}"])
    run = tmp_path / "train" / "a"
    card = json.loads((run / "card.json").read_text())
    assert card["noise_family"] == mixture
    assert card["noise"]["family"] == f"dataset:{views}"
    assert card["noise"]["samples"] == 30  # all there are, fewer than the 72 real ones
    text = (run / "card.md").read_text()
    assert f"| Noise protocol | quick: 30 dataset:{views} images, 1 epoch," in text
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["noise_family"] == f"dataset:{views}"


def test_noise_that_cannot_be_made_is_said_before_the_training(capsys, tmp_path):
    argv = [*CELL, f"--runs={tmp_path}", f"--noise_family=dataset:{tmp_path}"]
    assert f"noise_family: 'dataset:{tmp_path}': " in refused(train, argv, capsys)
    assert not (tmp_path / "train").exists()
