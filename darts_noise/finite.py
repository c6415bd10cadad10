"""Stops a training at the first loss or gradient that is NaN or infinite.

On a CPU each update is looked at before it is made. CUDA would have to be waited for each time, so
there the answers are read together: every `READ_EVERY` looks, at the end of an epoch and before
anything is written. Until then a number on the device keeps the fused optimisers from every update
after the first answer that is bad, so neither weights nor files hold what came of it. Several
processes look at the same time, and what one finds ends all of them.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from darts_noise.distributed.collectives import SharedError, true_everywhere

READ_EVERY = 60
"""Looks between two readings of CUDA's answers: 20 steps of a search with a twin."""


Term = tuple[str, Sequence[Tensor]]
"""What an update is made from: a name for messages, and tensors on one device."""


class NotFiniteError(SharedError):
    """A training has diverged; its message names what, where, the learning rate and what to try."""


class FiniteCheck:
    """Looks at the terms of every update.

    Args:
        advice: what to try, for the message.
    """

    def __init__(self, advice: str) -> None:
        self.advice = advice
        self._unread: list[tuple[Sequence[str], str, Tensor]] = []
        self._found: Tensor | None = None  # on the device: 1 once an answer was bad, else 0

    def look(self, terms: Sequence[Term], *, step: int, epoch: int, rate: float) -> None:
        """Looks at what an update is about to be made from.

        Args:
            terms: the cause before what follows from it.
            step: of the run, from 0.
            epoch: of the run, from 0.
            rate: the learning rate of the update.

        Raises:
            NotFiniteError: one of these, or of those that are still to be read, is NaN or infinite.
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
        """Makes the optimiser's next step none at all where a look that is not read yet was bad.

        Args:
            optimiser: one that `make_guardable` was asked for; any other steps as it would.
        """
        if self._found is not None and optimiser.param_groups[0].get("fused"):
            optimiser.found_inf = self._found  # type: ignore[attr-defined]  # of torch.amp

    def read(self) -> None:
        """Reads the answers that are still on the device.

        Raises:
            NotFiniteError: as for `look`; the message names the first.
        """
        unread, self._unread, self._found = self._unread, [], None
        if not unread:
            return
        together = torch.cat([answers for _, _, answers in unread])
        found = iter(true_everywhere(together).tolist())
        for names, where, _ in unread:
            for name, finite in zip(names, islice(found, len(names)), strict=True):
                if not finite:
                    raise NotFiniteError(f"{name} is not finite {where}; {self.advice}")


def reads_at_once(device: torch.device) -> bool:
    """Whether an answer is read before the update, since nothing else would hold that back."""
    return device.type != "cuda"


def make_guardable(optimiser: Optimizer) -> Optimizer:
    """The optimiser, which is to be told of `FiniteCheck.guard` before its steps.

    On CUDA it takes torch's fused form, whose kernels look at ``found_inf`` themselves, and keeps
    it when the state of a run on another device is loaded.

    Args:
        optimiser: SGD or Adam before its first step, of parameters that are on their device.
    """
    for group in optimiser.param_groups:
        if not any(reads_at_once(p.device) for p in group["params"]):
            group["fused"] = True
    optimiser.register_load_state_dict_pre_hook(_keep_form)
    return optimiser


def _keep_form(optimiser: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A state with the forms of the optimiser's own groups, which say where Adam's steps are."""
    groups = zip(state["param_groups"], optimiser.param_groups, strict=False)
    return {**state, "param_groups": [{**g, "fused": own["fused"]} for g, own in groups]}


def _finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether all entries are; a scalar on the device, which is not waited for.

    >>> _finite([torch.ones(2), torch.tensor(float("nan"))])
    tensor(False)
    """
    return get_total_norm(tensors, torch.inf).isfinite()
