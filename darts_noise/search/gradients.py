"""Passes of a supernet over a batch, and their gradients with respect to α, w or v.

All functions but `assign` are pure. `torch.autograd.grad` leaves no ``.grad`` in another group of
parameters. The functions average the gradients over processes themselves; see
`darts_noise.distributed.collectives`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from darts_noise.compat import BatchNorm
from darts_noise.data.batches import Batch
from darts_noise.distributed.collectives import average_over_processes
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.architecture import Architecture


@dataclass(frozen=True)
class AlphaGradient:
    """A gradient with respect to α.

    Attributes:
        loss: the differentiated loss, of this process.
        gradients: one per parameter of α, averaged over processes.
    """

    loss: Tensor
    gradients: list[Tensor]


@dataclass(frozen=True)
class Pass:
    """The result of a forward and backward pass of w or v.

    Attributes:
        logits: (B, C), float32 or float64.
        labels: (B,).
        loss: the mean cross-entropy over this process's part of the batch.
        gradients: gradients with respect to the weights, averaged over processes. They are
            gradients of ``loss`` unless a function states another loss.
    """

    logits: Tensor
    labels: Tensor
    loss: Tensor
    gradients: list[Tensor]


def gradients(
    loss: Tensor, parameters: Sequence[Tensor], create_graph: bool = False
) -> list[Tensor]:
    """Return ∂loss/∂parameters, averaged over all processes.

    The gradient of a parameter is zero if the loss does not depend on it. With ``create_graph`` the
    averaged gradients can be differentiated again.
    """
    return average_over_processes(
        torch.autograd.grad(
            loss, parameters, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    )


def vector_product(
    of: Sequence[Tensor], wanted: Sequence[Tensor], vector: Sequence[Tensor]
) -> list[Tensor]:
    """Return (∂of/∂wanted)ᵀ · vector, averaged over all processes, and keep the graph."""
    return average_over_processes(
        torch.autograd.grad(
            of,
            wanted,
            grad_outputs=[v.detach() for v in vector],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
    )


def assign(
    parameters: Sequence[Tensor], values: Sequence[Tensor | None], clip: float = 0.0
) -> None:
    """Set ``.grad`` of each parameter to its value, scaled to a total norm ≤ ``clip``.

    A parameter whose value is None gets no gradient, so an optimiser leaves it as it is. Each
    gradient gets the memory layout of its parameter, because the fused optimisers need it.
    ``backward()`` ensures that layout, but `torch.autograd.grad` does not.
    """
    for parameter, value in zip(parameters, values, strict=True):
        if value is not None and _strides(value) != _strides(parameter):
            value = torch.empty_like(parameter).copy_(value)
        parameter.grad = value
    if clip > 0:
        nn.utils.clip_grad_norm_(parameters, clip)


def _strides(tensor: Tensor) -> list[int]:
    """Return the strides of all dimensions larger than 1. Other strides do not matter."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return [stride for size, stride in sizes if size > 1]


@contextmanager
def still_statistics(net: nn.Module) -> Iterator[None]:
    """Inside the context, passes in train mode do not update the running batch-norm statistics.

    They still normalise by the statistics of the batch. A pass that computes only a gradient with
    respect to α is not a training step of w, so it must not change the statistics of w.
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
    """Inside the context, the weights need no gradient and the running statistics do not change.

    Use it for a gradient with respect to α alone: autograd then keeps fewer activations.
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
    """Return the logits in float32 or float64. A loss in bf16 would have two or three digits."""
    return logits if logits.dtype == torch.float64 else logits.float()


def with_weights(net: nn.Module) -> Callable[..., Tensor]:
    """Return (weights, *arguments) → the output of the network with other weights."""
    names = [name for name, _ in net.named_parameters()]

    def call(weights: Sequence[Tensor], *arguments: Any) -> Tensor:
        found: Tensor = functional_call(net, dict(zip(names, weights, strict=True)), arguments)
        return found

    return call


def logits_at(
    net: SuperNet, relaxed: Mapping[str, Tensor]
) -> Callable[[Sequence[Tensor], Tensor], Tensor]:
    """Return (weights, images) → the `unrounded` logits of a supernet with other weights."""
    call = with_weights(net)
    return lambda weights, images: unrounded(call(weights, images, relaxed))


def first_order_gradient(net: SuperNet, arch: Architecture, batch: Batch) -> AlphaGradient:
    """Return ∂L(w, α) / ∂α on a batch at the current w (DARTS, section 2.3)."""
    images, labels = batch
    with constant(net):
        loss = F.cross_entropy(unrounded(net(images, arch())), labels)
        return AlphaGradient(loss.detach(), gradients(loss, list(arch.parameters())))


def weights_pass(net: SuperNet, relaxed: Mapping[str, Tensor], batch: Batch) -> Pass:
    """Return the gradient of a batch's loss with respect to the supernet's weights, at fixed α."""
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
    """Return the gradient of L + P(L_noise) with respect to w, at fixed α, from one mixed batch.

    Args:
        net: the supernet with weights w.
        relaxed: the relaxed α.
        batch: a batch of the data.
        noise: a batch of the noise set.
        penalty: P times its weight, as a function of the noise loss averaged over processes.

    Returns:
        The pass over the data and the pass over the noise. Both hold the gradient of the sum.
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
    """Return the first-order gradient of the penalty with respect to α, and the pass of the twin.

    One forward and backward pass gives both: the twin's pass holds the gradient of the noise loss
    with respect to v.

    Args:
        twin: the twin with weights v, in train mode.
        arch: α.
        batch: a batch of the noise set.
        num_classes: number of classes of the noise set.
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
    """Return a batch's loss as a function of the relaxed α. Batch-norm statistics do not change."""
    images, labels = batch

    def loss(relaxed: Mapping[str, Tensor]) -> Tensor:
        with still_statistics(net):
            return F.cross_entropy(unrounded(net(images, relaxed)), labels)

    return loss
