"""The settings dataclasses: their documentation, bounds and errors, without heavy imports."""

import inspect
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import ROOT
from jsonargparse import ArgumentParser

import darts_noise as dn
from darts_noise.errors import SettingError, within

CONFIGS = [
    dn.DataConfig,
    dn.SearchConfig,
    dn.TrainConfig,
    dn.NoiseConfig,
    dn.NoiseGrid,
    dn.RunConfig,
    dn.TrainerConfig,
    dn.StudyConfig,
]
DIGITS = dn.ImageDataModule("digits")
HEAVY = ("torch", "numpy", "pytorch_lightning", "torchvision", "sklearn", "matplotlib")


def test_settings_are_read_without_anything_heavy():
    parts = ", ".join(
        f"darts_noise.{part}.settings" for part in ("data", "search", "train", "runs", "study")
    )
    code = f"import sys, {parts}; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert found.stdout.decode().strip() == "[]"


@pytest.mark.parametrize(
    ("call", "nearest"),
    [
        (lambda: dn.TrainConfig(chanels=8), "channels"),
        (lambda: dn.TrainerConfig(max_epoch=8), "max_epochs"),
        (lambda: dn.ImageDataModule("digits", batchsize=8), "batch_size"),
        (lambda: dn.create_model("darts_v1", chanels=8), "channels"),
        (lambda: dn.Cell("darts_v1", 3, chanels=8), "channels"),
        (lambda: dn.load_pretrained("digits", num_class=8), "num_classes"),
        (lambda: dn.load_dataset("digits", imagesize=8), "image_size"),
        (lambda: dn.noise_fit("darts_v1", None, epoch=8), "epochs"),
    ],
)
def test_a_misspelt_argument_is_answered_with_the_nearest(call, nearest):
    with pytest.raises(SettingError, match=f"did you mean '{nearest}'"):
        call()


@pytest.mark.parametrize("config", CONFIGS)
def test_the_defaults_are_accepted_and_stay_as_they_are(config):
    made = config()
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(config)[0].name, 1)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (config, field.name)
        for config in [*CONFIGS, dn.AttackConfig, dn.ExamineConfig]
        for field in fields(config)
        if field.type is not Any
    ],
)
def test_a_value_of_another_type_is_refused_with_its_key(config, field):
    with pytest.raises(SettingError, match=rf"^{field}: expected .*, got \{{1\}}$"):
        config(**{field: {1}})


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda: dn.NoiseGrid(sgd_rates=[0.1, "fast"]), r"sgd_rates\[1\]: .* got 'fast'"),
        (lambda: dn.NoiseGrid([[0.1]]), r"sgd_rates\[0\]: .* got \[0.1\]"),
        (lambda: dn.AttackConfig(eps=["two"]), r"eps\[0\]: .* got 'two'"),
        (lambda: dn.ImageDataModule("digits", batch_size=2.5), r"data.batch_size: .* got 2.5"),
        (lambda: dn.TrainConfig(channels=True), "channels: expected a whole number, got True"),
        (lambda: dn.SearchConfig(macro={3: 4}), "macro: unknown macro choice '3'"),
        (lambda: dn.search("digits"), "data: expected a dn.ImageDataModule, got 'digits'"),
        (lambda: dn.search(DIGITS, {}), "config: expected a dn.SearchConfig, got {}"),
        (lambda: dn.train("darts_v2", DIGITS, dn.NoiseConfig()), "config: .* a dn.TrainConfig"),
        (lambda: dn.train("darts_v2", DIGITS, trainer={}), "trainer: .* a dn.TrainerConfig"),
        (lambda: dn.train_ensemble("darts_v2", "digits"), "data: expected a dn.ImageDataModule"),
        (lambda: dn.study("digits"), "config: expected a dn.StudyConfig, got 'digits'"),
    ],
)
def test_an_item_or_a_number_of_another_type_is_refused_with_its_key(call, key):
    with pytest.raises(SettingError, match=f"^{key}"):
        call()


def test_numbers_of_numpy_become_those_of_python_and_paths_are_accepted(tmp_path):
    config = dn.TrainConfig(channels=np.int64(8), drop_path=np.float32(0.5))
    assert (config.channels, config.drop_path) == (8, 0.5)
    assert (type(config.channels), type(config.drop_path)) == (int, float)
    assert dn.NoiseGrid(np.array([0.1, 0.5])).sgd_rates == (0.1, 0.5)
    config = dn.AttackConfig(eps=np.array([0.1, 0.5]), steps=torch.tensor(3))
    assert (list(config.eps), config.steps) == ([0.1, 0.5], 3)
    assert dn.RunConfig(runs=tmp_path).runs == tmp_path


@pytest.mark.parametrize("config", [c for c in CONFIGS if c is not dn.TrainerConfig])
def test_every_field_has_its_help(config):
    parser = ArgumentParser()
    parser.add_class_arguments(config, "x")
    explained = {action.dest.removeprefix("x."): action.help for action in parser._actions}
    for field in fields(config):
        if not field.name.startswith("grid"):
            assert explained[field.name], field.name


def test_the_trainer_takes_every_field_and_no_other():
    taken = inspect.signature(pl.Trainer.__init__).parameters
    assert {field.name for field in fields(dn.TrainerConfig)} == {*taken} - {"self"}


@pytest.mark.parametrize(
    ("config", "settings", "key"),
    [
        (dn.DataConfig, {"batch_size": 0}, "batch_size"),
        (dn.SearchConfig, {"learning_rate": float("nan")}, "learning_rate"),
        (dn.SearchConfig, {"learning_rate": 1e-3, "learning_rate_min": 2e-3}, "learning_rate_min"),
        (dn.SearchConfig, {"twin_learning_rate": 1e-4}, "learning_rate_min"),
        (dn.SearchConfig, {"twin_optimiser": "adma"}, "twin_optimiser"),
        (dn.SearchConfig, {"optimiser": "adam", "hypergradient": "exact"}, "optimiser"),
        (dn.TrainConfig, {"drop_path": 1.0}, "drop_path"),
        (dn.NoiseConfig, {"protocol": "quikc"}, "protocol"),
        (dn.NoiseConfig, {"samples": 0}, "samples"),
        (dn.NoiseConfig, {"controls": ["resnet18"]}, "controls"),
        (dn.NoiseConfig, {"grid": dn.NoiseGrid(seeds=1, scales=(1,))}, "grid"),
        (dn.NoiseConfig, {"runs": "noise_runs.json"}, "runs"),
        (dn.SearchConfig, {"seed": 2**32}, "seed"),
        (dn.TrainConfig, {"seed": -1}, "seed"),
        (dn.RunConfig, {"name": "../x"}, "name"),
        (dn.RunConfig, {"wandb": "maybe"}, "wandb"),
        (dn.TrainerConfig, {"max_epochs": 0}, "max_epochs"),
        (dn.TrainerConfig, {"limit_train_batches": 0}, "limit_train_batches"),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_its_key(config, settings, key):
    with pytest.raises(SettingError) as refused:
        config(**settings)
    assert refused.value.key == key


def test_a_rate_may_stay_as_it_is():
    dn.SearchConfig(learning_rate=1e-3, learning_rate_min=1e-3)


def test_an_error_keeps_its_key_on_its_way_through_groups_and_processes():
    with pytest.raises(SettingError) as refused, within("model"), within("noise_"):
        raise SettingError("samples", "expected 1 or more, got 0")
    again = pickle.loads(pickle.dumps(refused.value))  # noqa: S301
    assert (again.key, again.problem) == ("model.noise_samples", "expected 1 or more, got 0")
    assert str(again) == "model.noise_samples: expected 1 or more, got 0"


@pytest.mark.parametrize(
    ("module", "config", "setting"),
    [
        (dn.SearchModule, dn.SearchConfig, {"channels": 5}),
        (dn.TrainModule, dn.TrainConfig, {"channels": 5}),
        (dn.ImageDataModule, dn.DataConfig, {"batch_size": 5}),
    ],
)
def test_a_module_takes_a_config_or_its_fields(module, config, setting):
    made = config(**setting)
    assert module(made).config == module(**setting).config == made
    [key] = setting
    assert getattr(module(made, **{key: 7}).config, key) == 7
    with pytest.raises(SettingError, match="did you mean"):
        module(**{f"{key}s": 1})


def test_the_first_field_may_stand_without_its_name():
    assert dn.SearchModule("noise").config.space == "noise"
    assert dn.TrainModule("darts_v2").config.genotype == "darts_v2"
    assert dn.ImageDataModule("digits").config.name == "digits"
