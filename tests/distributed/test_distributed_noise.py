"""The measurement of noise fit by two processes equals the measurement by one."""

import dataclasses
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import nn
from two_processes import in_two_processes

import darts_noise as dn

GRID = dn.NoiseGrid(sgd_rates=(0.03, 0.1), adam_rates=(0.01,), muon_rates=(), seeds=1, scales=(1,))


def perceptron(num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, num_classes))


def measured(protocol: str, path: str | None, enough: float | None) -> dict[str, Any]:
    digits = dn.ImageDataModule("digits")
    digits.setup()
    own: dict[str, Any] = {"trainer": {"accelerator": "cpu"}}
    if protocol == "converged":
        grid = dataclasses.replace(GRID, enough=enough)
        own |= {"grid": grid, "controls": {}, "path": path}
    elif dist.is_initialized():
        own["trainer"] |= {"devices": 2, "strategy": "ddp"}
    fit = dn.noise_fit(
        perceptron, digits.train, protocol=protocol, samples=60, epochs=4, batch_size=20, **own
    )
    runs = [(run.key, run.accuracy, run.steps) for run in fit.runs]
    return {"accuracy": fit.accuracy, "fingerprint": fit.fingerprint, "runs": runs}


def on_noise(found: dict[str, Any]) -> list[Any]:
    """The trainings on noise, without those on as many real images."""
    return [run for run in found["runs"] if run[0].startswith("network/noise/")]


def test_processes_share_the_trainings_of_a_grid(tmp_path: Path) -> None:
    alone = measured("converged", None, None)
    file = tmp_path / "runs.json"
    assert in_two_processes(measured, tmp_path, "converged", str(file), None) == [alone] * 2
    assert len(on_noise(alone)) == 3
    # Those on file are not made again, and those after the first that is enough do not count.
    before = file.read_bytes()
    enough = on_noise(alone)[0][1]
    again = tmp_path / "again"
    again.mkdir()
    first, second = in_two_processes(measured, again, "converged", str(file), enough)
    assert first == second
    assert on_noise(first) == on_noise(alone)[:1]
    assert file.read_bytes() == before


def test_processes_share_the_batches_of_the_quick_training(tmp_path: Path) -> None:
    alone = measured("quick", None, None)
    assert in_two_processes(measured, tmp_path, "quick", None, None) == [alone] * 2
    assert alone["accuracy"] > 0.1
