"""Studies of seconds on digits, which the tests of the study share."""

import json
from pathlib import Path

import yaml
from conftest import ROOT

from darts_noise.study import work
from darts_noise.study.command import make_parser, read_settings
from darts_noise.study.run import Study

SMALL = {
    "search": {
        "config": str(ROOT / "configs" / "search" / "digits.yaml"),
        "data": {"train_samples": 80, "batch_size": 20},
        "model": {"channels": 4, "nodes": 1, "noise_samples": 40, "warmup_epochs": 0},
        "trainer": {"max_epochs": 1},
    },
    "train": {
        "config": str(ROOT / "configs" / "train" / "digits.yaml"),
        "data": {"train_samples": 100, "validation_fraction": 0.0},
        "model": {"channels": 4, "num_cells": 3},
        "trainer": {"max_epochs": 1},
    },
    "noise_weights": [0, 1],
    "seeds": 1,
    "unseen_families": ["gaussian"],
    "controls": {"matched": None, "alexnet": None},
    "converged": {
        "samples": 20,
        "epochs": 2,
        "sgd_rates": [0.01],
        "adam_rates": [0.01],
        "seeds": 1,
        "enough": 1.0,
    },
    "heartbeat": 60,
}
LEAST = {"noise_weights": [1], "controls": {}, "unseen_families": [], "quick": None}
"""A study of three parts, with the changes to the small one."""
TIMES = ("seconds", "command")
"""Keys that differ between two runs of the same."""


def written(folder: Path, **changes) -> Path:
    """The small study's file, with some keys in place of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump({**SMALL, **changes}, sort_keys=False))
    return file


def settings_of(file: Path, *options: str):
    """The settings that the command line reads."""
    parser = make_parser()
    return read_settings(parser, parser.parse_args(["--config", str(file), *options]), file)


def small_study(folder: Path, **changes) -> Study:
    """A study in this folder, ready to run."""
    return Study(settings_of(written(folder, **changes)), folder, None, "command")


def ended_study(folder: Path, **changes) -> Study:
    """A study in this folder, which ran to its end."""
    study = small_study(folder, **changes)
    study.run()
    return study


def results(study: Study):
    """What is in ``results.json``, without times."""
    return timeless(json.loads((study.folder / "results.json").read_text()))


def count(monkeypatch, name):
    """Counts the calls of a function of `darts_noise.study.work`."""
    calls = []
    real = getattr(work, name)
    monkeypatch.setattr(work, name, lambda *a, **k: calls.append(a) or real(*a, **k))
    return calls


def timeless(value):
    """A JSON value without what differs between two runs of the same."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list | tuple) else value
