"""Shipped configs parse and build, are found by name, and merge key by key."""

import inspect
import json
import os
import shlex
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, SMALL_SEARCH, SMALL_TRAIN, inspected_summary, search, train
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

import darts_noise as dn
from darts_noise.cli.configs import CONFIGS, find_config, list_configs
from darts_noise.cli.options import SEARCH, TRAIN
from darts_noise.cli.parser import Command, Given, Parser, split
from darts_noise.errors import SettingError
from darts_noise.runs import search as searching
from darts_noise.runs import train as training

COMMANDS = {"search": SEARCH, "train": TRAIN}
OF_FOLDERS = ("imagenet", "small")
"""Names of configs for images of the user's."""
OF_RUNS = [path for kind in COMMANDS for path in sorted((ROOT / "configs" / kind).glob("*.yaml"))]
VARIANTS = sorted((ROOT / "configs" / "variants").glob("*.yaml"))
PENALTIES = sorted((ROOT / "configs" / "penalties").glob("*.yaml"))
STRATEGIES = sorted((ROOT / "configs" / "strategies").glob("*.yaml"))
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
DIGITS = f"--config={ROOT / 'configs' / 'search' / 'digits.yaml'}"


def read(command: Command, *argv: str) -> Given:
    """What the arguments say; without a config in the place of one that is not named."""
    front, rest = split(argv)
    configs = [find_config(named, command.name) for named in front.config]
    return Parser(command).parse(rest, configs)


def test_of_several_configs_the_one_with_the_wrong_key_is_named(tmp_path):
    for name, key in (("one", "chanels"), ("other", "channels")):
        (tmp_path / f"{name}.yaml").write_text(f"model: {{{key}: 6}}\n")
    argv = [f"--config={tmp_path / name}.yaml" for name in ("one", "other")]
    with pytest.raises(ValueError, match=r"one\.yaml: unknown config key 'model.chanels'"):
        read(SEARCH, *argv)


def search_config(*argv: str) -> dn.SearchConfig:
    return read(SEARCH, *argv).settings(dn.SearchConfig, "model.")


def data_of(given: Given) -> dn.ImageDataModule:
    return dn.ImageDataModule(given.settings(dn.DataConfig, "data."))


@pytest.mark.parametrize("path", OF_RUNS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_config_of_a_run_builds_its_module(path):
    given = read(COMMANDS[path.parent.name], f"--config={path}")
    data, epochs = data_of(given), given.settings(dn.TrainerConfig, "trainer.").max_epochs
    assert epochs > 4 + given.values.get("model.warmup_epochs", 0)
    expected = path.stem.partition("_")[0]
    assert data.name == dict.fromkeys(OF_FOLDERS, "image_folder").get(expected, expected)
    given.settings(dn.RunConfig)
    if path.parent.name == "train":
        given.settings(dn.NoiseConfig, "noise_")
        module = dn.TrainModule(given.settings(dn.TrainConfig, "model."))
        module.build(dn.load_genotype("darts_v2"), 10, 1 if data.name in ("digits", "mnist") else 3)
    else:
        module = dn.SearchModule(given.settings(dn.SearchConfig, "model."))
        if data.name == "digits":
            data.setup()
            (module.build if module.strategy is None else module.prepare)(data)


@pytest.mark.parametrize("path", OF_RUNS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_config_of_a_run_says_what_it_is_for(path):
    text = path.read_text("utf-8")
    assert text.startswith("# ")
    assert yaml.safe_load(text).keys() == {"data", "model", "trainer"}


@pytest.mark.parametrize("path", VARIANTS, ids=lambda p: p.stem)
def test_a_variant_lies_over_a_search_config_and_states_every_setting(path):
    given = read(SEARCH, DIGITS, f"--config={path}")
    config = given.settings(dn.SearchConfig, "model.")
    assert config.channels == 8
    module = dn.SearchModule(config)
    assert list(module.variants) == [path.stem]
    stated = config.variants[path.stem]
    signature = inspect.signature(type(module.variants[path.stem]))
    default = {k: p.default for k, p in signature.parameters.items()}
    assert stated == default
    assert {k: type(v) for k, v in stated.items()} == {k: type(v) for k, v in default.items()}
    data = data_of(given)
    data.setup()
    module.build(data)


def test_every_variant_and_every_penalty_has_a_preset():
    assert [path.stem for path in VARIANTS] == dn.list_variants()
    stated = [yaml.safe_load(path.read_text())["model"]["penalty"] for path in PENALTIES]
    assert sorted(name for [name] in stated) == dn.list_penalties()


def test_several_presets_lie_over_each_other(tmp_path):
    """Each file adds its variants; of one that two files state, the later settings count."""
    later = tmp_path / "later.yaml"
    later.write_text("model: {channels: 6, variants: {gdas: {temperature: 5e0}}}\n")
    argv = ["--config=variants/gdas", "-c", "variants/pc_darts", f"-c={later}"]
    config = search_config(*argv)
    assert config.variants == {
        "gdas": {"temperature": 5.0},
        "pc_darts": {"parts": 4, "edge_normalisation": True},
    }
    assert config.channels == 6
    assert search_config("--model.channels=4", *argv).channels == 4
    later.write_text("model: {variants: gdas}\n")
    assert search_config(*argv).variants["gdas"] is None
    assert search_config(*argv, "--model.variants=null").variants is None
    assert search_config("--model.variants=gdas").variants == {"gdas": None}


@pytest.mark.parametrize("path", PENALTIES, ids=lambda p: p.stem)
def test_a_penalty_lies_over_a_search_config_and_states_every_setting(path):
    config = search_config(DIGITS, f"--config={path}")
    [(name, stated)] = config.penalty.items()
    assert path.stem in (name, *(f"{name}_{word}" for word in stated.values()))
    penalty = dn.SearchModule(config).penalty
    allowed = inspect.signature(type(penalty)).parameters
    assert {k: type(v) for k, v in stated.items()} == {
        k: type(p.default) for k, p in allowed.items()
    }
    assert all(getattr(penalty, k) == v for k, v in stated.items())
    assert f"--config penalties/{path.stem}" in path.read_text()  # the command that it shows


@pytest.mark.parametrize("path", STRATEGIES, ids=lambda p: p.stem)
def test_a_strategy_lies_over_a_search_config_and_states_every_setting(path):
    config = search_config(DIGITS, f"--config={path}")
    [(name, stated)] = config.strategy.items()
    assert path.stem in (name, "enas_memory")
    strategy = dn.SearchModule(config).strategy
    allowed = inspect.signature(type(strategy)).parameters
    assert {k: type(v) for k, v in stated.items()} == {
        k: type(p.default) for k, p in allowed.items()
    }
    assert f"--config strategies/{path.stem}" in path.read_text()  # the command that it shows


def test_every_strategy_but_the_default_has_a_preset():
    stems = {path.stem for path in STRATEGIES} - {"enas_memory"}
    assert sorted(["darts", *stems]) == dn.list_strategies()


@pytest.mark.parametrize(
    ("given", "expected"),
    [("random", "random"), ("{random: {rungs: 2}}", {"random": {"rungs": 2}})],
)
def test_a_strategy_has_a_short_option(given, expected):
    for option in ("--strategy", "--model.strategy"):
        config = search_config(f"--config={STRATEGIES[0]}", f"{option}={given}")
        assert config.strategy == expected
    assert search_config("--strategy_steps=7").strategy_steps == 7
    assert search_config().strategy == "darts"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("lookahead", "lookahead"),
        ("{twin: {form: log}}", {"twin": {"form": "log"}}),
        ("{lookahead: {learning_rate: 5e-2}}", {"lookahead": {"learning_rate": 0.05}}),
        ("{gram: {samples: 4}}", {"gram": {"samples": 4}}),
        ("{shared: null}", {"shared": None}),
    ],
)
def test_an_option_takes_the_place_of_a_files_penalty(given, expected):
    found = search_config(
        f"--config={PENALTIES[0]}", f"--model.penalty={given}", "--model.twin_restart=0"
    ).penalty
    assert found == expected
    assert repr(found) == repr(expected)  # 4 is not 4.0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("gaussian", "gaussian"),
        ("{gaussian: 1}", {"gaussian": 1}),
        ("dataset:mnist", "dataset:mnist"),
        ("{uniform: {weight: 2, labels: random}}", {"uniform": {"weight": 2, "labels": "random"}}),
    ],
)
def test_an_option_takes_the_place_of_a_files_mixture(given, expected, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("model:\n  noise_family: {uniform: 1, blur: 1}\n")
    argv = [f"--config={config}", f"--model.noise_family={given}"]
    assert search_config(*argv).noise_family == expected


def test_the_defaults_are_the_papers():
    """DARTS, section 3.1 and appendix A.1: the figures of the search and of the retraining."""
    found, data = dn.SearchConfig(), dn.DataConfig()
    assert (found.channels, found.num_cells) == (16, 8)
    assert (found.learning_rate, found.learning_rate_min) == (0.025, 0.001)
    assert (found.momentum, found.weight_decay, found.gradient_clip) == (0.9, 3e-4, 5)
    assert (found.alpha_learning_rate, found.alpha_betas) == (3e-4, (0.5, 0.999))
    assert (found.alpha_weight_decay, data.validation_fraction) == (1e-3, 0.5)
    trained = dn.TrainConfig()
    assert (trained.channels, trained.num_cells) == (36, 20)
    assert (trained.auxiliary_weight, trained.drop_path) == (0.4, 0.2)
    assert (trained.learning_rate, trained.momentum, trained.weight_decay) == (0.025, 0.9, 3e-4)
    assert (searching.EPOCHS, training.EPOCHS) == (50, 600)


def test_the_imagenet_preset_is_the_papers():
    """DARTS, section 3.3 and appendix A.3."""
    config = yaml.safe_load((ROOT / "configs" / "train" / "imagenet.yaml").read_text())
    model, trainer = config["model"], config["trainer"]
    assert (config["data"]["image_size"], config["data"]["batch_size"]) == (224, 128)
    assert (model["channels"], model["num_cells"], model["stem"]) == (48, 14, "imagenet")
    assert (model["learning_rate"], model["learning_rate_decay"]) == (0.1, 0.97)
    assert (model["weight_decay"], model["label_smoothing"]) == (3e-5, 0.1)
    assert (model["auxiliary_weight"], model["drop_path"]) == (0.4, 0.0)
    assert (trainer["max_epochs"], trainer["gradient_clip_val"]) == (250, 5.0)


@pytest.mark.parametrize(
    "kind", ["search", "train", "study", "variants", "penalties", "strategies"]
)
def test_each_is_found_by_its_name_from_any_folder(kind, tmp_path, monkeypatch):
    assert CONFIGS.resolve() == ROOT / "configs"
    monkeypatch.chdir(tmp_path)
    names = list_configs(kind)
    assert names
    for name in names:
        found = find_config(name, kind)
        assert yaml.safe_load(found.read_text("utf-8"))
        assert found == find_config(str(found), kind)


def test_a_file_of_the_user_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    assert find_config("mnist", "search") == CONFIGS / "search" / "mnist.yaml"
    (tmp_path / "digits").write_text("seed: 1\n")
    assert find_config("digits", "search") == Path("digits")


def test_what_is_no_name_is_a_path(tmp_path):
    (tmp_path / "mine.yaml").touch()
    for path in (tmp_path / "mine.yaml", tmp_path, Path("/dev/null")):
        assert find_config(str(path), "search") == path


@pytest.mark.parametrize(
    "named",
    ["mnst", "variants/no", "imagenet", "no.yaml", "a/b/c", "../search/mnist", "seed: 1", "a\0b"],
)
def test_another_name_is_refused_with_those_there_are(named):
    there = r"cifar10, digits, digits_labels, mnist, .*penalties/gram"
    with pytest.raises(SettingError, match=there) as error:
        find_config(named, "search")
    assert error.value.key == "config"


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (search, ["--config", "mnist", "--config=variants/gdas"]),
        (search, ["-c", "search/mnist", "-cvariants/gdas"]),
        (train, ["--config=mnist"]),
    ],
)
def test_what_is_printed_is_a_config_that_says_the_same(command, argv, tmp_path, capsys):
    argv = [*argv, "--data.batch_size=17", "--seed=3", "--trainer.callbacks=[Timer]"]
    command([*argv, "--print_config"])
    text = capsys.readouterr().out
    config = yaml.safe_load(text)
    assert config["data"]["name"] == "mnist"
    assert (config["data"]["batch_size"], config["trainer"]["callbacks"]) == (17, ["Timer"])
    assert config["model"]["seed"] == config["data"]["seed"] == config["seed"] == 3
    assert list(config["model"].get("variants") or {}) == ["gdas"] * (command is search)
    (tmp_path / "c.yaml").write_text(text)
    command([f"--config={tmp_path / 'c.yaml'}", "--print_config"])
    assert capsys.readouterr().out == text


def ends(parameter: dict[str, Any]) -> list[Any]:
    """The values of a parameter, or the two ends of what they are drawn from."""
    if "values" in parameter:
        return [parameter["values"][0], parameter["values"][-1]]
    assert parameter["distribution"] in ("uniform", "log_uniform_values", "int_uniform")
    assert parameter["min"] < parameter["max"]
    return [parameter["min"], parameter["max"]]


def sweep_commands(sweep: dict[str, Any]) -> list[list[str]]:
    """What an agent runs at every corner of the sweep, as W&B writes the arguments."""
    names = list(sweep["parameters"])
    found = []
    for values in product(*(ends(sweep["parameters"][name]) for name in names)):
        args = {name: {"value": v} for name, v in zip(names, values, strict=True)}
        flags = create_sweep_command_args({"args": args})["args"]
        command: list[str] = []
        for part in sweep["command"]:
            command += flags if part == "${args}" else [part]
        found.append(command)
    return found


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_parser_takes_the_commands_of_a_sweep(path):
    sweep = yaml.safe_load(path.read_text("utf-8"))
    assert sweep["method"] in ("grid", "random", "bayes")
    assert sweep["metric"] == {"name": "objective", "goal": "minimize"}
    assert (ROOT / sweep["program"]).is_file()
    assert sweep["command"][:3] == ["${env}", "sh", "-c"]
    assert sweep["command"][4:] == ["${interpreter}", "${args}"]
    weights = set()
    for command in (sweep_commands(sweep)[0], sweep_commands(sweep)[-1]):
        given = read(SEARCH, "--config", path.stem, *command[5:])
        weights.add(given.settings(dn.SearchConfig, "model.").noise_weight)
    assert weights == set(map(float, ends(sweep["parameters"]["model.noise_weight"])))


@pytest.mark.parametrize(
    ("slip", "name"),
    [("mnits", "mnist"), ("variants/gads", "variants/gdas"), ("smal.yaml", "small")],
)
def test_a_misspelt_config_suggests_the_nearest(slip, name):
    with pytest.raises(SettingError, match=f"did you mean '{name}'"):
        find_config(slip, "search")


@pytest.mark.slow
def test_a_run_of_a_sweep_searches_trains_and_ranks_the_training(tmp_path):
    sweep = yaml.safe_load((ROOT / "configs" / "sweeps" / "digits.yaml").read_text("utf-8"))
    command = sweep_commands(sweep)[-1][1:]
    for kind, options in (("search", SMALL_SEARCH), ("train", SMALL_TRAIN)):
        small = f"{kind} --config digits {shlex.join(options)}"
        command[2] = command[2].replace(f"{kind} --config digits", small)
    command[3] = sys.executable
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    environment |= {"WANDB_MODE": "offline", "WANDB_RUN_ID": "abc", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=300)
    [searched] = tmp_path.glob("runs/search/abc/wandb/offline-run-*/*.wandb")
    [trained] = tmp_path.glob("runs/train/abc/wandb/offline-run-*/*.wandb")
    assert trained.name == "run-abc.wandb"  # of which the agent reads the metric
    assert searched.name != trained.name
    card = json.loads((tmp_path / "runs/train/abc/card.json").read_text())
    assert (card["noise_weight"], card["cell"]) == (10.0, "runs/search/abc")
    assert inspected_summary(trained)["summary"]["objective"] == card["objective"]
