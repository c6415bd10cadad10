"""The result card: the row that a paper would print, as JSON and Markdown.

A new figure is one more key in `train_card` or `search_card`, and a line in `TITLES` if the table
is to show it.
"""

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from darts_noise.atomic import write_text

TITLES = {
    "dataset": "Data set",
    "noise_weight": "λ",
    "test_accuracy": "Test accuracy",
    "validation_accuracy": "Validation accuracy",
    "noise_accuracy": "Training-noise accuracy",
    "noise_protocol": "Noise protocol",
    "parameters": "Parameters",
    "multiply_adds": "Multiply-adds",
    "epochs": "Epochs",
    "train_samples": "N",
    "seed": "Seed",
    "wall_time_s": "Wall time",
    "hardware": "Hardware",
    "versions": "Versions",
}


def count_parameters(net: nn.Module) -> int:
    """Learnable parameters, the auxiliary head left out as papers do."""
    return sum(p.numel() for name, p in net.named_parameters() if not name.startswith("auxiliary."))


def count_multiply_adds(net: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Multiply-adds of one image (C, H, W) in eval mode: half of torch's count of FLOPs.

    torch counts convolutions and matrix products; pools, norms and activations are not in it.
    """
    was_training = net.training
    net.eval()
    image = torch.zeros(1, *image_shape, device=next(net.parameters()).device)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(image)
    net.train(was_training)
    return int(counter.get_total_flops()) // 2


def describe_hardware(device: torch.device) -> str:
    """The processor's or the GPU's name, and the number of cores."""
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
    found = {"python": platform.python_version()}
    for package in ("darts_noise", "torch", "torchvision", "pytorch-lightning"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def write_card(run: Path, card: Mapping[str, Any]) -> None:
    """Writes ``card.json`` and ``card.md``."""
    write_text(run / "card.json", json.dumps(card, indent=1) + "\n")
    write_text(run / "card.md", markdown(card))


def markdown(card: Mapping[str, Any]) -> str:
    """The card as a table of two columns."""
    rows = [
        f"| {title} | {_shown(key, card[key])} |" for key, title in TITLES.items() if key in card
    ]
    return "\n".join(["| | |", "|---|---|", *rows]) + "\n"


def row(card: Mapping[str, Any]) -> str:
    """The figures that a person reads first, on one line."""
    keys = [
        "test_accuracy",
        "validation_accuracy",
        "noise_accuracy",
        "parameters",
        "multiply_adds",
        "epochs",
        "train_samples",
        "seed",
        "wall_time_s",
    ]
    return " | ".join(f"{TITLES[k]} {_shown(k, card[k])}" for k in keys if k in card)


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "not measured"
    if key.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    if key == "wall_time_s":
        return f"{value:.0f} s"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if key != "seed" else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)
