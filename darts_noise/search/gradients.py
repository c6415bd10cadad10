"""Gradients of one group of parameters, without touching any other.

Every update of the search goes through here: `torch.autograd.grad` leaves no ``.grad`` behind in
the other groups, and the average over processes is taken by hand: see
`darts_noise.distributed.collectives`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from darts_noise.distributed.collectives import average_over_processes


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
    norms = [
        m
        for m in net.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
