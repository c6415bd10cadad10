"""``twin``: how far below a guess weights get that learn nothing but the noise."""

import math

from torch import Tensor

from darts_noise.errors import SettingError, unknown
from darts_noise.noise.penalties.penalty import LossPenalty, register_penalty

FLOOR = 1e-3
"""What the logarithmic form sees of the guess's loss where the noise is fitted perfectly."""


def noise_fit_penalty(noise_loss: Tensor, num_classes: int) -> Tensor:
    """P = max(0, 1 − L_noise / log C), in [0, 1]: the share of a guess's loss that is removed.

    0 where the twin does no better than guess, 1 where it fits the noise perfectly.

    Args:
        noise_loss: scalar cross-entropy of the twin on noise, in nats.
        num_classes: C, at least 2, of the noise set, which may have fewer than the network; log C
            is the loss of a guess among them.

    >>> import torch
    >>> noise_fit_penalty(torch.tensor(0.0), 10)
    tensor(1.)
    >>> noise_fit_penalty(torch.tensor(5.0), 10)
    tensor(0.)
    """
    return (1 - noise_loss / math.log(num_classes)).clamp(min=0)


def log_noise_fit_penalty(noise_loss: Tensor, num_classes: int) -> Tensor:
    """P = −log(1 − (1 − ε) p), with p of `noise_fit_penalty` and ε = `FLOOR`: in [0, −log ε].

    −log(1 − p) would be infinite at p = 1. The factor makes it −log ε = 6.9 there, and its slope in
    p at most (1 − ε) / ε, without the flat stretch that a clamp would leave where the fit is best;
    at p = 0 it is 0 as before, and flat above a guess.

    Args:
        noise_loss: as for `noise_fit_penalty`, and so is `num_classes`.
    """
    return -(1 - (1 - FLOOR) * noise_fit_penalty(noise_loss, num_classes)).log()


FORMS = {"gap": noise_fit_penalty, "log": log_noise_fit_penalty}


@register_penalty("twin")
class Twin(LossPenalty):
    """The twin's gap to a guess on noise: the design's penalty.

    Args:
        form: ``gap``: `noise_fit_penalty`, in [0, 1]. ``log``: `log_noise_fit_penalty`, whose pull
            grows with the fit: every halving of what is left of the loss counts alike.
    """

    def __init__(self, form: str = "gap") -> None:
        if form not in FORMS:
            raise SettingError("form", unknown("form", form, FORMS))
        self.form = form

    def of_loss(self, noise_loss: Tensor, num_classes: int) -> Tensor:
        return FORMS[self.form](noise_loss, num_classes)
