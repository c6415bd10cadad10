"""Sums and averages over all processes that are differentiable any number of times.

`torch.autograd.grad` does not trigger the hooks of `DistributedDataParallel`, so the search
averages explicitly. Every process has the same number of samples, so a mean over the batch is the
mean of the processes' means.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class CollectiveError(ValueError):
    """An error that every process raises at the same place, so that one process reports it."""


LOST = ("closed by peer", "reset by peer", "broken pipe", "remote process exit")
"""Parts of the messages of gloo and NCCL when another process has ended."""


def lost_process(error: RuntimeError) -> str | None:
    """Return one line for the user if the error says that another process has ended, or None."""
    if process_count() == 1 or not any(words in str(error).lower() for words in LOST):
        return None
    return (
        f"process {process_rank()} of {process_count()}: another process has ended; see its "
        "message for the reason; start all processes again with --resume to continue"
    )


def process_count() -> int:
    """Return the number of processes; 1 before they have joined."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Return the rank of this process, from 0."""
    return dist.get_rank() if process_count() > 1 else 0


class _Sum(torch.autograd.Function):
    """The sum over all processes. Every process gets it, so backward sums the gradients too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed: Tensor = _Sum.apply(gradient)
        return summed


class _Gather(torch.autograd.Function):
    """The vectors of all processes as the rows of a matrix."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows = x.new_empty(dist.get_world_size() * x.numel())
        dist.all_gather_into_tensor(rows, x.contiguous())
        return rows.view(dist.get_world_size(), -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed: Tensor = _Sum.apply(gradient)
        return summed[dist.get_rank()]


def average_over_processes(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the mean of each tensor over all processes, in one reduction.

    With one process, return the tensors. The mean is differentiable: backward in each process gives
    this process's share of the gradient of the sum of all processes' losses. The average of the
    shares is the gradient of the mean loss.

    Args:
        tensors: tensors with one dtype, on one device, with the same shapes in all processes.
    """
    if process_count() == 1:
        return list(tensors)
    flat: Tensor = _Sum.apply(torch.cat([t.reshape(-1) for t in tensors]))
    parts = torch.split(flat / process_count(), [t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def gather(x: Tensor) -> Tensor:
    """Return the vectors x of all processes as (processes, len(x)), by rank; differentiable."""
    rows: Tensor = x[None] if process_count() == 1 else _Gather.apply(x)
    return rows


def largest_over_processes(x: Tensor) -> Tensor:
    """Return the maximum of each entry over all processes. x must contain integers."""
    if process_count() == 1:
        return x
    largest = x.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest


def true_everywhere(answers: Tensor) -> Tensor:
    """Return for each boolean whether it is true in all processes."""
    return largest_over_processes(1 - answers.to(torch.uint8)) == 0


def on_first_process(make: Callable[[], T]) -> T:
    """Call `make` in the first process and return its result in all processes.

    Args:
        make: the function. Its result must be picklable.

    Raises:
        Exception: in the first process, the error of `make`.
        CollectiveError: in the other processes, with the same message.
    """
    if process_count() == 1:
        return make()
    made: list[Any] = [None, None]
    failure: Exception | None = None
    if process_rank() == 0:
        try:
            made[0] = make()
        except Exception as error:
            failure, made[1] = error, str(error)
    dist.broadcast_object_list(made)
    if failure is not None:
        raise failure
    if made[1] is not None:
        raise CollectiveError(made[1])
    value: T = made[0]
    return value


def from_every_process(value: T) -> list[T]:
    """Return the values of all processes, by rank, in each process. They must be picklable."""
    if process_count() == 1:
        return [value]
    values: list[Any] = [None] * process_count()
    dist.all_gather_object(values, value)
    return values
