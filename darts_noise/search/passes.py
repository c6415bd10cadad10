"""Passes over a batch that give gradients: of w or v at fixed α, and of α and v at once.

Pure functions of networks, α and a batch; which pass is made when is up to `module`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_noise.data.batches import Batch
from darts_noise.distributed.collectives import average_over_processes
from darts_noise.nets.supernet import SuperNet
from darts_noise.noise.penalties.twin import noise_fit_penalty
from darts_noise.search.architecture import Architecture
from darts_noise.search.gradients import gradients, still_statistics
from darts_noise.search.hypergradients import HyperGradient

Loss = Callable[[Callable[..., Tensor]], Tensor]
"""A scalar loss of a supernet, as a function of the supernet."""
OfLoss = Callable[[Tensor, int], Tensor]
"""A penalty as a function of the noise loss and the number of classes."""


@dataclass(frozen=True)
class Pass:
    """What a forward and backward pass of w or v gave.

    Attributes:
        logits: (B, C), float32 or float64.
        labels: (B,).
        loss: the mean cross-entropy, of this process's part of the batch.
        gradients: in the weights, averaged over processes; of the loss where nothing else is said.
    """

    logits: Tensor
    labels: Tensor
    loss: Tensor
    gradients: list[Tensor]


def unrounded(logits: Tensor) -> Tensor:
    """Logits in float32 at the least: in bf16 a loss would be rounded to two or three digits."""
    return logits if logits.dtype == torch.float64 else logits.float()


def batch_loss(arch: Architecture, batch: Batch) -> Loss:
    """Cross-entropy on a batch; α enters through ``arch``."""
    images, labels = batch
    return lambda call: F.cross_entropy(unrounded(call(images, arch())), labels)


def probing_loss(net: SuperNet, batch: Batch) -> Callable[[dict[str, Tensor]], Tensor]:
    """The loss on a batch as a function of the relaxed α; the norms' statistics stay."""
    images, labels = batch

    def loss(relaxed: Mapping[str, Tensor]) -> Tensor:
        with still_statistics(net):
            return F.cross_entropy(unrounded(net(images, relaxed)), labels)

    return loss


def weights_pass(net: SuperNet, relaxed: Mapping[str, Tensor], batch: Batch) -> Pass:
    """The gradient of a supernet's own loss at fixed architecture weights."""
    images, labels = batch
    logits = unrounded(net(images, relaxed))
    loss = F.cross_entropy(logits, labels)
    return Pass(logits, labels, loss, gradients(loss, list(net.parameters())))


def mixed_pass(
    net: SuperNet,
    relaxed: Mapping[str, Tensor],
    batch: Batch,
    noise: Batch,
    penalty: Callable[[Tensor], Tensor],
) -> tuple[Pass, Pass]:
    """The gradient of L + P(L_noise) at fixed architecture weights, from one mixed batch.

    Args:
        net: with weights w.
        relaxed: the architecture weights.
        batch: of the data.
        noise: of the noise set.
        penalty: P, times its weight, as a function of the noise loss over all processes.

    Returns:
        The passes over the data and over the noise; both have the gradient of the sum.
    """
    labels = (batch[1], noise[1])
    logits = unrounded(net(torch.cat([batch[0], noise[0]]), relaxed))
    parts = torch.split(logits, [len(y) for y in labels])
    losses = [F.cross_entropy(z, y) for z, y in zip(parts, labels, strict=True)]
    [noise_loss] = average_over_processes([losses[1]])
    found = gradients(losses[0] + penalty(noise_loss), list(net.parameters()))
    data, of_noise = (Pass(*part, found) for part in zip(parts, labels, losses, strict=True))
    return data, of_noise


def noise_pass(
    twin: SuperNet,
    arch: Architecture,
    batch: Batch,
    num_classes: int,
    of_loss: OfLoss = noise_fit_penalty,
) -> tuple[HyperGradient, Pass]:
    """The penalty's α gradient to first order and the twin's own gradient, from one pass.

    Args:
        twin: with weights v, in train mode.
        arch: α.
        batch: of the noise set.
        num_classes: among how many classes a guess on noise is.
        of_loss: the penalty.
    """
    images, labels = batch
    logits = unrounded(twin(images, arch()))
    loss = F.cross_entropy(logits, labels)
    alphas, weights = list(arch.parameters()), list(twin.parameters())
    found: Sequence[Tensor] = torch.autograd.grad(
        loss, [*alphas, *weights], allow_unused=True, materialize_grads=True
    )
    reached, *found = average_over_processes([loss.detach(), *found])
    reached.requires_grad_()
    penalty = of_loss(reached, num_classes)
    [slope] = torch.autograd.grad(penalty, reached)
    of_alpha = HyperGradient(penalty.detach(), [slope * g for g in found[: len(alphas)]])
    return of_alpha, Pass(logits, labels, loss, found[len(alphas) :])
