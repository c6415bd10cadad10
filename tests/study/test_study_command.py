"""The command line of a study: what it refuses, and the configs that are shipped."""

import json
import re
import shlex
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from small_studies import SMALL, settings_of, small_study, written

from darts_noise.data.datasets import list_datasets
from darts_noise.study import command
from darts_noise.study.scripts import check_scripts

CONFIGS = sorted((ROOT / "configs" / "study").glob("*.yaml"))


def refusal(capsys, file, *options):
    with pytest.raises(SystemExit) as stop:
        command.main([str(file), *options])
    assert stop.value.code == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said.partition("error: ")[2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"serch": 1}, "unknown config key 'serch': did you mean 'search'?"),
        ({"converged": {"sample": 3}}, "unknown config key 'converged.sample': did you mean"),
        ({"controls": {"random": {"seed": 2}}}, "unknown config key 'seed': did you mean 'seeds'?"),
        (
            {"controls": {"randm": None}},
            "controls: unknown control 'randm': did you mean 'random'?",
        ),
        ({"controls": {"matched": {"seeds": 2}}}, "controls.matched.seeds: expected at most the 1"),
        (
            {"controls": {"regularised": None}, "noise_weights": [1]},
            "controls.regularised: expected",
        ),
        ({"controls": {"matched": None}, "noise_weights": [0]}, "controls.matched: expected"),
        (
            {"controls": {"alexnet": {"model": {"drop_pat": 1}}}},
            "controls.alexnet: train: unknown config key 'model.drop_pat': did you mean "
            "'model.drop_path'?",
        ),
        (
            {"controls": {"random": {"test": False}}},
            "controls.random.test: expected true for a network of cells",
        ),
        (
            {"train": {**SMALL["train"], "trainer": {"limit_test_batches": 0}}},
            "train.trainer.limit_test_batches: expected some",
        ),
        (
            {"train": {**SMALL["train"], "model": {"parameters": 3000}}},
            "train.model.parameters: expected it as a key of the study itself",
        ),
        (
            {"controls": {"resnet18": {"stem_stride": 0}}},
            "controls.resnet18.stem_stride: expected 1 or more, got 0",
        ),
        (
            {"search": {**SMALL["search"], "data": {"train_samples": 100, "batch_size": 64}}},
            "search: data.batch_size: expected at least 64 images for batches of 64, got 50",
        ),
        (
            {"train": {**SMALL["train"], "data": {"train_samples": 40}}},
            "train: data.batch_size: expected at least 64 images",
        ),
        ({"unseen_families": ["dataset:nope"]}, "unseen_families: "),
        ({"noise_family": "dataset:nope"}, "search: model.noise_family: "),
        ({"seeds": 0}, "seeds: expected 1 or more, got 0"),
        ({"parameters": 0}, "parameters: expected 1 or more, got 0"),
        ({"seeds": "many"}, "seeds: expected int, got 'many'"),
        ({"cells": {"mine": "darts_v3"}}, "cells.mine: unknown genotype 'darts_v3': did you mean"),
        ({"cells": {"mine": ["darts_v2", "no.json"]}}, "cells.mine: no.json: "),
        ({"cells": {"mine": []}}, "cells.mine: expected a cell, or a list with one for each seed"),
        ({"cells": {"a/b": "darts_v2"}}, "cells: expected at most 100 letters"),
        ({"cells": {"mine": 3}}, "cells: expected str or list, got '3'"),
        ({"noise_weights": [1, 1]}, "noise_weights: expected distinct numbers from 0"),
        ({"noise_weights": [-1]}, "noise_weights: expected distinct numbers from 0"),
        ({"unseen_families": ["gausian"]}, "unseen_families: unknown noise family 'gausian'"),
        ({"unseen_families": ["uniform"]}, "unseen_families: expected distinct ones other than"),
        ({"converged": {"enough": 2}}, "converged.enough: expected more than 0 and at most 1"),
        ({"storage": "foo://x"}, "storage: cannot open 'foo://x'"),
        ({"name": "a/b"}, "name: expected at most 100 letters"),
        ({"search": {**SMALL["search"], "config": "no.yaml"}}, "search.config: no such file"),
        (
            {"search": {**SMALL["search"], "model": {"chanels": 3}}},
            "search: unknown config key 'model.chanels': did you mean 'model.channels'?",
        ),
        (
            {"search": {**SMALL["search"], "model": {"noise_weight": 3}}},
            "search.model.noise_weight: expected it as a key of the study",
        ),
        (
            {"search": {**SMALL["search"], "model": {"warmup_epochs": 1}}},
            "search: trainer.max_epochs: expected more than model.warmup_epochs",
        ),
        ({"sample": {"trials": 2}}, "sample.settings: expected noise_weight or another"),
        (
            {"sample": {"trials": 2, "settings": {"search.channels": [1]}}},
            "sample.settings.search.channels: expected noise_weight, search.<group>.<key>",
        ),
        (
            {"sample": {"trials": 2, "settings": {"noise_weight": {"low": 2, "high": 1}}}},
            "sample.settings.noise_weight: expected a list of values, or low, high",
        ),
        (
            {"sample": {"trials": 2, "settings": {"noise_weight": {"low": 0.1, "high": None}}}},
            "sample.settings.noise_weight: expected a list of values, or low, high",
        ),
        (
            {"sample": {"trials": 2, "settings": {"noise_weight": [None]}}},
            "sample.settings.noise_weight: expected numbers",
        ),
        (
            {"sample": {"trials": 2, "settings": {"train.model.chanels": [4]}}},
            "sample.settings: train: unknown config key 'model.chanels': did you mean",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_wrong_setting_is_one_line_that_names_it(changes, said, tmp_path, capsys):
    assert refusal(capsys, written(tmp_path, **changes), f"--runs={tmp_path}").startswith(said)
    assert not (tmp_path / "study" / "small" / "results.json").exists()


@pytest.mark.parametrize(
    ("argument", "status", "said"),
    [("--help", 0, "usage: darts-noise study"), ("digits", 2, "a study needs Optuna: pip install")],
)
def test_without_optuna_it_says_what_to_install(argument, status, said):
    code = "import sys; sys.modules['optuna'] = None; from darts_noise.study import command; "
    found = subprocess.run(
        [sys.executable, "-c", f"{code}command.main([{argument!r}])"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert found.returncode == status
    assert said in found.stdout + found.stderr
    assert "Traceback" not in found.stderr


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    file = tmp_path / "taken"
    file.touch()
    assert str(file) in refusal(capsys, written(tmp_path), f"--runs={file}")


def test_missing_data_stop_a_study_before_its_first_unit(tmp_path, capsys):
    """Else every unit would fail by itself, each after its part of the waiting."""
    folder = tmp_path / "images"
    folder.mkdir()
    train = {**SMALL["train"], "data": {"name": str(folder)}}
    said = refusal(capsys, written(tmp_path, train=train), f"--runs={tmp_path / 'runs'}")
    assert said.startswith("train: ")
    assert said.count(str(folder)) == 1


def test_a_study_with_other_settings_takes_another_name(tmp_path, capsys):
    study = small_study(tmp_path)
    study.queue.settings = study.fixed  # as once a part has been made
    runs = f"--runs={tmp_path}"
    changed = written(tmp_path / "changed", train={**SMALL["train"], "trainer": {"max_epochs": 2}})
    assert refusal(capsys, changed, runs) == (
        "train.trainer.max_epochs: 'small' was begun with 1, got 2; take another name"
    )
    own = written(tmp_path / "own", controls={"alexnet": {"model": {"learning_rate": 0.5}}})
    assert refusal(capsys, own, runs).startswith("controls.alexnet.model.learning_rate: 'small'")
    small_study(tmp_path, seeds=2, noise_weights=[0, 1, 2], controls={"all_skip": None})


def test_a_key_on_the_command_line_has_the_last_word(tmp_path):
    settings = settings_of(written(tmp_path), "--seeds=4", "--converged.epochs=7")
    assert (settings.seeds, settings.converged.epochs) == (4, 7)
    assert settings.name == "small"


def test_the_config_that_a_study_leaves_repeats_it(tmp_path):
    study = small_study(tmp_path)
    assert settings_of(study.folder / "config.yaml") == study.settings


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_is_accepted(path):
    settings = settings_of(path)
    check_scripts(settings, None)
    assert settings.name == path.stem
    assert path.stem in list_datasets()
    assert 0 in settings.noise_weights
    assert len(settings.noise_weights) > 1
    assert len(settings.unseen_families) >= 2
    assert {"random", "all_skip", "regularised", "resnet18"} <= set(settings.controls)
    assert "matched" in settings.controls or settings.parameters is not None
    assert path.read_text().startswith("# ")


def test_the_commands_of_the_readme_are_accepted():
    readme = (ROOT / "docs" / "study.md").read_text()
    commands = re.findall(r"^python -m darts_noise\.study (.*)$", readme, re.MULTILINE)
    assert commands
    for arguments in map(shlex.split, commands):
        settings_of(ROOT / arguments[0], *arguments[1:])
    sample = re.search(r"`sample: (\{.*?\})`", readme.replace("\n", " "))
    check_scripts(settings_of(CONFIGS[0], "--sample", json.dumps(yaml.safe_load(sample[1]))), None)


def test_a_config_nested_too_deeply_is_refused(capsys, tmp_path):
    """The YAML reader would end the process with a signal."""
    file = tmp_path / "deep.yaml"
    file.write_text("[" * 100_000)
    assert "deep.yaml: expected a config nested at most 32 levels" in refusal(capsys, file)
