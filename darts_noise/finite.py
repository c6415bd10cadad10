"""Stops a training at the first loss or gradient that is NaN or infinite.

On a CPU each update is looked at before it is made. A GPU would have to be waited for each time, so
there the answers are read together: every `READ_EVERY` looks, at the end of an epoch and before
anything is written, so that no file holds what came of them. Several processes look at the same
time, and what one finds ends all of them.
"""

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from darts_noise.distributed.collectives import SharedError, true_everywhere

READ_EVERY = 60
"""Looks between two readings of a GPU's answers: 20 steps of a search with a twin."""


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
        if answers.device.type == "cpu" or len(self._unread) >= READ_EVERY:
            self.read()

    def read(self) -> None:
        """Reads the answers that are still on the device.

        Raises:
            NotFiniteError: as for `look`; the message names the first.
        """
        unread, self._unread = self._unread, []
        if not unread:
            return
        together = torch.cat([answers for _, _, answers in unread])
        found = iter(true_everywhere(together).tolist())
        for names, where, _ in unread:
            for name, finite in zip(names, islice(found, len(names)), strict=True):
                if not finite:
                    raise NotFiniteError(f"{name} is not finite {where}; {self.advice}")


def _finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether all entries are; a scalar on the device, which is not waited for.

    >>> _finite([torch.ones(2), torch.tensor(float("nan"))])
    tensor(False)
    """
    return get_total_norm(tensors, torch.inf).isfinite()
