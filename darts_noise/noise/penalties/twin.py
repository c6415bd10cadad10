"""``twin``: how far below a guess weights get that learn nothing but the noise."""

from torch import Tensor

from darts_noise.errors import SettingError, unknown
from darts_noise.noise.penalties.penalty import LossPenalty, noise_fit_penalty, register_penalty

FLOOR = 1e-3
"""What the logarithmic form sees of the guess's loss where the noise is fitted perfectly."""


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
