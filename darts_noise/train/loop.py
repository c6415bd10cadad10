"""Train a network from scratch on a fixed set of images, outside Lightning.

Candidates and the protocols ``converged`` and ``selectivity`` use this loop: they run many short
trainings and evaluate the network between two steps.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from darts_noise.data.batches import BatchStream
from darts_noise.data.seeds import drawing
from darts_noise.nets.gain import weight_of
from darts_noise.reading import laid_out
from darts_noise.train.muon import Muon
from darts_noise.train.settings import MOMENTUM

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Due = Callable[[int, int], bool]
"""(steps so far, steps of an epoch) → whether to look at the network now."""


def each_epoch(steps: int, per_epoch: int) -> bool:
    """Return whether an epoch is over."""
    return steps % per_epoch == 0


def each_tenth(steps: int, per_epoch: int) -> bool:
    """Return whether a look is due: after each step up to 20, then after each tenth of the steps.

    A look costs a pass over the whole set. With this schedule, a number of steps is exact to 10%.

    >>> [step for step in range(1, 60) if each_tenth(step, 16)][17:]
    [18, 19, 20, 22, 24, 26, 28, 30, 33, 36, 39, 42, 46, 50, 55]
    """
    at = 1
    while at < steps:
        at += max(1, at // 10)
    return at == steps


@dataclass(frozen=True)
class Recipe:
    """The settings of a training from scratch.

    Attributes:
        optimiser: ``sgd``, ``adam`` or ``muon``.
        learning_rate: learning rate at the start. It falls on a cosine over all steps.
        epochs: largest number of passes over the set.
        initial_scale: factor on the initial weights; see `scale_weights`.
        weight_decay: weight decay of the optimiser.
        gradient_clip: largest norm of the gradient. 0: no clipping.
        final_rate: learning rate after the last step. `learning_rate`: a constant rate.
    """

    optimiser: str
    learning_rate: float
    epochs: int
    initial_scale: float = 1.0
    weight_decay: float = 0.0
    gradient_clip: float = 0.0
    final_rate: float = 0.0


@dataclass(frozen=True, eq=False)
class Training:
    """The result of `train_from_scratch`.

    Attributes:
        net: the network, on the device of the training.
        steps: number of optimiser steps.
        stopped: whether `look` stopped it.
        diverged: whether a loss was NaN or infinite.
    """

    net: nn.Module
    steps: int
    stopped: bool
    diverged: bool


def train_from_scratch(
    make: Callable[[], nn.Module],
    stream: BatchStream,
    recipe: Recipe,
    fabric: "Fabric",
    *,
    seed: int,
    look: Callable[[nn.Module, int, float], bool] = lambda net, step, loss: False,
    due: Due = each_epoch,
) -> Training:
    """Train a new network until it has fitted enough or the epochs are over.

    The same arguments give the same weights, whatever ran before. The state of torch's generators
    does not change. There is no mixing and no drop path.

    Args:
        make: returns a new module, images (B, C, H, W) → logits (B, num_classes). It draws the
            initial weights from torch's global generator.
        stream: the images.
        recipe: optimiser, rate, length and initial scale.
        fabric: device and precision.
        seed: seed of the initial weights and of dropout.
        look: (network, steps so far, mean loss since the last look) → whether to stop now. It is
            called when a look is due and after the last step, but not after a loss that is NaN or
            infinite: the training stops there.
        due: when a look is due. Default: after each epoch.
    """
    per_epoch = stream.batches_per_epoch
    last = recipe.epochs * per_epoch
    loss_scale = fabric.strategy.precision.state_dict()  # fp16 changes it in each training
    stopped = diverged = False
    with drawing(seed, device=fabric.device):
        raw = make()
        scale_weights(raw, recipe.initial_scale)
        raw.to(memory_format=torch.channels_last)
        rule = make_optimiser(
            recipe.optimiser,
            raw.parameters(),
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
        )
        net, optimiser = fabric.setup(raw, rule)
        net.train()
        schedule = CosineAnnealingLR(rule, last, recipe.final_rate)
        losses: list[Tensor] = []  # since the last look
        for step in range(1, last + 1):
            images, labels = stream.batch(step - 1)
            loss = F.cross_entropy(net(laid_out(images)).float(), labels)
            optimiser.zero_grad(set_to_none=True)
            fabric.backward(loss)
            if recipe.gradient_clip:
                fabric.clip_gradients(
                    net, optimiser, max_norm=recipe.gradient_clip, error_if_nonfinite=False
                )
            optimiser.step()
            schedule.step()
            losses.append(loss.detach())
            if due(step, per_epoch) or step == last:
                # Not at each step, because the answer waits for the device.
                found = torch.stack(losses)
                diverged = not bool(found.isfinite().all())
                stopped = not diverged and look(net, step, float(found.mean()))
                if stopped or diverged:
                    break
                losses.clear()
    fabric.strategy.precision.load_state_dict(loss_scale)
    return Training(net, step, stopped, diverged)


@torch.no_grad()
def scale_weights(net: nn.Module, scale: float) -> None:
    """Multiply the weights of all convolutions and linear layers, but not their biases.

    A large scale makes a network without norms fit noise faster (Chizat, Oyallon and Bach, On lazy
    training in differentiable programming, arXiv:1812.07956).
    """
    layers = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    if scale != 1:
        for module in net.modules():
            if isinstance(module, layers):
                weight_of(module).mul_(scale)


def make_optimiser(
    kind: str,
    weights: Iterable[Tensor],
    rate: float,
    momentum: float = MOMENTUM,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Return the optimiser ``sgd``, ``muon`` or ``adam``. Only SGD uses the momentum."""
    if kind == "sgd":
        return SGD(weights, rate, momentum, weight_decay=weight_decay)
    if kind == "muon":
        return Muon(weights, rate, weight_decay=weight_decay)
    return Adam(weights, rate, weight_decay=weight_decay)
