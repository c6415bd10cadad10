"""Stop a training at the first loss or gradient that is NaN or infinite.

On a CPU, each update is checked before it is made. On CUDA, this would wait for the device each
time. There, the results are read together: after `READ_EVERY` checks, at the end of an epoch, and
before a file is written. Until then, a flag on the device makes the fused optimisers skip every
update after the first failed check. So neither weights nor files contain values of a bad update.
With several processes, all check at the same time, and a failure in one process stops all of them.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from darts_noise.distributed.collectives import CollectiveError, true_everywhere

READ_EVERY = 60
"""Checks between two reads of the results from CUDA: 20 steps of a search with a twin."""


Term = tuple[str, Sequence[Tensor]]
"""An input of an update: a name for messages, and tensors on one device."""


class NotFiniteError(CollectiveError):
    """An error for a diverged training.

    The message states what is not finite, the step, the learning rate and what to try.
    """


class FiniteCheck:
    """A check of the terms of every update.

    Args:
        advice: what the user can try, for the message.
        alone: whether only this process trains, and the others wait for it. Default: False.
    """

    def __init__(self, advice: str, alone: bool = False) -> None:
        self.advice, self.alone = advice, alone
        self._unread: list[tuple[Sequence[str], str, Tensor]] = []
        self._found: Tensor | None = None  # on the device: 1 after a failed check, otherwise 0

    def look(self, terms: Sequence[Term], *, step: int, epoch: int, rate: float) -> None:
        """Check the inputs of an update, before the update.

        Args:
            terms: the inputs; a cause comes before its effects, such as a loss before its gradient.
            step: step of the run, from 0.
            epoch: epoch of the run, from 0.
            rate: learning rate of the update.

        Raises:
            NotFiniteError: an input of this update, or of an earlier update whose result was not
                read yet, is NaN or infinite.
        """
        answers = torch.stack([_finite(tensors) for _, tensors in terms])
        where = f"at step {step + 1} (epoch {epoch + 1}), learning rate {rate:g}"
        self._unread.append(([name for name, _ in terms], where, answers))
        if reads_at_once(answers.device) or len(self._unread) >= READ_EVERY:
            self.read()
        else:
            bad = (~answers.all()).float()
            self._found = bad if self._found is None else torch.maximum(self._found, bad)

    def guard(self, optimiser: Optimizer) -> None:
        """Skip the optimiser's next step if an earlier check failed whose result was not read yet.

        Args:
            optimiser: an optimiser from `make_guardable`, or one with an attribute ``found_inf``.
                Other optimisers do not skip the step.
        """
        skips = optimiser.param_groups[0].get("fused") or hasattr(optimiser, "found_inf")
        if self._found is not None and skips:
            optimiser.found_inf = self._found  # type: ignore[attr-defined]  # of torch.amp

    def read(self) -> None:
        """Read the results that are still on the device.

        Raises:
            NotFiniteError: a check failed. The message names the first failure.
        """
        unread, self._unread, self._found = self._unread, [], None
        if not unread:
            return
        together = torch.cat([answers for _, _, answers in unread])
        found = iter((together if self.alone else true_everywhere(together)).tolist())
        for names, where, _ in unread:
            for name, finite in zip(names, islice(found, len(names)), strict=True):
                if not finite:
                    raise NotFiniteError(f"{name} is not finite {where}; {self.advice}")


def reads_at_once(device: torch.device) -> bool:
    """Return whether results are read before the update, because its optimiser cannot skip it."""
    return device.type != "cuda"


def make_guardable(optimiser: Optimizer) -> Optimizer:
    """Prepare an optimiser for `FiniteCheck.guard`, and return it.

    On CUDA, the optimiser is switched to torch's fused form, whose kernels read ``found_inf``
    themselves. It keeps this form when the state of a run on another device is loaded.

    Args:
        optimiser: SGD, Adam or Muon, before its first step. Its parameters are on their final
            device.
    """
    for group in optimiser.param_groups:
        if not any(reads_at_once(p.device) for p in group["params"]):
            group["fused"] = True
    optimiser.register_load_state_dict_pre_hook(_keep_form)
    return optimiser


def _keep_form(optimiser: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Copy ``fused`` from the optimiser's groups to the state; it decides Adam's step device."""
    groups = []
    for group, own in zip(state["param_groups"], optimiser.param_groups, strict=False):
        form = {"fused": own["fused"]} if "fused" in own else {}  # Muon has one form
        groups.append({**group, **form})
    return {**state, "param_groups": groups}


def _finite(tensors: Sequence[Tensor]) -> Tensor:
    """Return whether all entries are finite, as a scalar on the device, without waiting for it.

    >>> _finite([torch.ones(2), torch.tensor(float("nan"))])
    tensor(False)
    """
    return get_total_norm(tensors, torch.inf).isfinite()
