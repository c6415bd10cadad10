"""CIFAR-10 (JPEG): test accuracy and noise fit of networks that a CPU would train for days.

The cells are those of two searches on a CPU, one that punished random labels
(`configs/study/cifar10_labels.yaml`) and one that punished uniform noise
(`configs/study/cifar10.yaml`), and the second cell with batch norm, which sees smooth images only.
Every network has 400,000 parameters. It trains on all 50,000 images for as many epochs as its share
of the time allows. Then new networks train on 1,000 noise images of each family for 100 epochs,
from initial weights × 1 and × 4: with Muon, or with SGD if the network has batch norm.

This part takes five minutes and is run alone: ``--only cifar10``.
"""

import time
from dataclasses import replace
from typing import Any

import darts_noise as dn
from benchmarks.commands import RESULTS
from benchmarks.gpu.search import WARM_UP, Watch
from benchmarks.gpu.task import Task
from darts_noise.runs.settings import TrainerConfig
from darts_noise.runs.train import Trained, train_network

CELLS = {
    "logit scale 1,024": ("cifar10_labels_study/cells/lambda_1-seed0.json", 1),
    "logit scale 4,096": ("cifar10_smooth_study/cells/lambda_1-seed2.json", 2),
}
"""The file of each cell, and the stride of its stem."""
FAMILIES = ("random_labels", "uniform", "random_pixels")
EPOCHS = 60
"""Largest number of epochs of a training."""
FOR_TRAINING = 0.45
"""Share of a network's time for its training on CIFAR-10. The rest is for the noise."""
PROBE = 30
"""Steps that are timed to find the number of epochs."""


def measure(task: Task) -> None:
    """Record the test accuracy and the noise fit of each network."""
    data = _data(task)
    data.setup()
    cells = {
        name: (dn.load_genotype(RESULTS / file), stride) for name, (file, stride) in CELLS.items()
    }
    smooth, stride = cells["logit scale 4,096"]
    macro = {"contrast": "smooth"}
    cells["batch norm, smooth images only"] = (replace(smooth, macro=macro, meta={}), stride)
    rows: dict[str, Any] = {}
    task.note(networks=rows)
    for number, (name, (cell, stride)) in enumerate(cells.items()):
        ends = time.monotonic() + (task.left - 5) / (len(cells) - number)
        recipe = dn.TrainConfig(
            num_cells=3,
            stem="small",
            stem_stride=stride,
            parameters=1_000 if task.tiny else 400_000,
            auxiliary_weight=0.0,
            drop_path=0.0,
            learning_rate=0.1,
        )
        probed = Watch(allowed=60.0, most=4 if task.tiny else PROBE)
        _train(task, cell, data, recipe, 1, [probed])
        steps = probed.times[WARM_UP:]
        epoch = (steps[-1] - steps[0]) / (len(steps) - 1) * len(data.train) / data.config.batch_size
        affordable = (ends - time.monotonic()) * FOR_TRAINING / epoch
        epochs = 1 if task.tiny else max(1, min(EPOCHS, int(affordable)))
        trained = _train(task, cell, data, recipe, epochs)
        row = rows[name] = {
            "cell": cell.to_dict(),
            "channels": trained.module.config.channels,
            "parameters": sum(p.numel() for p in trained.module.net.parameters()),
            "epochs": epochs,
            "epoch_s": round(epoch, 2),
            "test_accuracy": trained.test()["test/accuracy"],
            "noise": {},
        }
        task.note()
        for family in FAMILIES:
            row["noise"][family] = _noise(task, cell, data, trained.module.config, family)
            task.note(summary="; ".join(f"{n}: {_told(row)}" for n, row in rows.items()))


def _data(task: Task) -> dn.ImageDataModule:
    if task.tiny:
        return dn.ImageDataModule(
            "digits", train_samples=200, batch_size=16, validation_fraction=0.0
        )
    if task.cifar10 is None:
        raise SystemExit("expected CIFAR-10, packed with --cifar10")
    root = str(task.cifar10)
    return dn.ImageDataModule(
        "image_folder", root=root, image_size=32, batch_size=128, validation_fraction=0.0
    )


def _train(
    task: Task,
    cell: dn.Genotype,
    data: dn.ImageDataModule,
    recipe: dn.TrainConfig,
    epochs: int,
    callbacks: list[Watch] | None = None,
) -> Trained:
    how = TrainerConfig(task.accelerator, devices=1, max_epochs=epochs, callbacks=callbacks)
    return train_network(cell, data, recipe, how)


def _noise(
    task: Task, cell: dn.Genotype, data: dn.ImageDataModule, recipe: dn.TrainConfig, family: str
) -> dict[str, Any]:
    """Return the largest accuracy on a noise set, and each training."""
    bounded = cell.choice("gain") == "bounded"
    rates = {"sgd_rates": () if bounded else (0.1,), "muon_rates": (0.02,) if bounded else ()}
    fit = dn.noise_fit(
        cell,
        data.train,
        protocol="converged",
        family=family,
        samples=64 if task.tiny else 1000,
        epochs=1 if task.tiny else 100,
        recipe=recipe,
        trainer={"accelerator": task.accelerator, "devices": 1},
        grid=dn.NoiseGrid(**rates, adam_rates=(), seeds=1, enough=1.0),  # type: ignore[arg-type]
        controls={},
        progress=False,
        normalisation=data.normalisation,
    )
    keys = ("data", "optimiser", "initial_scale", "accuracy", "epochs", "seconds")
    runs = [{key: getattr(run, key) for key in keys} for run in fit.runs]
    return {"accuracy": fit.accuracy, "chance": fit.chance, "trainings": runs}


def _told(row: dict[str, Any]) -> str:
    figures = {"test": row["test_accuracy"]}
    figures |= {family: fit["accuracy"] for family, fit in row["noise"].items()}
    return ", ".join(f"{figure} {100 * value:.1f}%" for figure, value in figures.items())
