"""Check during a run that all processes have the same parameters, bit for bit.

Each process makes every update itself from averaged gradients. If a gradient is not averaged or the
hardware is faulty, each process continues with a different architecture, and nothing else shows it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from darts_noise.distributed.collectives import (
    CollectiveError,
    largest_over_processes,
    process_count,
)

CHECK_EVERY = 100
"""Steps between two checks. A check reads all parameters once and waits for the device."""

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int32}
"""Bytes of an entry → the integer type that it is read as. The sum in int64 does not overflow."""

Groups = Mapping[str, Sequence[Tensor]]


class OutOfStepError(CollectiveError):
    """An error for processes with different parameters; it names the parameters and the step."""


def checksum(tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum of all entries, read as integers: an int64 scalar that depends on every bit.

    Integers have the same sum in any order. The sum of each tensor is multiplied by its position,
    so that changes of two tensors do not cancel.

    >>> checksum([torch.zeros(2), torch.zeros(3)])
    tensor(0)
    >>> checksum([torch.tensor([1.0])]) == checksum([torch.tensor([1.0 + 1e-7])])
    tensor(False)
    """
    sums = [
        t.detach().reshape(-1).view(INTEGERS[t.element_size()]).sum(dtype=torch.int64)
        for t in tensors
    ]
    places = torch.arange(1, len(sums) + 1, device=sums[0].device)
    return (torch.stack(sums) * places).sum()


def require_agreement(groups: Groups, step: int) -> None:
    """Compare the parameters of all processes, in one reduction of two numbers per group.

    Args:
        groups: name for the message → tensors. No group is empty.
        step: step of the run, from 0, for the message.

    Raises:
        OutOfStepError: a group differs between processes. Every process raises it.
    """
    sums = torch.stack([checksum(tensors) for tensors in groups.values()])
    # The complement reverses the order, so its maximum gives the minimum. It cannot overflow.
    largest, complement = largest_over_processes(torch.cat([sums, ~sums])).chunk(2)
    alike = (largest == ~complement).tolist()
    if not all(alike):
        names = " and ".join(name for name, same in zip(groups, alike, strict=True) if not same)
        raise OutOfStepError(
            f"the {process_count()} processes hold different {names} after step {step + 1}: "
            "expected the same in all; resume from the last checkpoint with --resume"
        )


class Agreement(pl.Callback):
    """A callback that calls `require_agreement` regularly, also at both ends of each epoch.

    Args:
        groups: returns the parameters to compare.
        every: steps between two checks. Default: 100.
    """

    def __init__(self, groups: Callable[[], Groups], every: int = CHECK_EVERY) -> None:
        self.groups, self.every = groups, every

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        due = batch_idx % self.every == 0 or trainer.is_last_batch
        if due and process_count() > 1:
            before = trainer.current_epoch * int(trainer.num_training_batches)
            require_agreement(self.groups(), before + batch_idx)
