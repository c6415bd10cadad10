"""Noise fit by the protocol ``converged``: seconds of a training of ResNet-18 and of MNIST's cell.

The cell is the one that a search with λ = 0 found on MNIST, at the size of that study; both are
trained on 1,000 images of 28×28 uniform noise, for 100 epochs or until all of them are fitted.
"""

from typing import Any

import torch

import darts_noise as dn
from benchmarks.commands import RESULTS
from benchmarks.gpu.task import Task
from darts_noise.data.images import LabelledImages
from darts_noise.nets.width import channels_for
from darts_noise.train.control_networks import resnet18

FORM = {"num_cells": 3, "stem": "small", "stem_stride": 2}
PARAMETERS = 14_634
RATES = {"sgd_rates": (0.1,), "adam_rates": (3e-3,), "muon_rates": (), "seeds": 1}


def measure(task: Task) -> None:
    """Record the seconds and the fit of each training."""
    samples, epochs = (64, 2) if task.tiny else (1000, 100)
    images = LabelledImages(
        torch.randint(256, (samples, 1, 28, 28), dtype=torch.uint8),
        torch.randint(10, (samples,)),
        tuple("0123456789"),
    )
    cell = dn.load_genotype(RESULTS / "mnist_study" / "cells" / "lambda_0-seed0.json")
    channels = channels_for(cell, PARAMETERS, **FORM, num_classes=10, in_channels=1)
    networks: dict[str, Any] = {"λ = 0": cell}
    if not task.tiny:
        networks["resnet18"] = resnet18
    rows: dict[str, Any] = {}
    task.note(samples=samples, epochs=epochs, trainings=rows)
    for name, network in networks.items():
        fit = dn.noise_fit(
            network,
            images,
            protocol="converged",
            samples=samples,
            epochs=epochs,
            recipe={**FORM, "channels": channels},
            trainer={"accelerator": task.accelerator, "devices": 1},
            grid=dn.NoiseGrid(**RATES),  # type: ignore[arg-type]
            controls={},
            progress=False,
        )
        rows[name] = [
            {
                "optimiser": run.optimiser,
                "rate": run.learning_rate,
                "accuracy": run.accuracy,
                "epochs": run.epochs,
                "seconds": run.seconds,
            }
            for run in fit.runs
        ]
        told = [
            f"{n} {'/'.join(str(run['seconds']) for run in runs)} s" for n, runs in rows.items()
        ]
        task.note(summary=", ".join(told))
