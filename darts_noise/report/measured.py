"""The figures of a card that a run measures: cost of the network, hardware and versions."""

import os
import platform
import tomllib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import nn

from darts_noise.nets.cost import multiply_adds
from darts_noise.reading import evaluating

PACKAGES = ("darts_noise", "torch", "torchvision", "pytorch-lightning")


def count_parameters(net: nn.Module) -> int:
    """Return the number of entries of all parameters, without the auxiliary head, as papers do."""
    return sum(
        p.numel() for name, p in net.named_parameters() if "auxiliary" not in name.split(".")
    )


def count_multiply_adds(net: nn.Module, image_shape: Sequence[int]) -> int:
    """Return the `multiply_adds` for one image (C, H, W). The network does not change."""
    parameter = next(net.parameters())
    image = torch.zeros(1, *image_shape, device=parameter.device, dtype=parameter.dtype)
    with evaluating(net):
        return multiply_adds(net, image)


def describe_hardware(device: torch.device) -> str:
    """Return the name of the GPU, or the name of the processor and its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    return f"{name} ({os.cpu_count()} cores)"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect a result."""
    return {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}}


def _version(package: str) -> str:
    """Return the installed version or, in a checkout, the version in ``pyproject.toml``."""
    try:
        return version(package)
    except PackageNotFoundError:
        project = Path(__file__).resolve().parents[2] / "pyproject.toml"
        if package == "darts_noise" and project.is_file():
            settings = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
            if settings.get("name") == package and "version" in settings:
                return f"{settings['version']} (not installed)"
        return "unknown"
