"""Passes of a supernet over a batch, and the gradients that they give: of α, of w or of v.

Pure functions. `torch.autograd.grad` leaves no ``.grad`` behind in another group of parameters, and
the average over processes is taken by hand: see `darts_noise.distributed.collectives`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.compat import BatchNorm
from darts_noise.data.batches import Batch
from darts_noise.distributed.collectives import average_over_processes
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.architecture import Architecture


@dataclass(frozen=True)
class AlphaGradient:
    """A gradient of α.

    Attributes:
        loss: what was differentiated, in this process.
        gradients: one per parameter of α, averaged over processes.
    """

    loss: Tensor
    gradients: list[Tensor]


@dataclass(frozen=True)
class Pass:
    """What a forward and backward pass of w or v gave.

    Attributes:
        logits: (B, C), float32 or float64.
        labels: (B,).
        loss: the mean cross-entropy, of this process's part of the batch.
        gradients: with respect to the weights, averaged over processes; of the loss unless
            something else is said.
    """

    logits: Tensor
    labels: Tensor
    loss: Tensor
    gradients: list[Tensor]


def gradients(
    loss: Tensor, parameters: Sequence[Tensor], create_graph: bool = False
) -> list[Tensor]:
    """∂loss/∂parameters, averaged over all processes; zeros where loss does not depend on one.

    With ``create_graph`` they can be differentiated again, the average too.
    """
    return average_over_processes(
        torch.autograd.grad(
            loss, parameters, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    )


def assign(parameters: Sequence[Tensor], values: Sequence[Tensor], clip: float = 0.0) -> None:
    """Makes ``values`` the gradients that an optimiser will read, scaled to a norm ≤ ``clip``.

    Each lies in memory as its parameter does. ``backward()`` sees to that, `torch.autograd.grad`
    does not, and the fused optimisers take nothing else.
    """
    for parameter, value in zip(parameters, values, strict=True):
        if _strides(value) != _strides(parameter):
            value = torch.empty_like(parameter).copy_(value)
        parameter.grad = value
    if clip > 0:
        nn.utils.clip_grad_norm_(parameters, clip)


def _strides(tensor: Tensor) -> list[int]:
    """Those that decide where an entry lies: a dimension of size 1 may have any."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return [stride for size, stride in sizes if size > 1]


@contextmanager
def still_statistics(net: nn.Module) -> Iterator[None]:
    """Within it, passes in train mode use batch statistics and leave the running ones alone.

    A pass that only asks for a gradient of α is no training step of w, and must not move what w's
    batch norms have gathered.
    """
    norms = [m for m in net.modules() if isinstance(m, BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextmanager
def constant(net: nn.Module) -> Iterator[None]:
    """Within it, passes do not differentiate with respect to the weights, nor move statistics.

    It is for a gradient of α alone, for which autograd need not keep what the weights' would ask.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        with still_statistics(net):
            yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_()


def unrounded(logits: Tensor) -> Tensor:
    """Logits in float32 at the least: in bf16 a loss would be rounded to two or three digits."""
    return logits if logits.dtype == torch.float64 else logits.float()


def first_order_gradient(net: SuperNet, arch: Architecture, batch: Batch) -> AlphaGradient:
    """∂L(w, α) / ∂α on a batch, at w as it is (DARTS, section 2.3)."""
    images, labels = batch
    with constant(net):
        loss = F.cross_entropy(unrounded(net(images, arch())), labels)
        return AlphaGradient(loss.detach(), gradients(loss, list(arch.parameters())))


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
    of_loss: Callable[[Tensor, int], Tensor],
) -> tuple[AlphaGradient, Pass]:
    """The penalty's gradient of α to first order, and the twin's own gradient, from one pass.

    Args:
        twin: with weights v, in train mode.
        arch: α.
        batch: of the noise set.
        num_classes: among how many classes a guess on noise is.
        of_loss: the penalty as a function of the noise loss and the number of classes.
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
    of_alpha = AlphaGradient(penalty.detach(), [slope * g for g in found[: len(alphas)]])
    return of_alpha, Pass(logits, labels, loss, found[len(alphas) :])


def probing_loss(net: SuperNet, batch: Batch) -> Callable[[dict[str, Tensor]], Tensor]:
    """The loss on a batch as a function of the relaxed α; the norms' statistics stay."""
    images, labels = batch

    def loss(relaxed: Mapping[str, Tensor]) -> Tensor:
        with still_statistics(net):
            return F.cross_entropy(unrounded(net(images, relaxed)), labels)

    return loss
