"""The result card: the row that a paper would print, as JSON and Markdown.

To show one more figure, add its key to the card that a run makes, and a line to `FIGURES`.
"""

import json
import math
import os
import platform
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from darts_noise.atomic import write_text
from darts_noise.train.progress import readable_duration


def percent(value: float) -> str:
    """Return a share as text.

    >>> percent(0.98765)
    '98.77 %'
    """
    return f"{100 * value:.2f} %"


def plain(value: float) -> str:
    """Return a number as text.

    >>> plain(54330), plain(0.123456)
    ('54,330', '0.1235')
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


@dataclass(frozen=True)
class CardFigure:
    """How a person reads one figure of the card.

    Attributes:
        key: its key in ``card.json``.
        title: its title in ``card.md`` and on the page.
        number: writes a number as text; other values are written as they are.
        first: whether it stands on the one line that a command prints at its end.
        expected: whether the table says "not measured" in place of None; another figure that is
            None is left out.
    """

    key: str
    title: str
    number: Callable[[float], str] = plain
    first: bool = False
    expected: bool = False


FIGURES = (
    CardFigure("dataset", "Data set"),
    CardFigure("cell", "Cell"),
    CardFigure("space", "Space"),
    CardFigure("macro", "Whole network"),
    CardFigure("channels", "Channels"),
    CardFigure("num_cells", "Cells"),
    CardFigure("hypergradient", "Hypergradient"),
    CardFigure("variants", "Variants"),
    CardFigure("noise_weight", "λ"),
    CardFigure("noise_penalty", "Penalty of the search"),
    CardFigure("noise_family", "Noise family of the search"),
    CardFigure("test_accuracy", "Test accuracy", percent, first=True, expected=True),
    CardFigure("validation_accuracy", "Validation accuracy", percent, first=True, expected=True),
    CardFigure("noise_accuracy", "Training-noise accuracy", percent, first=True, expected=True),
    CardFigure("selectivity", "Selectivity (steps on noise / on data)", first=True),
    CardFigure("noise_protocol", "Noise protocol"),
    CardFigure("noise_grid", "Trainings on noise"),
    CardFigure("noise_diverged", "Of these, diverged"),
    CardFigure("noise_check", "Noise check"),
    CardFigure("noise_real", "The same trainings on real images"),
    CardFigure("positive_control", "Positive control's noise accuracy", percent, expected=True),
    CardFigure("twin_noise_accuracy", "Twin's noise accuracy", percent),
    CardFigure("penalty", "Penalty P(α)"),
    CardFigure("candidates", "Cells measured"),
    CardFigure(
        "cell_validation_accuracy", "Validation accuracy of the best, alone", percent, first=True
    ),
    CardFigure("cell_noise_accuracy", "Noise accuracy of the best, alone", percent, first=True),
    CardFigure("parameters", "Parameters", first=True),
    CardFigure("multiply_adds", "Multiply-adds", first=True),
    CardFigure("epochs", "Epochs", first=True),
    CardFigure("train_samples", "N", first=True),
    CardFigure("seed", "Seed", str, first=True),
    CardFigure("wall_time_s", "Wall time", readable_duration, first=True),
    CardFigure("hardware", "Hardware"),
    CardFigure("precision", "Precision"),
    CardFigure("versions", "Versions"),
)
"""Every figure that the table shows, in its order; ``card.json`` may hold more."""

PACKAGES = ("darts_noise", "torch", "torchvision", "pytorch-lightning")


def count_parameters(net: nn.Module) -> int:
    """Return the number of entries of all parameters, without the auxiliary head, as papers do."""
    return sum(
        p.numel() for name, p in net.named_parameters() if "auxiliary" not in name.split(".")
    )


def count_multiply_adds(net: nn.Module, image_shape: Sequence[int]) -> int:
    """Return the multiply-adds of one image (C, H, W) in eval mode: half of torch's count of FLOPs.

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
    """Return the GPU's name, or the processor's and the number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    return f"{name} ({os.cpu_count()} cores)"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result."""
    return {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}}


def _version(package: str) -> str:
    """Return the installed version; in a checkout the one of ``pyproject.toml``."""
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
    """Write ``card.json`` and ``card.md``, which hold the same figures.

    A number that is not finite (the loss of a run that diverged) becomes null: JSON has no other.
    """
    figures = finite(card)
    write_text(run / "card.json", json.dumps(figures, indent=1, allow_nan=False) + "\n")
    write_text(run / "card.md", markdown(figures))


def without_diverged(card: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return the card of a run whose loss was not finite at the end: these figures mean nothing.

    They become None, are listed under ``diverged``, and are shown by that word.
    """
    return {**card, **dict.fromkeys(keys), "diverged": list(keys)} if keys else dict(card)


def shown_figures(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the card as a person reads it: title → text, in the order of `FIGURES`."""
    diverged = card.get("diverged", ())
    return {
        figure.title: " ".join(_text(figure, card).split())
        for figure in FIGURES
        if figure.key in card
        and (card[figure.key] is not None or figure.expected or figure.key in diverged)
    }


def markdown(card: Mapping[str, Any]) -> str:
    """Return the card as a table of two columns."""
    escaped = {title: text.replace("|", "\\|") for title, text in shown_figures(card).items()}
    rows = [f"| {title} | {text} |" for title, text in escaped.items()]
    return "\n".join(["| | |", "|---|---|", *rows]) + "\n"


def row(card: Mapping[str, Any]) -> str:
    """Return the figures that a person reads first, on one line."""
    first = (figure for figure in FIGURES if figure.first and figure.key in card)
    return " | ".join(f"{figure.title} {_text(figure, card)}" for figure in first)


def _text(figure: CardFigure, card: Mapping[str, Any]) -> str:
    value = card[figure.key]
    if figure.key in card.get("diverged", ()):
        return "diverged"
    if value is None:
        return "not measured"
    if isinstance(value, Mapping):
        return ", ".join(_entry(k, v) for k, v in value.items())
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return figure.number(value) if number else str(value)


def _entry(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(_entry(k, v) for k, v in value.items())
        return f"{key} ({inner})" if inner else key
    return key if value is None else f"{key} {value}"


def finite(value: Any) -> Any:
    """Return the same JSON value with null in place of every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
