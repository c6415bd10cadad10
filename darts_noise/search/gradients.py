"""Gradients of one group of parameters, without touching any other.

Every update of the search goes through here: `torch.autograd.grad` leaves no ``.grad`` behind in
the other groups, and the average over processes is taken by hand, because gradients obtained this
way pass by the hooks of `DistributedDataParallel`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn


def gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """∂loss/∂parameters, averaged over all processes; zeros where loss does not depend on one."""
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return average_over_processes(found)


def average_over_processes(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mean of each tensor over all processes, in one reduction; the tensors when alone."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return list(tensors)
    flat = torch.cat([t.detach().reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    parts = torch.split(flat.div_(dist.get_world_size()), [t.numel() for t in tensors])
    return [part.view_as(t) for part, t in zip(parts, tensors, strict=True)]


def assign(parameters: Sequence[Tensor], values: Sequence[Tensor], clip: float = 0.0) -> None:
    """Makes ``values`` the gradients that an optimiser will read, scaled to a norm ≤ ``clip``."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.grad = value
    if clip > 0:
        nn.utils.clip_grad_norm_(parameters, clip)


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
