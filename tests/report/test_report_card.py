"""The card: counts against a count by hand, and one set of figures in both of its files."""

import json
import math
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from darts_noise.nets.network import create_model
from darts_noise.report import measured
from darts_noise.report.card import (
    FIGURES,
    control_row,
    markdown,
    row,
    verdict,
    without_diverged,
    write_card,
)
from darts_noise.report.measured import (
    count_multiply_adds,
    count_parameters,
    describe_hardware,
    versions,
)

TITLES = {figure.key: figure.title for figure in FIGURES}
CARD: dict[str, Any] = {
    "kind": "train",
    "dataset": "digits",
    "noise_weight": 1.0,
    "test_accuracy": 0.98765,
    "test_loss": 0.0512,
    "noise_accuracy": 0.1345,
    "noise_protocol": "quick: 1,294 uniform images, 3 epochs",
    "positive_control": None,
    "parameters": 54_330,
    "multiply_adds": 638_976,
    "epochs": 3,
    "train_samples": 1294,
    "seed": 2024,
    "wall_time_s": 11_550.4,
    "hardware": "AMD EPYC (2 cores)",
    "versions": {"python": "3.11.7", "torch": "2.15.0"},
}


class ConvThenLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)
        self.linear = nn.Linear(8, 10)
        self.auxiliary = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.depthwise(self.norm(self.conv(x))).mean((2, 3))
        logits: Tensor = self.linear(out)
        return logits + self.auxiliary(out) if self.training else logits


def test_multiply_adds_by_hand() -> None:
    maps = 8 * 5 * 7  # channels × ⌈9/2⌉ × ⌈14/2⌉
    expected = maps * 3 * 3 * 3 + maps * 5 * 5 + 8 * 10
    assert count_multiply_adds(ConvThenLinear(), (3, 9, 14)) == expected
    assert count_multiply_adds(ConvThenLinear().double(), [3, 9, 14]) == expected


def test_counting_leaves_the_network_as_it_was() -> None:
    net = ConvThenLinear()
    net.norm.eval()  # a frozen norm in a network that trains
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [m.training for m in net.modules()]
    count_multiply_adds(net, (3, 8, 8))
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with pytest.raises(RuntimeError):
        count_multiply_adds(net, (4, 8, 8))
    assert [m.training for m in net.modules()] == modes


def test_parameters_without_the_auxiliary_head() -> None:
    expected = (3 * 8 * 9 + 8) + 2 * 8 + 8 * 25 + (8 * 10 + 10)
    assert count_parameters(ConvThenLinear()) == expected
    assert count_parameters(nn.Sequential(ConvThenLinear())) == expected  # as in a wrapper
    settings: dict[str, Any] = {"num_classes": 10, "channels": 4, "num_cells": 3}
    nets = [create_model("darts_v2", auxiliary=a, **settings) for a in (False, True)]
    assert len({count_parameters(net) for net in nets}) == 1
    assert len({count_multiply_adds(net, (3, 32, 32)) for net in nets}) == 1


def table(text: str) -> dict[str, str]:
    lines = text.splitlines()
    assert lines[:2] == ["| | |", "|---|---|"]
    cells = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines[2:]]
    assert all(len(pair) == 2 for pair in cells)
    return dict(cells)  # type: ignore[arg-type]


def test_both_files_hold_the_same_figures(tmp_path: Path) -> None:
    write_card(tmp_path, CARD)
    held = json.loads((tmp_path / "card.json").read_text())
    assert held == CARD
    shown = table((tmp_path / "card.md").read_text())
    assert set(shown) == {TITLES[key] for key in CARD if key in TITLES}
    for key in ("parameters", "multiply_adds", "epochs", "train_samples", "seed"):
        assert int(shown[TITLES[key]].replace(",", "")) == held[key]
    for key in ("test_accuracy", "noise_accuracy"):
        assert float(shown[TITLES[key]].removesuffix("%")) / 100 == pytest.approx(
            held[key], abs=5e-5
        )
    assert shown["Wall time"] == "3 h 13 min"
    assert shown["Seed"] == "2024"
    assert shown["Positive control's noise accuracy"] == "not measured"
    assert shown["Versions"] == "python 3.11.7, torch 2.15.0"
    for part in ("Test accuracy 98.77%", "Parameters 54,330", "Seed 2024", "Wall time 3 h 13 min"):
        assert part in row(CARD)


def test_diverged_run_still_gives_valid_json(tmp_path: Path) -> None:
    broken = CARD | {"test_loss": math.nan, "noise": {"accuracy": [math.inf, 0.5]}}
    write_card(tmp_path, broken | {"test_accuracy": math.nan})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    held = json.loads((tmp_path / "card.json").read_text(), parse_constant=refuse)
    assert held["test_loss"] is None
    assert held["noise"] == {"accuracy": [None, 0.5]}
    assert table((tmp_path / "card.md").read_text())["Test accuracy"] == "not measured"


def test_figures_of_a_diverged_training_are_shown_by_that_word(tmp_path: Path) -> None:
    card = without_diverged(CARD, ["noise_accuracy", "test_loss"])
    write_card(tmp_path, card)
    held = json.loads((tmp_path / "card.json").read_text())
    assert held["noise_accuracy"] is held["test_loss"] is None
    assert held["diverged"] == ["noise_accuracy", "test_loss"]
    shown = table((tmp_path / "card.md").read_text())
    assert shown["Training-noise accuracy"] == "diverged"
    assert shown["Test accuracy"] == "98.77%"
    assert "Training-noise accuracy diverged" in row(card)
    assert without_diverged(CARD, []) == CARD


def test_variants_are_shown_with_their_settings() -> None:
    variants = {"gdas": {"temperature": 10.0, "final_temperature": 0.1}, "darts_plus": None}
    shown = table(markdown({"variants": variants}))
    assert shown["Variants"] == "gdas (temperature 10, final_temperature 0.1), darts_plus"


def test_what_is_not_there_is_left_out_and_text_cannot_break_the_table() -> None:
    shown = table(markdown({"noise_weight": None, "noise_accuracy": None, "dataset": "a | b\nc"}))
    assert shown == {"Data set": r"a \| b c", "Training-noise accuracy": "not measured"}
    assert markdown({}) == "| | |\n|---|---|\n"
    assert row({}) == ""


def test_versions_are_those_installed() -> None:
    found = versions()
    for package in ("torch", "torchvision", "pytorch-lightning"):
        assert found[package] == metadata.version(package)
    assert "unknown" not in found.values()


def test_version_of_a_checkout_is_that_of_its_project(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(measured, "version", absent)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    found = versions()
    assert found["darts_noise"] == f"{project['version']} (not installed)"
    assert found["torch"] == "unknown"
    # A site-packages folder that happens to have somebody else's pyproject.toml beside it.
    monkeypatch.setattr(
        measured.tomllib, "loads", lambda _: {"project": {"name": "x", "version": "9"}}
    )
    assert versions()["darts_noise"] == "unknown"


def test_hardware_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe_hardware(torch.device("cpu")).endswith(" cores)")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert describe_hardware(torch.device("cuda", 1)) == "GPU 1"


def noise(**more: Any) -> dict[str, Any]:
    """A record of the noise check: resnet18 fits all, the best constant answer is 11%."""
    usual = {"protocol": "converged", "family": "uniform", "chance": 0.11}
    return {**usual, "controls": {"resnet18": 1.0}, "control_reached": True, **more}


TRAINED = {"kind": "train", "num_classes": 10, "test_accuracy": 0.98}
SEARCHED = {"kind": "search", "noise_weight": 1.0, "noise_family": "uniform", "noise_chance": 0.2}
CONSTANT = {"test_accuracy": 0.6, "test_chance": 0.6}
QUICK: dict[str, Any] = {"protocol": "quick", "controls": {}, "control_reached": None}
VERDICTS = {
    "memorised": (
        {**TRAINED, "noise": noise(), "noise_accuracy": 1.0},
        ["memorises uniform", "100.0%, 89.0 points above", "(11.0%)", "resnet18", "noise_weight"],
    ),
    "memorised, which needs no control": (
        {**TRAINED, "noise": noise(**QUICK), "noise_accuracy": 0.97},
        ["memorises uniform", "97.0%, 86.0 points above", "model.space"],
    ),
    "a part": (
        {**TRAINED, "noise": noise(), "noise_accuracy": 0.5},
        ["a part", "39.0 points above", "control resnet18 fits 100.0%", "noise_weight"],
    ),
    "nothing": (
        {**TRAINED, "noise": noise(family="random_pixels"), "noise_accuracy": 0.105},
        ["does not memorise", "0.5 points below", "resnet18", "--noise_family random_labels"],
    ),
    "no control": (
        {**TRAINED, "noise": noise(**QUICK), "noise_accuracy": 0.12},
        ["1.0 points above", "no control", "--noise_protocol converged"],
    ),
    "nothing, beside the same cell with batch norm": (
        {
            **TRAINED,
            "noise": noise(protocol="quick", controls={"with batch norm": 1.0}),
            "noise_accuracy": 0.12,
        },
        ["does not memorise", "control with batch norm fits 100.0%", "--noise_protocol converged"],
    ),
    "nothing, but converged without a control": (
        {
            **TRAINED,
            "noise": noise(controls={}, control_reached=None),
            "noise_accuracy": 0.12,
        },
        ["1.0 points above", "no control", "--noise_controls"],
    ),
    "a control that is too weak": (
        {
            **TRAINED,
            "noise": noise(controls={"a": 0.2, "b": 0.4, "c": None}, control_reached=False),
            "noise_accuracy": 0.12,
        },
        ["1.0 points above", "control b: 40.0%", "proves nothing", "--noise_epochs"],
    ),
    "real images are not fitted either": (
        {**TRAINED, "noise": noise(real_reached=False), "noise_accuracy": 0.12},
        ["real images", "proves nothing", "--noise_epochs"],
    ),
    "learns nothing": (
        {**TRAINED, "test_accuracy": 0.15, "noise": noise(), "noise_accuracy": 0.12},
        ["little or nothing", "15.0%", "trainer.max_epochs", "proves nothing"],
    ),
    "only names the largest class, and memorises": (
        {
            **TRAINED,
            **CONSTANT,
            "noise": noise(),
            "noise_accuracy": 1.0,
        },
        ["test accuracy 60.0%", "best constant answer (60.0%)", "memorises uniform"],
    ),
    "only names the largest class, without noise": (
        {**TRAINED, "test_accuracy": 0.61, "test_chance": 0.6, "noise": None},
        ["test accuracy 61.0%, 1.0 points above", "--noise_check"],
    ),
    "search that only names the largest class": (
        {**SEARCHED, "chance": 0.6, "validation_accuracy": 0.6, "twin_noise_accuracy": 0.21},
        ["validation accuracy 60.0%, 0.0 points above the best constant answer", "twin"],
    ),
    "a further family is memorised": (
        {
            **TRAINED,
            "noise": noise(),
            "noise_accuracy": 0.12,
            "other_noise": [
                {"noise": noise(family="blur"), "noise_accuracy": 0.97},
                {"noise": noise(family="random_labels"), "noise_accuracy": 0.5},
                {"noise": noise(family="random_pixels", **QUICK), "noise_accuracy": 0.12},
                {"noise": noise(family="dataset:mnist"), "noise_accuracy": None},
            ],
        },
        [
            "does not memorise uniform",
            "blur noise: memorised, 97.0%",
            "random_labels noise: memorised in part, 50.0%",
            "random_pixels noise: not memorised, without proof, 12.0%",
            "dataset:mnist noise: every training diverged",
        ],
    ),
    "not measured": ({**TRAINED, "noise": None, "noise_accuracy": None}, ["--noise_check"]),
    "diverged": (
        {**TRAINED, "noise": noise(), "noise_accuracy": None},
        ["diverged", "no evidence", "learning_rate"],
    ),
    "selectivity": (
        {
            **TRAINED,
            "noise": noise(protocol="selectivity", selectivity=43.0, shown_selectivity="> 43"),
            "noise_accuracy": None,
        },
        ["> 43 times", "without a control", "--noise_protocol converged"],
    ),
    "selectivity without a bound": (
        {**TRAINED, "noise": noise(protocol="selectivity", selectivity=None)},
        ["half of the real images", "--noise_epochs"],
    ),
    "search, λ = 0": ({**SEARCHED, "noise_weight": 0.0}, ["λ = 0", "train.py"]),
    "search without a twin": ({**SEARCHED, "twin_noise_accuracy": None}, ["train.py"]),
    "search at chance": (
        {**SEARCHED, "twin_noise_accuracy": 0.21},
        ["twin", "21.0%, 1.0 points above", "(20.0%)", "without a control", "train.py"],
    ),
    "search, a part": (
        {**SEARCHED, "twin_noise_accuracy": 0.6},
        ["twin", "40.0 points above", "a part", "noise_weight"],
    ),
    "search, all": (
        {**SEARCHED, "twin_noise_accuracy": 0.21, "cell_noise_accuracy": 1.0},
        ["chosen cell", "80.0 points above", "all is memorised", "model.space"],
    ),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_the_verdict_says_what_the_figures_mean_against_what_and_what_to_try(case: str) -> None:
    card, words = VERDICTS[case]
    said = verdict(card)
    assert [word for word in words if word not in said] == [], said
    assert said.endswith(".")
    assert "\n" not in said
    assert said.isprintable()


def test_the_control_has_a_row_with_the_figures_that_compare() -> None:
    control = {"network": "with batch norm", "parameters": 1234, "genotype": {"macro": {}}}
    control |= {"test_accuracy": 0.99, "noise_accuracy": None, "other_noise": []}
    shown = control_row({**CARD, "control": control})
    assert shown is not None
    assert "Test accuracy 99.00%" in shown
    assert "not measured" in shown
    assert "Parameters 1,234" in shown
    assert f"| Control | {shown.replace('|', chr(92) + '|')} |" in markdown(
        {**CARD, "control": control}
    )
    unlearnt = {**CARD, "num_classes": 10, "test_accuracy": 0.1, "control": control}
    assert "(the control: 99.00%)" in verdict(unlearnt)
    assert control_row(CARD) is None


def test_the_verdict_of_a_network_that_has_learnt_its_data_does_not_speak_of_them() -> None:
    card = {**TRAINED, "test_chance": 0.6, "noise": noise(), "noise_accuracy": 1.0}
    assert "learns" not in verdict(card)
    assert "measure another" in verdict({**card, "noise_accuracy": 0.11})
    others = [{"noise": noise(family="blur"), "noise_accuracy": 0.97}]
    assert "measure" not in verdict({**card, "noise_accuracy": 0.11, "other_noise": others})


def test_each_further_family_has_its_row() -> None:
    others = [
        {"noise_accuracy": 0.5, "noise": noise(family="blur"), "positive_control": "resnet18 1%"},
        {"noise_accuracy": None, "noise": noise(), "positive_control": None},
    ]
    card = {**CARD, "other_noise": others}
    text = markdown(card)
    title = TITLES["noise_accuracy"]
    assert f"| {title}, blur | 50.00%, best constant answer 11.00%, control resnet18 1% |" in text
    assert f"| {title}, uniform | diverged, best constant answer 11.00% |" in text
    assert f"| {title}, blur 50.00% |" in row(card)


def test_a_cell_of_a_strategy_that_learns_nothing_is_named():
    """A strategy trains no supernet: the cell alone is judged, and its epochs are named."""
    card = {"kind": "search", "num_classes": 10, "chance": 0.1, "cell_validation_accuracy": 0.1}
    card |= {"cell_noise_accuracy": 0.57, "noise_chance": 0.17, "noise_family": "uniform"}
    assert "model.candidate_epochs" in verdict(card)
    assert "learns" not in verdict({**card, "cell_validation_accuracy": 0.9})
