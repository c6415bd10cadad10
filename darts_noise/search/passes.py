"""Passes over a batch that give gradients: of w or v at fixed α, and of α and v at once.

Pure functions of networks, α and a batch; which pass is made when is up to `module`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_noise.data.batches import Batch
from darts_noise.nets.supernet import SuperNet
from darts_noise.noise.penalty import noise_fit_penalty
from darts_noise.search.architecture import Architecture
from darts_noise.search.gradients import average_over_processes, gradients
from darts_noise.search.hypergradients import HyperGradient

Loss = Callable[[Callable[..., Tensor]], Tensor]
"""A scalar loss of a supernet, as a function of the supernet."""


@dataclass(frozen=True)
class Pass:
    """What a forward and backward pass of w or v gave.

    Attributes:
        logits: (B, C), float32.
        labels: (B,).
        loss: the mean cross-entropy.
        gradients: of the loss in the weights, averaged over processes.
    """

    logits: Tensor
    labels: Tensor
    loss: Tensor
    gradients: list[Tensor]


def batch_loss(arch: Architecture, batch: Batch) -> Loss:
    """Cross-entropy on a batch, in float32; α enters through ``arch``."""
    images, labels = batch
    return lambda call: F.cross_entropy(call(images, arch()).float(), labels)


def weights_pass(net: SuperNet, relaxed: Mapping[str, Tensor], batch: Batch) -> Pass:
    """The gradient of a supernet's own loss at fixed architecture weights."""
    images, labels = batch
    logits = net(images, relaxed).float()
    loss = F.cross_entropy(logits, labels)
    return Pass(logits, labels, loss, gradients(loss, list(net.parameters())))


def noise_pass(
    twin: SuperNet, arch: Architecture, batch: Batch, num_classes: int
) -> tuple[HyperGradient, Pass]:
    """The penalty's α gradient to first order and the twin's own gradient, from one pass."""
    images, labels = batch
    logits = twin(images, arch()).float()
    loss = F.cross_entropy(logits, labels)
    alphas, weights = list(arch.parameters()), list(twin.parameters())
    found = torch.autograd.grad(
        loss, [*alphas, *weights], allow_unused=True, materialize_grads=True
    )
    reached = loss.detach().requires_grad_()
    penalty = noise_fit_penalty(reached, num_classes)
    [slope] = torch.autograd.grad(penalty, reached)
    of_alpha = HyperGradient(penalty.detach(), [slope * g for g in found[: len(alphas)]])
    return of_alpha, Pass(logits, labels, loss, average_over_processes(found[len(alphas) :]))
