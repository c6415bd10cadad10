"""Every shipped W&B sweep makes commands that the parser takes, over λ, and is a valid sweep."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from darts_noise.cli.search import SearchCLI
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

import darts_noise as dn

SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
METHODS = ("grid", "random", "bayes")
DISTRIBUTIONS = ("uniform", "log_uniform_values", "int_uniform")


def ends(parameter: dict[str, Any]) -> list[Any]:
    """The values of a parameter, or the two ends of what they are drawn from."""
    if "values" in parameter:
        return [parameter["values"][0], parameter["values"][-1]]
    assert parameter["distribution"] in DISTRIBUTIONS
    assert parameter["min"] < parameter["max"]
    return [parameter["min"], parameter["max"]]


def commands(sweep: dict[str, Any]) -> list[list[str]]:
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
def test_the_parser_takes_its_commands(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = yaml.safe_load(path.read_text("utf-8"))
    assert sweep["method"] in METHODS
    assert (ROOT / sweep["program"]).is_file()
    assert sweep["command"][:3] == ["${env}", "${interpreter}", "${program}"]
    assert "model.noise_weight" in sweep["parameters"]
    monkeypatch.chdir(ROOT)
    weights = set()
    for command in (commands(sweep)[0], commands(sweep)[-1]):
        cli = SearchCLI(dn.SearchModule, command[3:])
        weights.add(cli.model.config.noise_weight)
        assert cli.datamodule.name == path.stem
    assert weights == set(map(float, ends(sweep["parameters"]["model.noise_weight"])))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_what_it_maximises_is_a_figure_of_the_search(path: Path) -> None:
    metric = yaml.safe_load(path.read_text("utf-8"))["metric"]
    assert metric == {"name": "val/accuracy", "goal": "maximize"}
