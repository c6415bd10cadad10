"""Sums and averages over all processes, which can be differentiated as often as wanted.

A gradient by `torch.autograd.grad` passes by the hooks of `DistributedDataParallel`, and a
differentiated sum has no hooks at all, so the search averages by hand: whatever is a mean over the
batch is a mean over the processes of their means, which have equally many samples each.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class SharedError(ValueError):
    """An error that every process raises at the same place, so that one of them may tell it."""


LOST = ("closed by peer", "reset by peer", "broken pipe", "remote process exit")
"""What gloo and NCCL say, among much else, when another process has gone."""


def lost_process(error: RuntimeError) -> str | None:
    """One line for a user if an error says that another process has ended; else None."""
    if process_count() == 1 or not any(words in str(error).lower() for words in LOST):
        return None
    return (
        f"process {process_rank()} of {process_count()}: another process has ended before this "
        "one, and says why if it could; started again with --resume, all of them go on"
    )


def process_count() -> int:
    """How many processes work together; 1 before they have joined."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if process_count() > 1 else 0


class _Sum(torch.autograd.Function):
    """The sum over all processes. Each of them has all of it, so the gradients add up likewise."""

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
    """The mean of each tensor over all processes, in one reduction; the tensors when alone.

    Differentiable: each process's backward gives its share of the gradient of the sum of what all
    of them differentiate, so that the average of the shares is the gradient of their mean.

    Args:
        tensors: of one dtype on one device, of the same shapes in all processes.
    """
    if process_count() == 1:
        return list(tensors)
    flat: Tensor = _Sum.apply(torch.cat([t.reshape(-1) for t in tensors]))
    parts = torch.split(flat / process_count(), [t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def gather(x: Tensor) -> Tensor:
    """The vector x of every process as (processes, len(x)), by rank; differentiable."""
    rows: Tensor = x[None] if process_count() == 1 else _Gather.apply(x)
    return rows


def largest_over_processes(x: Tensor) -> Tensor:
    """Each entry's largest value in any process; of integers, which all backends compare."""
    if process_count() == 1:
        return x
    largest = x.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest


def true_everywhere(answers: Tensor) -> Tensor:
    """For each of the booleans, whether it is true in all processes."""
    return largest_over_processes(1 - answers.to(torch.uint8)) == 0


def on_first_process(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them.

    Args:
        make: called in the first process alone; what it returns must be picklable.

    Raises:
        Exception: what `make` raised, in the first process.
        SharedError: the same words, in the others.
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
        raise SharedError(made[1])
    value: T = made[0]
    return value


def from_every_process(value: T) -> list[T]:
    """The values of all processes, by rank, in each of them; they must be picklable."""
    if process_count() == 1:
        return [value]
    values: list[Any] = [None] * process_count()
    dist.all_gather_object(values, value)
    return values
