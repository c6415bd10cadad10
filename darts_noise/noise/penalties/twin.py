"""The penalty ``twin``: how far below a guess the noise loss of a twin gets."""

from torch import Tensor

from darts_noise.errors import SettingError, unknown
from darts_noise.noise.penalties.penalty import LossPenalty, noise_fit_penalty, register_penalty

FLOOR = 1e-3
"""The share of a guess's loss that the logarithmic form assumes at a perfect fit."""


def log_noise_fit_penalty(noise_loss: Tensor, num_classes: int) -> Tensor:
    """Compute P = −log(1 − (1 − ε) p), in [0, −log ε], with p = `noise_fit_penalty`, ε = `FLOOR`.

    −log(1 − p) would be infinite at p = 1. The factor 1 − ε limits P to −log ε = 6.9 and its slope
    in p to (1 − ε) / ε. A clamp would make P flat near the best fit; this factor does not. P is 0
    at p = 0, and flat if the loss is above the loss of a guess.

    Args:
        noise_loss, num_classes: as for `noise_fit_penalty`.
    """
    return -(1 - (1 - FLOOR) * noise_fit_penalty(noise_loss, num_classes)).log()


FORMS = {"gap": noise_fit_penalty, "log": log_noise_fit_penalty}


@register_penalty("twin")
class Twin(LossPenalty):
    """The default penalty: how much better than a guess the twin is on noise.

    Args:
        form: ``gap`` (default): `noise_fit_penalty`, in [0, 1]. ``log``: `log_noise_fit_penalty`,
            whose gradient grows with the fit: every halving of the remaining loss counts the same.
    """

    def __init__(self, form: str = "gap") -> None:
        if form not in FORMS:
            raise SettingError("form", unknown("form", form, FORMS))
        self.form = form

    def of_loss(self, noise_loss: Tensor, num_classes: int) -> Tensor:
        return FORMS[self.form](noise_loss, num_classes)
