"""The result card: the row that a paper would print, as JSON and Markdown.

A new figure is one more key in the card that a script makes, and a line in `TITLES` if the table
is to show it.
"""

import json
import math
import os
import platform
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from darts_noise.atomic import write_text
from darts_noise.train.progress import readable_duration

TITLES = {
    "dataset": "Data set",
    "cell": "Cell",
    "space": "Space",
    "macro": "Whole network",
    "channels": "Channels",
    "num_cells": "Cells",
    "hypergradient": "Hypergradient",
    "variants": "Variants",
    "noise_weight": "λ",
    "noise_penalty": "Penalty of the search",
    "noise_family": "Noise family of the search",
    "test_accuracy": "Test accuracy",
    "validation_accuracy": "Validation accuracy",
    "noise_accuracy": "Training-noise accuracy",
    "selectivity": "Selectivity (steps on noise / on data)",
    "noise_protocol": "Noise protocol",
    "noise_grid": "Trainings on noise",
    "noise_diverged": "Of these, diverged",
    "positive_control": "Positive control's noise accuracy",
    "twin_noise_accuracy": "Twin's noise accuracy",
    "penalty": "Penalty P(α)",
    "candidates": "Cells measured",
    "cell_validation_accuracy": "Validation accuracy of the best, alone",
    "cell_noise_accuracy": "Noise accuracy of the best, alone",
    "parameters": "Parameters",
    "multiply_adds": "Multiply-adds",
    "epochs": "Epochs",
    "train_samples": "N",
    "seed": "Seed",
    "wall_time_s": "Wall time",
    "hardware": "Hardware",
    "precision": "Precision",
    "versions": "Versions",
}
ROW = (
    "test_accuracy",
    "validation_accuracy",
    "cell_validation_accuracy",
    "cell_noise_accuracy",
    "noise_accuracy",
    "selectivity",
    "parameters",
    "multiply_adds",
    "epochs",
    "train_samples",
    "seed",
    "wall_time_s",
)
MEASURED = ("test_accuracy", "validation_accuracy", "noise_accuracy", "positive_control")
"""Figures that a reader looks for: where one is None, the table says so."""
PACKAGES = ("darts_noise", "torch", "torchvision", "pytorch-lightning")


def count_parameters(net: nn.Module) -> int:
    """Entries of all parameters, the auxiliary head left out as papers do."""
    return sum(
        p.numel() for name, p in net.named_parameters() if "auxiliary" not in name.split(".")
    )


def count_multiply_adds(net: nn.Module, image_shape: Sequence[int]) -> int:
    """Multiply-adds of one image (C, H, W) in eval mode: half of torch's count of FLOPs.

    torch counts convolutions and matrix products; biases, pools, norms and activations are not in
    it. The network is left as it was.
    """
    modes = {module: module.training for module in net.modules()}
    parameter = next(net.parameters())
    image = torch.zeros(1, *image_shape, device=parameter.device, dtype=parameter.dtype)
    counter = FlopCounterMode(display=False)
    net.eval()
    try:
        with counter, torch.no_grad():
            net(image)
    finally:
        for module, training in modes.items():
            module.training = training
    return int(counter.get_total_flops()) // 2


def describe_hardware(device: torch.device) -> str:
    """The GPU's name, or the processor's and the number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    return f"{name} ({os.cpu_count()} cores)"


def versions() -> dict[str, str]:
    """Of Python and the packages that decide a result."""
    return {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}}


def _version(package: str) -> str:
    """The installed version; that of ``pyproject.toml`` where this runs from a checkout."""
    try:
        return version(package)
    except PackageNotFoundError:
        project = Path(__file__).resolve().parents[2] / "pyproject.toml"
        if package == "darts_noise" and project.is_file():
            settings = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
            if settings.get("name") == package and "version" in settings:
                return f"{settings['version']} (not installed)"
        return "unknown"


def write_card(run: Path, card: Mapping[str, Any]) -> None:
    """Writes ``card.json`` and ``card.md``, which hold the same figures.

    A number that is not finite (the loss of a run that diverged) becomes null: JSON has no other.
    """
    figures = finite(card)
    write_text(run / "card.json", json.dumps(figures, indent=1, allow_nan=False) + "\n")
    write_text(run / "card.md", markdown(figures))


def without_diverged(card: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The card of a run whose loss was not finite at the end: these of its figures mean nothing.

    They become None, are listed under ``diverged``, and are shown by that word.
    """
    return {**card, **dict.fromkeys(keys), "diverged": list(keys)} if keys else dict(card)


def shown_figures(card: Mapping[str, Any]) -> dict[str, str]:
    """The card as a person reads it: key → text, in the order of `TITLES`."""
    return {
        key: " ".join(_cell(card, key).split())
        for key in TITLES
        if key in card
        and (card[key] is not None or key in MEASURED or key in card.get("diverged", ()))
    }


def markdown(card: Mapping[str, Any]) -> str:
    """The card as a table of two columns."""
    figures = shown_figures(card)
    rows = ["| " + TITLES[key] + " | " + figures[key].replace("|", "\\|") + " |" for key in figures]
    return "\n".join(["| | |", "|---|---|", *rows]) + "\n"


def row(card: Mapping[str, Any]) -> str:
    """The figures that a person reads first, on one line."""
    return " | ".join(f"{TITLES[k]} {_cell(card, k)}" for k in ROW if k in card)


def _cell(card: Mapping[str, Any], key: str) -> str:
    return "diverged" if key in card.get("diverged", ()) else _shown(key, card[key])


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, Mapping):
        return ", ".join(_entry(k, v) for k, v in value.items())
    if isinstance(value, str | bool) or key == "seed":
        return str(value)
    if key.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    if key == "wall_time_s":
        return readable_duration(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _entry(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(_entry(k, v) for k, v in value.items())
        return f"{key} ({inner})" if inner else key
    return key if value is None else f"{key} {value}"


def finite(value: Any) -> Any:
    """The same JSON value with null in place of every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
