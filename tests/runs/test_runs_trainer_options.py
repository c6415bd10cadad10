"""Every option of Lightning's Trainer works in a search and in a training, or is refused in one
line that names it."""

import csv
from dataclasses import fields
from datetime import timedelta
from typing import get_args

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.precision.precision import (
    _PRECISION_INPUT_STR,
    _PRECISION_INPUT_STR_ALIAS,
)
from pytorch_lightning.accelerators import AcceleratorRegistry
from pytorch_lightning.utilities.enums import GradClipAlgorithmType
from rich.console import Console

import darts_noise as dn
from darts_noise.cli.names import ACCELERATORS
from darts_noise.runs.run import plain
from darts_noise.runs.settings import CLIPPING, PRECISIONS

FEW = {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False}
STOP = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss"}}
KEEP = {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val/loss"}}
ACCUMULATE = {"class_path": "GradientAccumulationScheduler", "init_args": {"scheduling": {0: 2}}}


@pytest.fixture(scope="module")
def data():
    images = dn.ImageDataModule("digits", train_samples=40, batch_size=10, validation_fraction=0.5)
    images.setup()
    return images


@pytest.fixture
def run(data, tmp_path, no_drawings):
    """Two steps of a search or a training: ``run("search", check_val_every_n_epoch=2)``."""

    def make(command, name="a", **options):
        trainer = dn.TrainerConfig(**{**FEW, **options})
        settings = {
            "trainer": trainer,
            "run": dn.RunConfig(name=name, runs=str(tmp_path), wandb="off"),
            "console": Console(quiet=True),
        }
        small = {"channels": 2, "num_cells": 3, "stem": "small"}
        if command == "search":
            config = dn.SearchConfig("low_pass", nodes=1, noise_samples=20, **small)
            return dn.search(data, config, **settings)
        config, noise = dn.TrainConfig(**small), dn.NoiseConfig(protocol="quick", samples=20)
        return dn.train("darts_v1", data, config, noise=noise, **settings)

    return make


TOGETHER = {
    "barebones": False,
    "benchmark": True,
    "callbacks": ["Timer", "LearningRateMonitor"],
    "check_val_every_n_epoch": None,
    "detect_anomaly": True,
    "devices": 1,
    "enable_autolog_hparams": False,
    "enable_checkpointing": True,
    "enable_model_summary": True,
    "enable_progress_bar": True,
    "inference_mode": False,
    "limit_predict_batches": 1,
    "limit_test_batches": 1,
    "limit_train_batches": 1,
    "limit_val_batches": 1,
    "log_every_n_steps": 5,
    "max_steps": 1,
    "max_time": {"minutes": 5},
    "min_epochs": 1,
    "min_steps": 1,
    "num_nodes": 1,
    "num_sanity_val_steps": -1,
    "precision": "bf16-mixed",
    "profiler": "simple",
    "reload_dataloaders_every_n_epochs": 1,
    "strategy": "auto",
    "sync_batchnorm": True,
    "use_distributed_sampler": False,
}
"""Options that work in both, one of each field."""
ALONE = [
    ("both", "accelerator", "auto"),
    ("both", "check_val_every_n_epoch", 2),
    ("both", "deterministic", "warn"),
    ("both", "fast_dev_run", True),
    ("both", "limit_train_batches", 0.5),
    ("both", "limit_val_batches", 0),
    ("both", "logger", False),
    ("both", "max_time", "00:00:01:00"),
    ("both", "overfit_batches", 1),
    ("both", "val_check_interval", "00:00:00:01"),
    ("train", "accumulate_grad_batches", 2),
    ("train", "gradient_clip_val", 1.0),
    ("train", "precision", "64-true"),
    ("train", "precision", "16-true"),
    ("train", "precision", "bf16-true"),
]
"""Options that work in the command."""
REFUSED = [
    ("both", "accelerator", "none"),
    ("both", "accumulate_grad_batches", 0),
    ("both", "barebones", True),
    ("both", "callbacks", ["EarlyStopping"]),
    ("both", "check_val_every_n_epoch", 0),
    ("both", "devices", 0),
    ("both", "enable_checkpointing", False),
    ("both", "gradient_clip_algorithm", "none"),
    ("both", "limit_train_batches", 0.1),
    ("both", "limit_val_batches", 0.001),
    ("both", "max_epochs", -1),
    ("both", "max_steps", 0),
    ("both", "max_time", "00:00:00:00"),
    ("both", "max_time", {"seconds": 0}),
    ("both", "max_time", "an hour"),
    ("both", "precision", "16-mixed"),
    ("both", "plugins", ["TorchCheckpointIO"]),
    ("both", "profiler", "none"),
    ("both", "strategy", "none"),
    ("both", "val_check_interval", 0),
    ("both", "val_check_interval", 5),
    ("search", "accumulate_grad_batches", 2),
    ("search", "callbacks", [ACCUMULATE]),
    ("search", "gradient_clip_val", 1.0),
    ("search", "precision", "64-true"),
    ("search", "precision", "16-true"),
    ("search", "precision", "bf16-true"),
    ("train", "limit_test_batches", 0.001),
]
"""Options that an error names."""


def for_each(rows):
    """The rows for each command that they are of."""
    every = [
        (command, key, value)
        for commands, key, value in rows
        for command in (("search", "train") if commands == "both" else (commands,))
    ]
    return pytest.mark.parametrize(
        ("command", "key", "value"), every, ids=[f"{c}-{k}={v}" for c, k, v in every]
    )


def test_the_table_has_every_option():
    named = {*TOGETHER, *(key for _, key, _ in [*ALONE, *REFUSED])}
    untested = {"default_root_dir", "model_registry"}
    assert named | untested == {field.name for field in fields(dn.TrainerConfig)}


def test_the_words_that_are_known_early_are_lightnings():
    assert set(PRECISIONS) == {
        *get_args(_PRECISION_INPUT_STR),
        *get_args(_PRECISION_INPUT_STR_ALIAS),
    }
    assert set(CLIPPING) == {str(kind.value) for kind in GradClipAlgorithmType}
    assert {"auto", "gpu", *AcceleratorRegistry.available_accelerators()} <= set(ACCELERATORS)


@pytest.mark.parametrize("command", ["search", "train"])
def test_options_that_work(command, run):
    found = run(command, **TOGETHER)
    assert (found.card["epochs"], found.card["precision"]) == (1, "bf16-mixed")
    (profile,) = found.path.glob("fit-simple_profile*.txt")
    assert "run_training_epoch" in profile.read_text()


def test_a_time_is_written_as_the_trainer_reads_it():
    time = timedelta(days=1, hours=2, minutes=3, seconds=4)
    written = plain(dn.TrainerConfig(max_time=time))
    assert written["max_time"] == "01:02:03:04"
    assert pl.callbacks.Timer(written["max_time"]).time_remaining() == time.total_seconds()


@pytest.mark.slow
@for_each(ALONE)
def test_an_option_works_alone(command, key, value, run):
    found = run(command, **{key: value})
    assert found.card["epochs"] == 1
    if command == "train":
        bundle = dn.load_pretrained(found.bundle)
        assert all(p.dtype == torch.float32 for p in bundle.parameters())


@for_each(REFUSED)
def test_an_option_is_refused_in_one_line_that_names_it(command, key, value, run):
    with pytest.raises(dn.SettingError) as error:
        run(command, **{key: value})
    assert key in str(error.value)
    assert "\n" not in str(error.value)


def rows(path):
    """The rows of metrics.csv, without empty cells and what is not the same in two runs."""
    with (path / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


@pytest.mark.parametrize("command", ["search", "train"])
def test_more_validations_leave_the_figures_of_the_last_one(command, run, tmp_path, monkeypatch):
    """A sanity check and a validation after each step, for callbacks that read them at once."""
    monkeypatch.chdir(tmp_path)
    plain = run(command, "plain")
    often = {"val_check_interval": 1, "num_sanity_val_steps": 1, "callbacks": [STOP, KEEP]}
    more = run(command, "more", **often)
    assert rows(more.path) == rows(plain.path)
    assert [p.name for p in tmp_path.iterdir()] == [command]  # nothing beside the folder of runs
    assert len(list(more.path.rglob("epoch=*.ckpt"))) == 1


def test_callbacks_can_monitor_a_validation_that_is_not_every_epoch(run, recwarn):
    options = {"check_val_every_n_epoch": 2, "max_epochs": 3, "callbacks": [STOP]}
    found = run("train", **options)
    assert next(row["epoch"] for row in rows(found.path) if "val/loss" in row) == "1"
    assert not [w for w in recwarn if "ModelCheckpoint" in str(w.message)]


class Unmonitored(pl.callbacks.EarlyStopping):
    """A user's own subclass of a callback of Lightning."""


@pytest.mark.parametrize("callback", [pl.callbacks.EarlyStopping, Unmonitored])
def test_a_monitor_that_is_never_logged_is_an_error_of_the_callbacks(callback, run):
    with pytest.raises(dn.SettingError) as error:
        run("train", callbacks=[callback("val/los")])
    assert error.value.key == "trainer.callbacks"
    assert "val/los" in error.value.problem
