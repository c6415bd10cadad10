"""The search of the DARTS paper on CIFAR-10 (JPEG): steps per second, GPU-hours of 50 epochs.

16 channels, 8 cells, batch 64, half of the 50,000 training images for w and half for α
(arXiv:1806.09055, section 3.1), with λ = 0 and λ = 1, first and second order, float32 and, to first
order, bf16. Where the images were not packed, random ones of the same shape stand in.
"""

import time
from itertools import pairwise
from statistics import median
from typing import Any

import pytorch_lightning as pl

import darts_noise as dn
from benchmarks.gpu.task import Task, now
from benchmarks.retrain import quiet, random_images
from darts_noise.data.images import ImageDataset

SEARCHES = (
    (0.0, "first_order", "32-true"),
    (1.0, "first_order", "32-true"),
    (0.0, "finite_difference", "32-true"),
    (1.0, "finite_difference", "32-true"),
    (0.0, "first_order", "bf16-mixed"),
    (1.0, "first_order", "bf16-mixed"),
)
EPOCHS, BATCHES = 50, 25_000 // 64
WARM_UP = 2


class Watch(pl.Callback):
    """A callback that times the steps, and ends the training at its time limit."""

    def __init__(self, allowed: float, most: int) -> None:
        self.allowed, self.most = allowed, most
        self.times: list[float] = []

    def on_train_start(self, *_: Any) -> None:
        self.started = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.times.append(now())
        enough = len(self.times) > WARM_UP + 1 and time.monotonic() - self.started > self.allowed
        if enough or len(self.times) >= self.most:
            trainer.should_stop = True


def measure(task: Task) -> None:
    """Record the steps per second of each search."""
    quiet()
    data, which = _data(task)
    sizes = {"channels": 4, "num_cells": 3, "nodes": 1} if task.tiny else {}
    rows: dict[str, Any] = {}
    task.note(data=which, searches=rows)
    data.setup()
    for number, (weight, method, precision) in enumerate(SEARCHES):
        name = f"λ = {weight:g}, {method}, {precision}"
        share = (task.left - 3) / (len(SEARCHES) - number)
        watch = Watch(max(share - 4, 1.0), most=5 if task.tiny else 100)
        trainer = pl.Trainer(
            max_epochs=EPOCHS,
            limit_val_batches=0,
            accelerator=task.accelerator,
            devices=1,
            precision=precision,
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        module = dn.SearchModule(noise_weight=weight, hypergradient=method, **sizes)
        trainer.fit(module, datamodule=data)
        kept = watch.times[WARM_UP:]
        steps = [b - a for a, b in pairwise(kept)]
        rows[name] = {
            "median_step_s": round(median(steps), 4),
            "steps_per_s": round(1 / median(steps), 2),
            "n": len(steps),
            "hours_of_50_epochs": round(EPOCHS * BATCHES * median(steps) / 3600, 2),
        }
        task.note(summary=", ".join(f"{n}: {row['steps_per_s']}/s" for n, row in rows.items()))


def _data(task: Task) -> tuple[dn.ImageDataModule, str]:
    settings: dict[str, Any] = {"batch_size": 4 if task.tiny else 64}
    if task.tiny:
        return dn.ImageDataModule("digits", train_samples=200, **settings), "digits"
    if task.cifar10 is not None:
        root = str(task.cifar10)
        settings |= {"root": root, "image_size": 32, "crop_padding": 4}
        return dn.ImageDataModule("image_folder", **settings), "CIFAR-10 (JPEG)"

    @dn.register_dataset
    def random_cifar10(*_: Any) -> ImageDataset:
        """Return random images with the shape of CIFAR-10."""
        return ImageDataset("random_cifar10", random_images(50_000), random_images(100), flip=True)

    return dn.ImageDataModule("random_cifar10", crop_padding=4, **settings), "random images"
