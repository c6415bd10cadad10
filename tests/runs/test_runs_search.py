"""A search from its settings to its card: the command and the function find the same."""

import csv
import io
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
import yaml
from conftest import ROOT, SMALL_SEARCH, refused, search
from rich.console import Console

import darts_noise as dn
from darts_noise.report.alpha_history import read_history
from darts_noise.runs import search_outputs
from darts_noise.runs.folder import newest_run
from darts_noise.runs.search_outputs import SearchOutputs
from darts_noise.search.module import SearchModule

DATA = {"name": "digits", "train_samples": 80, "batch_size": 20}
CONFIG = dn.SearchConfig(
    "low_pass", nodes=1, channels=4, num_cells=3, stem="small", noise_samples=40
)
TRAINER = dn.TrainerConfig(accelerator="cpu", max_epochs=1, enable_progress_bar=False)


def search_in(folder, name="a", **settings) -> dn.SearchResult:
    """A short search by the function, with some settings in place of these."""
    settings = {"config": CONFIG, "trainer": TRAINER, **settings}
    run = settings.pop("run", dn.RunConfig(name=name, runs=str(folder), wandb="off"))
    return dn.search(settings.pop("data", dn.ImageDataModule(**DATA)), run=run, **settings)


SUFFIXES = ("png", "svg")


def test_what_it_leaves(small_runs):
    run = small_runs.search
    drawn = [f"{name}.{kind}" for name in ("cells", "alpha", "film", "curves") for kind in SUFFIXES]
    for file in [*drawn, "genotype.json", "alpha.json", "history.json", "card.md"]:
        assert (run / file).stat().st_size > 0, file
    for file in ["metrics.csv", "config.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt"]:
        assert (run / file).stat().st_size > 0, file
    assert list((run / "wandb").glob("offline-run-*/*.wandb"))
    assert (small_runs.root / "search" / "latest").resolve() == run.resolve()


def test_what_it_prints(small_runs):
    said = small_runs.said
    assert f"search: {small_runs.search}\n" in said
    assert f"cell: {small_runs.search / 'genotype.json'}\n" in said
    assert f"next: python train.py --runs {small_runs.root}\n" in said


def test_metrics_have_one_row_per_epoch(small_runs):
    rows = list(csv.DictReader((small_runs.search / "metrics.csv").open()))
    assert [row["epoch"] for row in rows if row["train/loss"]] == ["0", "1"]
    assert all(row["val/accuracy"] and row["noise/penalty"] for row in rows)


def test_the_history_ends_with_the_cell_that_was_found(small_runs):
    history = read_history(small_runs.search / "history.json")
    assert [moment.epoch for moment in history.moments] == [1, 2]
    assert history.moments[-1].genotype == dn.load_genotype(small_runs.search)


def test_the_cell_is_that_of_the_final_alpha(small_runs):
    """genotype.json, alpha.json and the last checkpoint tell of the same α."""
    run = small_runs.search
    alpha = json.loads((run / "alpha.json").read_text())["alpha"]
    held = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for kind in ("normal", "reduce"):
        assert torch.equal(torch.tensor(alpha[kind]), held[f"arch.{kind}"])
    arch = dn.Architecture("bounded", 1)
    arch.load_state_dict({k: torch.tensor(v) for k, v in alpha.items()})
    assert arch.genotype() == dn.load_genotype(run)


def test_the_card_says_what_was_searched(small_runs):
    card = json.loads((small_runs.search / "card.json").read_text())
    expected = {"space": "bounded", "hypergradient": "first_order", "channels": 4, "num_cells": 3}
    assert {key: card[key] for key in expected} == expected
    assert (card["train_samples"], card["epochs"], card["seed"]) == (40, 2, 0)
    text = (small_runs.search / "card.md").read_text()
    for row in ("Hypergradient | first_order", "Noise family of the search | uniform", "λ | 1"):
        assert f"| {row} |" in text


def test_the_function_finds_what_the_command_found(small_runs, tmp_path, capsys, no_drawings):
    """With the settings in the run's own config; nothing is printed but to the console given."""
    stated = yaml.safe_load((small_runs.search / "config.yaml").read_text())
    console = Console(file=io.StringIO(), width=1000)
    found = dn.search(
        dn.ImageDataModule(**stated["data"]),
        dn.SearchConfig(**stated["model"]),
        trainer=dn.TrainerConfig(**stated["trainer"]),
        run=dn.RunConfig(name="f", runs=str(tmp_path), wandb="off"),
        console=console,
    )
    run = tmp_path / "search" / "f"
    assert isinstance(found, dn.SearchResult)
    assert found.path == run
    assert found.genotype == dn.load_genotype(small_runs.search)
    alpha = json.loads((small_runs.search / "alpha.json").read_text())["alpha"]
    assert {name: a.tolist() for name, a in found.alpha.items()} == alpha
    assert not any(a.requires_grad for a in found.alpha.values())
    for name in ("metrics.csv", "alpha.json", "genotype.json", "history.json"):
        assert (run / name).read_bytes() == (small_runs.search / name).read_bytes(), name
    assert found.card == json.loads((run / "card.json").read_text())
    assert found.stopped_because is None
    assert str(run) in console.file.getvalue()
    assert capsys.readouterr().out == ""
    assert not (run / "wandb").exists()


def test_the_config_of_a_run_gives_the_same_run(small_runs, tmp_path, no_drawings):
    config = small_runs.search / "config.yaml"
    search([f"--config={config}", f"--runs={tmp_path}", "--name=again", "--wandb=off"])
    again = tmp_path / "search" / "again"
    for file in ("metrics.csv", "alpha.json", "genotype.json"):
        assert (again / file).read_bytes() == (small_runs.search / file).read_bytes()
    stated = [yaml.safe_load((run / "config.yaml").read_text()) for run in (again, config.parent)]
    for key in ("runs", "name", "wandb"):
        assert stated[0].pop(key) != stated[1].pop(key)
    assert stated[0] == stated[1]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_function_that_is_interrupted_says_which_run_can_go_on(
    sent, tmp_path, monkeypatch, no_drawings
):
    unbroken = search_in(tmp_path, "unbroken")
    step = SearchModule._step_alpha
    with monkeypatch.context() as patch:
        patch.setattr(SearchModule, "_step_alpha", lambda *a: signal.raise_signal(sent) or step(*a))
        with pytest.raises(dn.Interrupted) as stop:
            search_in(tmp_path, "broken")
    run = tmp_path / "search" / "broken"
    assert isinstance(stop.value, KeyboardInterrupt)
    assert (stop.value.run, stop.value.status) == (run, 128 + sent)
    assert str(run) in str(stop.value)
    assert not (run / "card.json").exists()
    resumed = search_in(
        tmp_path, run=dn.RunConfig(resume=str(run), runs=str(tmp_path), wandb="off")
    )
    assert (resumed.path, resumed.genotype) == (run, unbroken.genotype)
    assert all(torch.equal(a, unbroken.alpha[name]) for name, a in resumed.alpha.items())


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"data": {"batch_size": 41}}, "data.batch_size"),
        ({"data": {"validation_fraction": 0.0}}, "data.validation_fraction"),
        ({"config": dn.SearchConfig("drats")}, "model.space"),
        ({"config": dn.SearchConfig(warmup_epochs=1)}, "trainer.max_epochs"),
        ({"trainer": dn.TrainerConfig(precision="16-mixed")}, "trainer.precision"),
        ({"trainer": dn.TrainerConfig(callbacks=["Nope"], max_epochs=9)}, "trainer.callbacks"),
        ({"run": dn.RunConfig(resume="z", runs="nowhere")}, "resume"),
    ],
)
def test_a_function_raises_the_error_of_a_setting_with_its_key(settings, key, tmp_path):
    if "data" in settings:
        settings = {"data": dn.ImageDataModule(**{**DATA, **settings["data"]})}
    with pytest.raises(dn.SettingError) as error:
        search_in(tmp_path, **settings)
    assert error.value.key == key
    assert not list(tmp_path.rglob("*.*"))


class Steps(pl.Callback):
    """Counts the steps of a training."""

    def __init__(self):
        self.count = 0

    def on_train_batch_end(self, *args):
        self.count += 1


def test_data_and_callbacks_may_be_objects(tmp_path, no_drawings):
    images = dn.load_dataset("digits")
    few = replace(images, name="sixty", train=images.train.subset(range(60)))

    @dn.register_dataset
    def sixty(root, image_size, grey):
        return few

    steps = Steps()
    trainer = dn.TrainerConfig(accelerator="cpu", max_epochs=1, callbacks=[steps])
    data = dn.ImageDataModule("sixty", batch_size=10)
    found = search_in(tmp_path, data=data, trainer=trainer)
    assert steps.count == 3
    assert (found.card["dataset"], found.card["train_samples"]) == ("sixty", 30)
    stated = yaml.safe_load((found.path / "config.yaml").read_text())
    assert stated["data"]["name"] == "sixty"
    assert stated["trainer"]["callbacks"] == [f"{Steps.__module__}.Steps"]


def test_a_search_that_diverges_is_one_line_and_stays(tmp_path, capsys, no_drawings):
    rates = ["--model.learning_rate=1e9", "--model.learning_rate_min=1e8"]
    rates += ["--model.space=low_pass", "--model.optimiser=sgd"]
    wild = [*rates, "--model.gradient_clip=0", "--wandb=off", "--name=a", f"--runs={tmp_path}"]
    error = refused(search, [*SMALL_SEARCH, *wild], capsys)
    assert "finite" in error
    assert f"the results so far are in {tmp_path / 'search' / 'a'}" in error
    assert (tmp_path / "search" / "a" / "config.yaml").is_file()


def test_a_search_without_a_cell_is_not_the_newest(tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise ValueError("image 7 cannot be read")

    monkeypatch.setattr(SearchModule, "training_step", fail)
    old = tmp_path / "search" / "old"
    old.mkdir(parents=True)
    dn.load_genotype("darts_v1").to_json(old / "genotype.json")
    (tmp_path / "search" / "latest").symlink_to("old")
    argv = [*SMALL_SEARCH, "--name=failed", "--wandb=off", f"--runs={tmp_path}"]
    assert "image 7 cannot be read" in refused(search, argv, capsys)
    assert (tmp_path / "search" / "failed" / "config.yaml").is_file()
    assert newest_run(tmp_path, "search") == old


def test_a_taken_name_leaves_what_is_there(tmp_path, capsys):
    taken = tmp_path / "search" / "mine"
    taken.mkdir(parents=True)
    (taken / "genotype.json").write_text("precious")
    error = refused(search, [*SMALL_SEARCH, "--name=mine", f"--runs={tmp_path}"], capsys)
    assert "use another --name" in error
    assert [p.name for p in taken.iterdir()] == ["genotype.json"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trainer.max_steps=2", "--model.warmup_epochs=1"], ["trainer.max_steps: ", "got 2"]),
        (["--trainer.limit_val_batches=0.001"], ["trainer: ", "limit_val_batches"]),
    ],
)
def test_a_setting_that_is_refused_before_the_first_step_leaves_no_folder(
    options, words, tmp_path, capsys
):
    error = refused(search, [*SMALL_SEARCH, *options, "--wandb=off", f"--runs={tmp_path}"], capsys)
    assert [word for word in words if word not in error] == [], error
    assert "results so far" not in error
    assert not any((tmp_path / "search").iterdir())


@pytest.mark.parametrize(
    ("kind", "function"),
    [("search", dn.search), ("train", lambda data, **more: dn.train("darts_v1", data, **more))],
)
def test_a_taken_name_is_refused_before_the_images_are_read(kind, function, tmp_path):
    (tmp_path / kind / "mine").mkdir(parents=True)
    data = dn.ImageDataModule("image_folder", root=str(tmp_path / "nowhere"))
    with pytest.raises(dn.SettingError, match="use another --name"):
        function(data, run=dn.RunConfig(name="mine", runs=str(tmp_path)))


def test_the_next_command_is_one_that_finds_the_cell(tmp_path, capsys, no_drawings):
    runs = tmp_path / "my runs"
    more = ["--wandb=off", f"--runs={runs}", "--model.noise_weight=0", "--trainer.max_epochs=1"]
    search([*SMALL_SEARCH, *more, "--model.variants=gdas"])
    assert f"next: python train.py --runs '{runs}'\n" in capsys.readouterr().out
    [card] = runs.glob("search/latest/card.md")
    assert "Noise family" not in card.read_text()
    assert json.loads(card.with_suffix(".json").read_text())["variants"] == {"gdas": None}


@pytest.mark.slow
def test_ctrl_c_in_a_process_of_its_own_leaves_what_was_found(tmp_path):
    own = [f"--runs={tmp_path}", "--name=s", "--wandb=off", "--trainer.max_epochs=500"]
    process = subprocess.Popen(
        [sys.executable, "search.py", *SMALL_SEARCH, *own],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell that runs the tests in the background has its children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    run = tmp_path / "search" / "s"
    deadline = time.monotonic() + 300
    while not (run / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert f"interrupted; the results so far are in {run}" in output
    assert f"to resume: python search.py --resume {run}" in output
    for file in ("genotype.json", "alpha.json", "cells.png", "metrics.csv"):
        assert (run / file).stat().st_size > 0


@pytest.mark.parametrize(("took", "apart"), [(0.1, 60), (6.0, 300)])
def test_drawings_are_a_minute_apart_and_a_small_share_of_the_time(took, apart, monkeypatch):
    clock, drawn = [0.0], []

    def draw(*_):
        drawn.append(clock[0])
        clock[0] += took

    monkeypatch.setattr(search_outputs, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    outputs = SearchOutputs(Path(), 0.1)
    monkeypatch.setattr(outputs, "draw", draw)
    while clock[0] < 4 * apart:
        outputs.redraw(None, None, 10, [])
        clock[0] += 1.0
    gaps = [later - before for before, later in pairwise(drawn)]
    assert len(gaps) >= 2
    assert all(apart <= gap <= apart + took + 1 for gap in gaps)
    assert len(drawn) * took <= 0.021 * clock[0] + took
