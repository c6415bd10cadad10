"""Whether the processes still hold the same parameters, bit for bit; looked at as a run goes on.

Each process makes every update by itself from averaged gradients. If a gradient were not averaged,
or a processor at fault, each would go on with an architecture of its own, and nothing else would
show it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from darts_noise.distributed.collectives import (
    SharedError,
    largest_over_processes,
    process_count,
)

CHECK_EVERY = 100
"""Steps between two looks. One reads all parameters once and waits for the device."""

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int32}
"""By an entry's bytes, the integers that it is read as; their sum in int64 does not overflow."""

Groups = Mapping[str, Sequence[Tensor]]


class OutOfStepError(SharedError):
    """The processes hold different parameters; the message names which, and the step."""


def checksum(tensors: Sequence[Tensor]) -> Tensor:
    """A scalar of int64 that depends on every bit: the sum of the entries, read as integers.

    Integers have the same sum in any order. Each tensor counts its place times, so that changes of
    two tensors do not cancel.

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
    """Compares the parameters of all processes; in one reduction of two numbers for each group.

    Args:
        groups: tensors by the name that a message gives them, none of them empty.
        step: of the run, from 0, for the message.

    Raises:
        OutOfStepError: in every process, if a group is not the same in all of them.
    """
    sums = torch.stack([checksum(tensors) for tensors in groups.values()])
    # The complement turns the order round, and cannot overflow.
    largest, complement = largest_over_processes(torch.cat([sums, ~sums])).chunk(2)
    alike = (largest == ~complement).tolist()
    if not all(alike):
        names = " and ".join(name for name, same in zip(groups, alike, strict=True) if not same)
        raise OutOfStepError(
            f"the {process_count()} processes hold different {names} after step {step + 1}: "
            "expected the same in all; go on from the last checkpoint with --resume"
        )


class Agreement(pl.Callback):
    """`require_agreement` after the first step, every `CHECK_EVERY` and the last of each epoch.

    Args:
        groups: gives what is to be the same.
        every: steps between two looks.
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
