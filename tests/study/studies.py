"""Studies of a few seconds on digits, for the tests of the study."""

import json
from pathlib import Path

import yaml
from conftest import ROOT

import darts_noise as dn
from darts_noise.study import results as results_module
from darts_noise.study import run
from darts_noise.study.run import Study
from darts_noise.study.settings import Converged, SearchSetup, TrainSetup

SMALL = {
    "search": {
        "config": str(ROOT / "configs" / "search" / "digits.yaml"),
        "data": {"train_samples": 80, "batch_size": 20},
        "model": {
            **{"channels": 4, "nodes": 1, "noise_samples": 40, "warmup_epochs": 0},
            **{"race": 0, "race_cells": 2, "macro": None},
        },
        "trainer": {"max_epochs": 1},
    },
    "train": {
        "config": str(ROOT / "configs" / "train" / "digits.yaml"),
        "data": {"train_samples": 100, "validation_fraction": 0.0},
        "model": {"channels": 4, "num_cells": 3, "optimiser": None, "learning_rate": 0.1},
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
        "muon_rates": [],
        "scales": [1.0],
        "seeds": 1,
    },
}
"""A small study's file."""
SEARCH = SearchSetup(
    dn.DataConfig("digits", train_samples=80, batch_size=20),
    dn.SearchConfig(
        space="bounded",
        channels=4,
        nodes=1,
        num_cells=3,
        stem="small",
        noise_samples=40,
        optimiser="muon",
        learning_rate=0.02,
        learning_rate_min=0.0,
        alpha_learning_rate=0.1,
    ),
    dn.TrainerConfig(max_epochs=1, accelerator="cpu"),
)
TRAIN = TrainSetup(
    dn.DataConfig("digits", train_samples=100, validation_fraction=0.0, batch_size=32),
    dn.TrainConfig(
        channels=4,
        num_cells=3,
        stem="small",
        auxiliary_weight=0.0,
        drop_path=0.0,
        learning_rate=0.1,
    ),
    dn.TrainerConfig(max_epochs=1, gradient_clip_val=5.0, accelerator="cpu"),
)
FIT = Converged(
    samples=20, epochs=2, sgd_rates=(0.01,), adam_rates=(0.01,), muon_rates=(), seeds=1, scales=(1,)
)
LEAST = {"noise_weights": [1.0], "controls": {}, "unseen_families": [], "quick": None}
"""Changes to the small study that leave three units."""


def small(**changes) -> dn.StudyConfig:
    """The same study in Python, with some settings in place of its own."""
    settings = {
        "search": SEARCH,
        "train": TRAIN,
        "name": "small",
        "seeds": 1,
        "unseen_families": ["gaussian"],
        "controls": {"matched": None, "alexnet": None},
        "converged": FIT,
    }
    return dn.StudyConfig(**{**settings, **changes})


def written(folder: Path, **changes) -> Path:
    """The small study's file, with some keys in place of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump({**SMALL, **changes}, sort_keys=False))
    return file


class MadeUp:
    """A replacement of `SeedRuns` that makes up its results without training."""

    made: list[str] = []  # noqa: RUF012

    def __init__(self, config, network, seed, folder):
        self.config, self.name, self.seed = config, f"{network.key}/{seed}", seed
        self.folder = folder

    def _figure(self, *words):
        self.made.append("/".join((self.name, *words)))
        return 1 / (3 + len(self.made[-1]) + self.seed)

    def cell(self, origin):
        genotype = dn.load_genotype("darts_v1").to_dict()
        return {"genotype": genotype, "model": {}, "validation_accuracy": self._figure("cell")}

    def training(self, cell, judge=None):
        key = "test_accuracy" if judge else "validation_accuracy"
        return {key: self._figure("training"), "diverged": False, "parameters": 100}

    def noise(self, cell, family, protocol, file):
        accuracy = self._figure(protocol, family)
        return {"accuracy": accuracy, "accuracy_largest": accuracy, "chance": 0.1}


def made_up(monkeypatch) -> list[str]:
    """From here on studies make up what they find, and draw nothing; what they have made."""
    monkeypatch.setattr(run, "SeedRuns", MadeUp)
    monkeypatch.setattr(results_module, "_draw", lambda *a: None)
    MadeUp.made = []
    return MadeUp.made


def results(study: Study):
    """What is in ``results.json``, without times."""
    return timeless(json.loads((study.folder / "results.json").read_text()))


def timeless(value):
    """A JSON value without what differs between two runs of the same."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in ("seconds", "command")}
    return [timeless(v) for v in value] if isinstance(value, list | tuple) else value
