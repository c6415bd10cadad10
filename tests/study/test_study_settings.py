"""Valid settings of a study: the same answer to a file, an option and a call."""

import json
import re
import shlex
from dataclasses import replace

import pytest
import yaml
from conftest import ROOT
from studies import SEARCH, SMALL, small, written

import darts_noise as dn
from darts_noise.cli import commands
from darts_noise.cli.program import main
from darts_noise.data.datasets import list_datasets
from darts_noise.study import run
from darts_noise.study.cells import all_skip_cell
from darts_noise.study.settings import Sample
from darts_noise.study.units import check_names

CONFIGS = sorted((ROOT / "configs" / "study").glob("*.yaml"))


def refusal(capsys, file, *options):
    """The line in which the command refuses a file."""
    with pytest.raises(SystemExit) as stop:
        main(["study", str(file), *options])
    assert stop.value.code == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said.partition("error: ")[2]


@pytest.fixture
def read(monkeypatch):
    """(arguments) → the settings with which the command would run."""

    def settings(*arguments):
        asked = []
        result = dn.StudyResult([], {}, [], "", ROOT)
        monkeypatch.setattr(run, "study", lambda config, **how: asked.append(config) or result)
        commands.study([*map(str, arguments)])
        return asked[0]

    return settings


def own(setup, group, **keys):
    return {setup: {**SMALL[setup], group: {**SMALL[setup].get(group, {}), **keys}}}


def strategy(**strategies):
    return {**own("search", "model", candidates=2), "strategies": strategies}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"serch": 1}, "small.yaml: unknown config key 'serch': did you mean 'search'?"),
        (
            {"front": ["test_acuracy", "parameters"]},
            "front: unknown figure 'test_acuracy': did you",
        ),
        ({"front": ["parameters", "parameters"]}, "front: expected two figures"),
        ({"front": ["parameters"]}, "front: expected null or list of 2, got"),
        (
            {"front": ["parameters", "objectives/nosuch"]},
            "front: unknown figure 'objectives/nosuch",
        ),
        (
            {"noise_weights": [1.0, 1.0000001]},
            "noise_weights: expected distinct numbers from 0, which differ",
        ),
        ({"search": {"config": 3}}, "search.config: expected a file or a name, got 3"),
        (
            {"controls": {"all_skip": {"model": {"parameters": 3000}}}},
            "controls.all_skip.model.parameters: expected none, because the study sets it",
        ),
        (
            {"sample": {"trials": 1, "settings": {"search.model.noise_weight": [0.1, 10]}}},
            "sample.settings.search.model.noise_weight: expected none, because the study sets it",
        ),
        (
            {
                "parameters": 3000,
                "sample": {"trials": 1, "settings": {"train.model.channels": [8, 64]}},
            },
            "sample.settings.train.model.channels: expected none beside parameters",
        ),
        (
            own("search", "model", chanels=3),
            "small.yaml: unknown config key 'search.model.chanels': did you",
        ),
        (
            {"converged": {"sample": 3}},
            "small.yaml: unknown config key 'converged.sample': did you mean",
        ),
        ({"search": 3}, "small.yaml: search: expected lines of key: value below it, got 3"),
        ({"search": {"model": [3]}}, "small.yaml: search.model: expected lines of key: value"),
        ({"search": {"config": "no.yaml"}}, "search.config: expected a YAML file or one of"),
        ({"search": {"config": "mnst"}}, "search.config: expected a YAML file or one of"),
        (own("search", "model", channels="x"), "search.model.channels: expected int, got 'x'"),
        (own("search", "model", noise_weight=3), "search.model.noise_weight: expected none"),
        (own("search", "model", warmup_epochs=1), "search.trainer.max_epochs: expected more than"),
        (own("search", "data", batch_size=0), "search.data.batch_size: expected 1 or more, got 0"),
        (own("train", "model", parameters=9), "train.model.parameters: expected as a key of"),
        (own("train", "trainer", limit_test_batches=0), "train.trainer.limit_test_batches: expec"),
        ({"seeds": 0}, "seeds: expected 1 or more, got 0"),
        ({"seeds": "many"}, "seeds: expected int, got 'many'"),
        ({"parameters": 0}, "parameters: expected 1 or more, got 0"),
        ({"name": "a/b"}, "name: expected at most 100 letters"),
        ({"noise_weights": [1, 1]}, "noise_weights: expected distinct numbers from 0"),
        ({"noise_weights": [-1]}, "noise_weights: expected distinct numbers from 0"),
        ({"controls": {"randm": None}}, "controls: unknown control 'randm': did you mean 'random'"),
        (
            {"controls": {"random": {"seed": 2}}},
            "controls.random.seed: unknown setting 'seed': did",
        ),
        (
            {"controls": {"random": {"seeds": 0}}},
            "controls.random.seeds: expected 1 or more, got 0",
        ),
        (
            {"controls": {"random": {"seeds": "x"}}},
            "controls.random.seeds: expected a whole number",
        ),
        ({"controls": {"random": 3}}, "controls.random: expected settings, got 3"),
        ({"controls": {"random": {"test": False}}}, "controls.random.test: expected true"),
        ({"controls": {"resnet18": {"stem_stride": 0}}}, "controls.resnet18.stem_stride: expected"),
        ({"controls": {"matched": {"seeds": 2}}}, "controls.matched.seeds: expected at most the 1"),
        (
            {"controls": {"alexnet": {"model": {"drop_pat": 1}}}},
            "controls.alexnet.model.drop_pat: unknown setting 'drop_pat': did you mean 'drop_path'",
        ),
        (
            {"controls": {"alexnet": {"model": {"learning_rate": -1}}}},
            "controls.alexnet.model.learning_rate: expected 0 or more, got -1",
        ),
        (
            {"controls": {"regularised": None}, "noise_weights": [1]},
            "controls.regularised: expected 0 among noise_weights",
        ),
        (
            {"controls": {"matched": None}, "noise_weights": [0]},
            "controls.matched: expected a noise weight of more than 0",
        ),
        ({"quick": {"samples": 1}}, "quick.samples: expected 2 or more, got 1"),
        (
            {"quick": {"sample": 5}},
            "quick.sample: unknown setting 'sample': did you mean 'samples'",
        ),
        ({"converged": {"enough": 2}}, "converged.enough: expected more than 0 and at most 1"),
        (
            {"converged": {"sgd_rates": [], "adam_rates": [], "muon_rates": []}},
            "converged.sgd_rates, adam_rates, muon_rates: ",
        ),
        ({"sample": {"trials": 2}}, "sample.settings: expected noise_weight or another"),
        ({"strategies": {"random": None}}, "search.model.candidates: expected 2 or more with"),
        (strategy(darts={}), "strategies.darts: expected another name, because search.model is"),
        (strategy(random=3), "strategies.random: expected settings, got 3"),
        (strategy(random={"seed": 1}), "strategies.random.seed: expected none, because the study"),
        (
            strategy(random={"alpha_betas": [0.5, "x"]}),
            "strategies.random.alpha_betas[1]: expected a finite number, got 'x'",
        ),
        (strategy(random={"nods": 1}), "strategies.random.nods: unknown setting 'nods': did you"),
        (strategy(random={"strategy_steps": 0}), "strategies.random.strategy_steps: expected 1 or"),
        ({"cells": {"mine": []}}, "cells.mine: expected a cell, or a list with one for each seed"),
        ({"cells": {"a/b": "darts_v2"}}, "cells: expected at most 100 letters"),
        ({"cells": {"mine": 3}}, "cells: expected str or list, got '3'"),
        ({"cells": {"mine": [3]}}, "cells: expected str, got '3'"),
        # What needs a registry, data or a database.
        ({"cells": {"mine": "darts_v3"}}, "cells.mine: unknown genotype 'darts_v3': did you mean"),
        ({"cells": {"mine": ["darts_v2", "no.json"]}}, "cells.mine: no.json: "),
        (strategy(randm=None), "strategies.randm.strategy: unknown strategy 'randm': did you mean"),
        (
            strategy(enas={"macro": {"gain": ["free", "bounded"]}}),
            "strategies.enas.macro.gain: expected one candidate",
        ),
        (
            strategy(nas={"strategy": {"nas": {"layers": 0}}}),
            "strategies.nas.strategy.nas.layers: expected 1 or more, got 0",
        ),
        ({"unseen_families": ["gausian"]}, "unseen_families: unknown noise family 'gausian'"),
        ({"unseen_families": ["uniform"]}, "unseen_families: expected distinct ones"),
        ({"unseen_families": ["dataset:nope"]}, "unseen_families: 'dataset:nope': no such folder"),
        ({"noise_family": "dataset:nope"}, "search.model.noise_family: 'dataset:nope'"),
        ({"storage": "foo://x"}, "storage: cannot open 'foo://x'"),
        (
            own("search", "data", train_samples=100, batch_size=64),
            "search.data.batch_size: expected at least 64 images for batches of 64, got 50",
        ),
        (own("train", "data", train_samples=20), "train.data.batch_size: expected at least 64"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_wrong_setting_is_one_line_that_begins_with_its_key(changes, said, tmp_path, capsys):
    text = refusal(capsys, written(tmp_path, **changes), f"--runs={tmp_path}")
    assert text.removeprefix(f"{tmp_path}/").startswith(said)
    assert not (tmp_path / "study" / "small" / "results.json").exists()


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("search.channels", [1], "search.channels: expected noise_weight, search.<group>.<key>"),
        ("search.nodel.channels", [1], "search.nodel.channels: expected noise_weight, search"),
        (
            "train.model.chanels",
            [4],
            "train.model.chanels: unknown setting 'chanels': did you mean",
        ),
        (
            "train.model.channels",
            [4, "x"],
            "train.model.channels: expected a whole number, got 'x'",
        ),
        ("train.model.drop_path", {"low": 0.0, "high": 2.0}, "train.model.drop_path: expected 0"),
        ("search.model.warmup_epochs", [0, 1], "search.trainer.max_epochs: expected more than"),
        ("noise_weight", [None], "noise_weight: expected numbers, got None"),
        ("noise_weight", [], "noise_weight: expected a list of values, or low, high"),
        ("noise_weight", {"low": 2, "high": 1}, "noise_weight: expected a list of values, or low"),
        ("noise_weight", {"low": 1, "high": None}, "noise_weight: expected a list of values, or"),
        ("noise_weight", {"low": 0, "high": 1, "log": True}, "noise_weight: expected a list of"),
        ("noise_weight", {"low": 1, "high": 2, "lg": True}, "noise_weight: expected a list of"),
    ],
)
def test_so_is_a_wrong_proposal(key, values, said):
    with pytest.raises(dn.SettingError) as error:
        small(sample=Sample(2, {key: values}))
    assert f"sample.{error.value}".replace("sample.sample.", "sample.").startswith(
        f"sample.settings.{said}"
    )


def test_a_proposal_is_a_study_of_its_own_with_images_held_out():
    sample = Sample(1, {"noise_weight": [1.0], "train.model.channels": [8]}, 0.2)
    found = small(sample=sample).proposed({"noise_weight": 0.5, "train.model.channels": 8})
    assert (found.noise_weights, found.controls, found.sample.trials) == ([0.5], {}, 0)
    assert found.train.model == replace(small().train.model, channels=8)
    assert found.train.data.validation_fraction == 0.2
    assert found.search == SEARCH


def test_a_file_says_the_same_as_a_call(read, tmp_path):
    found = read(written(tmp_path))
    for key in ("noise_weights", "seeds", "controls", "converged", "quick", "name"):
        assert getattr(found, key) == getattr(small(), key), key
    assert found.search.model == SEARCH.model
    assert found.search.data == SEARCH.data
    assert found.train.model == small().train.model
    assert found.train.trainer.gradient_clip_val == 5.0


def test_an_option_has_the_last_word(read, tmp_path):
    options = ["--seeds=4", "--converged.epochs", "7", "--train.model.channels=6", "--root=r"]
    found = read(written(tmp_path), *options, "--controls", "{random: {seeds: 2}}", "--quick=null")
    assert (found.seeds, found.converged.epochs, found.train.model.channels) == (4, 7, 6)
    assert found.search.data.root == found.train.data.root == "r"
    assert found.controls["random"].seeds == 2
    assert "matched" not in found.controls
    assert found.quick is None
    with pytest.raises(ValueError, match=r"unknown option '--train\.model\.chanels': did"):
        commands.study([str(written(tmp_path)), "--train.model.chanels=6"])


def test_the_configs_are_found_from_the_folder_of_the_study_or_by_name(read, tmp_path):
    (tmp_path / "mine.yaml").write_text("model: {channels: 10}\nnoise_grid: {seeds: 2}\n")
    file = written(tmp_path, train={"config": "mine.yaml"}, search={"config": "mnist"})
    found = read(file)
    assert found.train.model.channels == 10
    assert found.search.data.name == "mnist"
    assert read(file, "--train.config", "digits").train.model.channels == 12


def test_the_files_of_cells_likewise_or_from_the_present_folder(read, tmp_path, monkeypatch):
    here = tmp_path / "elsewhere"
    here.mkdir()
    monkeypatch.chdir(here)
    for file in (tmp_path / "0.json", here / "here.json"):
        all_skip_cell(1).to_json(file)
    found = read(written(tmp_path, cells={"mine": ["0.json", "here.json"], "v2": "DARTS_V2"}))
    expected = [str(tmp_path / "0.json"), str(here / "here.json")]
    assert found.cells == {"mine": expected, "v2": "DARTS_V2"}


def test_help_and_print_config_run_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "study", None)
    commands.study(["digits", "--help"])
    shown = capsys.readouterr().out
    assert "--converged.samples" in shown
    assert "[200]" in shown
    commands.study([str(written(tmp_path)), "--print_config"])
    file = tmp_path / "printed.yaml"
    file.write_text(capsys.readouterr().out)
    commands.study([str(file), "--print_config"])
    assert capsys.readouterr().out == file.read_text()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_is_accepted(path, read):
    config = read(path)
    check_names(config)
    assert config.name == path.stem
    assert path.read_text().startswith("# ")
    if config.front is not None:  # of several weights, beside the control of weight 0
        weights = [given["weight"] for given in config.search.model.objectives.values()]
        assert weights == [0]
        run.check_data(config)
        return
    if not config.noise_weights:  # no searches
        assert config.cells
        return
    if config.strategies:
        assert {"darts", *config.strategies} >= set(dn.list_strategies())
        assert config.seeds >= {"digits": 5, "mnist": 3}[path.stem.partition("_")[2]]
        run.check_data(config) if "digits" in path.stem else None
        return
    assert path.stem.partition("_")[0] in list_datasets()
    assert 0 in config.noise_weights
    assert len(config.noise_weights) > 1
    assert len(config.unseen_families) >= 2
    assert {"random", "all_skip", "regularised", "resnet18"} <= set(config.controls)
    assert "matched" in config.controls or config.parameters is not None


def test_the_command_and_the_sample_of_the_docs_are_accepted(read, monkeypatch):
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "study.md").read_text()
    commands = re.findall(r"^darts-noise study (.*)$", page, re.MULTILINE)
    assert commands
    for arguments in map(shlex.split, commands):
        read(*arguments)
    [block] = [b for b in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "sample:" in b]
    sample = yaml.safe_load(block)["sample"]
    options = [f"--sample.{key}={json.dumps(value)}" for key, value in sample.items()]
    assert read(CONFIGS[0], *options).sample.trials == sample["trials"]


def test_a_config_nested_too_deeply_is_refused(capsys, tmp_path):
    """The YAML reader would end the process with a signal."""
    file = tmp_path / "deep.yaml"
    file.write_text("[" * 100_000)
    assert "deep.yaml: expected a config nested at most 32 levels" in refusal(capsys, file)
