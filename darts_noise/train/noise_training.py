"""One training from scratch on a fixed set, until an accuracy is reached or the epochs are over.

No augmentation, no mixing, no drop path: what is asked is whether this set can be fitted at all.
A loop of its own and not Lightning's, because it must look at the accuracy between steps and make
thousands of short runs.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from darts_noise.data.batches import BatchStream
from darts_noise.data.images import LabelledImages, Normalisation
from darts_noise.data.seeds import Stream, derive_seed
from darts_noise.reading import EVALUATION_BATCH, laid_out, read
from darts_noise.train.noise_record import NoiseRun
from darts_noise.train.settings import MOMENTUM

Due = Callable[[int, int], bool]
"""(steps taken, steps of an epoch) → whether the accuracy is to be read now."""


def each_epoch(steps: int, per_epoch: int) -> bool:
    """After the last step of every epoch."""
    return steps % per_epoch == 0


def each_tenth(steps: int, per_epoch: int) -> bool:
    """After every step up to 20, then after every tenth of the steps so far.

    A reading costs a pass over the whole set; these keep a number of steps exact to 10 %.

    >>> [step for step in range(1, 60) if each_tenth(step, 16)][17:]
    [18, 19, 20, 22, 24, 26, 28, 30, 33, 36, 39, 42, 46, 50, 55]
    """
    at = 1
    while at < steps:
        at += max(1, at // 10)
    return at == steps


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What is trained on, and how.

    Attributes:
        name: ``noise`` or ``real``.
        data: the fixed images.
        normalisation: of the real images.
        epochs: at most.
        batch_size: the last batch of an epoch may be smaller.
        target: a run ends once this accuracy is read.
        due: when it is read, besides after the last step.
    """

    name: str
    data: LabelledImages
    normalisation: Normalisation
    epochs: int
    batch_size: int
    target: float
    due: Due

    @property
    def drops_last(self) -> bool:
        """A last batch of one image has no variance for a batch norm; each epoch omits another."""
        return len(self.data) > 1 and len(self.data) % self.batch_size == 1 < self.batch_size

    def stream(self, device: torch.device, seed: int | None) -> BatchStream:
        """Shuffled by a seed, or in order to be read."""
        return BatchStream(
            self.data,
            min(self.batch_size, len(self.data)) if seed is not None else EVALUATION_BATCH,
            self.normalisation,
            seed=seed or 0,
            shuffle=seed is not None,
            drop_last=seed is not None and self.drops_last,
            device=device,
        )


def train_from_scratch(
    make: Callable[[], nn.Module],
    task: TrainingSet,
    fabric: Fabric,
    *,
    network: str,
    optimiser: str,
    learning_rate: float,
    seed: int,
    base_seed: int,
    weight_decay: float = 0.0,
    gradient_clip: float = 0.0,
    watch: Callable[[int, float], None] | None = None,
) -> NoiseRun:
    """Trains a fresh network; the same arguments give the same record, whatever ran before.

    Args:
        make: a fresh module, images (B, C, H, W) → logits, initialised by torch's global generator,
            whose state is put back afterwards.
        task: the set and when to stop.
        fabric: device and precision.
        network: the name for the record.
        optimiser: ``sgd`` or ``adam``.
        learning_rate: falls to 0 on a cosine over the task's epochs.
        seed: together with `base_seed`, of the weights, the order and the dropout.
        base_seed: of the measurement.
        weight_decay: of the optimiser.
        gradient_clip: largest norm; 0 for none.
        watch: is told (epoch, accuracy) at the end of each epoch.
    """
    started = time.perf_counter()
    key = derive_seed(base_seed, Stream.NOISE, seed)
    scale = fabric.strategy.precision.state_dict()  # of the loss in fp16, which each training moves
    with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
        torch.manual_seed(key)
        raw = make()
        raw.to(memory_format=torch.channels_last)
        rule = _optimiser(optimiser, raw, learning_rate, weight_decay)
        net, stepper = fabric.setup(raw, rule)
        net.train()
        stream, same = task.stream(fabric.device, key), task.stream(fabric.device, None)
        per_epoch = stream.batches_per_epoch
        schedule = CosineAnnealingLR(rule, task.epochs)
        best: float | None = None
        reached, diverged = None, False
        losses: list[Tensor] = []  # since the last reading
        for step in range(1, task.epochs * per_epoch + 1):
            images, labels = stream.batch(step - 1)
            loss = F.cross_entropy(net(laid_out(images)).float(), labels)
            stepper.zero_grad(set_to_none=True)
            fabric.backward(loss)
            if gradient_clip:
                fabric.clip_gradients(
                    net, stepper, max_norm=gradient_clip, error_if_nonfinite=False
                )
            stepper.step()
            losses.append(loss.detach())
            if task.due(step, per_epoch) or step == task.epochs * per_epoch:
                # Asked here and not at each step: the answer waits for the device.
                diverged = not bool(torch.stack(losses).isfinite().all())
                if diverged:
                    break
                losses.clear()
                best = max(best or 0.0, read(net, same).accuracy)
                if best >= task.target:
                    reached = step
                    break
            if step % per_epoch == 0:
                schedule.step()
                if watch is not None:
                    watch(step // per_epoch, best or 0.0)
    fabric.strategy.precision.load_state_dict(scale)
    return NoiseRun(
        network,
        task.name,
        optimiser,
        learning_rate,
        seed,
        accuracy=best,
        epochs=math.ceil(step / per_epoch),
        steps=step,
        reached=reached,
        diverged=diverged,
        seconds=round(time.perf_counter() - started, 2),
    )


def _optimiser(name: str, net: nn.Module, rate: float, weight_decay: float) -> Optimizer:
    if name == "sgd":
        return SGD(net.parameters(), rate, momentum=MOMENTUM, weight_decay=weight_decay)
    return Adam(net.parameters(), rate, weight_decay=weight_decay)
