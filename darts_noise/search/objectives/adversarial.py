"""The objective ``adversarial``: the loss on the worst images near the validation images.

FGSM (Goodfellow et al. 2015, arXiv:1412.6572) makes one step along the gradient, PGD (Madry et al.
2018, arXiv:1706.06083) several from a random start. The changed images are constants in the
gradient with respect to α. Almost everywhere this is exact, because steps by a sign do not change
with α.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_noise.attacks.gradient import ascend, leap
from darts_noise.attacks.pixels import Ball
from darts_noise.configured import require_at_least
from darts_noise.errors import SettingError
from darts_noise.search.objectives.objective import (
    Objective,
    ObjectiveInputs,
    register_objective,
)


@register_objective("adversarial")
class Adversarial(Objective):
    """The mean cross-entropy in nats of images that an attack has changed.

    Args:
        eps: largest change of a pixel, with pixels from 0 to 1. Default: 0.1.
        steps: steps of the attack. 1 (default): FGSM. More: PGD.
    """

    def __init__(self, eps: float = 0.1, steps: int = 1) -> None:
        if not 0 < eps <= 1:
            raise SettingError("eps", f"expected more than 0 and at most 1, got {eps}")
        require_at_least(1, steps=steps)
        self.ball, self.steps = Ball("linf", eps), steps

    def __call__(self, inputs: ObjectiveInputs) -> Tensor:
        batch, labels = inputs.batch

        def logits(pixels: Tensor) -> Tensor:
            images = inputs.normalisation(255 * pixels)
            return inputs.logits(inputs.weights, images.to(pixels.dtype))

        near = inputs.normalisation.pixels(batch)
        if self.steps == 1:
            near = leap(logits, near, labels, self.ball)
        else:
            near = ascend(logits, near, labels, self.ball, self.steps, torch.default_generator)
        return F.cross_entropy(logits(near), labels)
