"""A training of the noise measurement: train on a fixed set, and record how well it is fitted.

There is no augmentation, no mixing and no drop path, because the question is whether the network
can fit this set at all.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from darts_noise.data.batches import BatchStream, leaves_one
from darts_noise.data.images import LabelledImages, Normalisation
from darts_noise.data.seeds import Stream, derive_seed
from darts_noise.reading import of_one_image, read_fit, sees_one_image, whole_set
from darts_noise.train.loop import Due, Recipe, each_epoch, train_from_scratch
from darts_noise.train.noise_record import NoiseRun

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """A fixed set of images, and the accuracy at which a training on it stops.

    Attributes:
        name: ``noise`` or ``real``.
        data: the images.
        normalisation: normalisation of the real images.
        batch_size: images in a batch. The last batch of an epoch may be smaller.
        target: accuracy at which a training stops.
        due: when the accuracy is read. It is also read after the last step.
    """

    name: str
    data: LabelledImages
    normalisation: Normalisation
    batch_size: int
    target: float
    due: Due

    def stream(self, device: torch.device, seed: int) -> BatchStream:
        """Return the batches of a training.

        A last batch of one image is left out, because a batch norm may find no variance in it. Each
        epoch leaves out another image.
        """
        return BatchStream(
            self.data,
            min(self.batch_size, len(self.data)),
            self.normalisation,
            seed=seed,
            drop_last=leaves_one(len(self.data), self.batch_size),
            device=device,
        )


def measure_fit(
    make: Callable[[], nn.Module],
    task: TrainingSet,
    recipe: Recipe,
    fabric: "Fabric",
    *,
    network: str,
    seed: int,
    base_seed: int,
    watch: Callable[[int, float], None] | None = None,
) -> NoiseRun:
    """Train a new network on a set and return the record.

    A network that sees one image in all of them stops at the first look: it cannot fit more than
    the best constant answer, which is then its accuracy.

    Args:
        make: returns a new module; see `train_from_scratch`.
        task: the set, and when to stop.
        recipe: how the network is trained.
        fabric: device and precision.
        network: name of the network, for the record.
        seed: together with `base_seed`, the seed of the initial weights, the order of the images
            and dropout.
        base_seed: seed of the measurement.
        watch: called with (epoch, largest accuracy so far) at the end of each epoch.
    """
    started = time.perf_counter()
    key = derive_seed(base_seed, Stream.NOISE, seed)
    stream = task.stream(fabric.device, key)
    same = whole_set(task.data, task.normalisation, fabric.device)
    per_epoch = stream.batches_per_epoch
    best: float | None = None
    reached: int | None = None

    def look(net: nn.Module, steps: int, loss: float) -> bool:
        nonlocal best, reached
        if best is None and sees_one_image(net, same):
            best = of_one_image(task.data).accuracy
            return True
        if task.due(steps, per_epoch) or steps == recipe.epochs * per_epoch:
            best = max(best or 0.0, read_fit(net, same).accuracy)
            if best >= task.target:
                reached = steps
                return True
        if watch is not None and each_epoch(steps, per_epoch):
            watch(steps // per_epoch, best or 0.0)
        return False

    training = train_from_scratch(
        make,
        stream,
        recipe,
        fabric,
        seed=key,
        look=look,
        due=lambda steps, n: task.due(steps, n) or each_epoch(steps, n),
    )
    return NoiseRun(
        network,
        task.name,
        recipe.optimiser,
        recipe.learning_rate,
        seed,
        accuracy=best,
        epochs=math.ceil(training.steps / per_epoch),
        steps=training.steps,
        reached=reached,
        diverged=training.diverged,
        initial_scale=recipe.initial_scale,
        seconds=round(time.perf_counter() - started, 2),
    )
