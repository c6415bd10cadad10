"""The objective ``adversarial``: the loss on the worst images near the validation images.

FGSM (Goodfellow et al. 2015, arXiv:1412.6572) makes one step along the gradient, PGD (Madry et al.
2018, arXiv:1706.06083) several from a random start. The changed images are constants in the
gradient with respect to α. Almost everywhere this is exact, because steps by a sign do not change
with α.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_noise.data.images import Normalisation
from darts_noise.errors import SettingError
from darts_noise.search.objectives.objective import (
    Objective,
    ObjectiveInputs,
    register_objective,
)

FIRST_STEP = 0.5
"""Length of the first step of PGD, divided by eps. The steps fall linearly to 0."""


def attacked(
    logits: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    normalisation: Normalisation,
    eps: float,
    steps: int,
) -> Tensor:
    """Return images (B, C, H, W) that an attack has changed by at most eps in every pixel.

    Args:
        logits: images → (B, classes).
        images: the normalised images.
        labels: (B,).
        normalisation: the normalisation of the images.
        eps: the largest change of a pixel, with pixels from 0 to 1.
        steps: number of steps. 1: FGSM. More: PGD, which draws its start from torch's generator.
    """
    black, white = normalisation.black(images.device), normalisation.white(images.device)
    size = eps * (white - black)

    def allowed(near: Tensor) -> Tensor:
        near = torch.maximum(torch.minimum(near, images + size), images - size)
        return torch.maximum(torch.minimum(near, white), black).to(images.dtype).detach()

    near = images if steps == 1 else allowed(images + size * (2 * torch.rand_like(images) - 1))
    for step in range(steps):
        length = 1.0 if steps == 1 else FIRST_STEP * (1 - step / steps)
        with torch.enable_grad():
            near = near.detach().requires_grad_()
            found = logits(near)
            own = found.gather(1, labels[:, None])[:, 0]
            others = found.scatter(1, labels[:, None], -math.inf).logsumexp(1)
            # The cross-entropy log(1 + exp(others − own)) has the same sign. But it is rounded to 0
            # if the logits are large, as with a large logit scale.
            [slope] = torch.autograd.grad((others - own).sum(), near)
        near = allowed(near + length * size * slope.sign())
    return near


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
        if steps < 1:
            raise SettingError("steps", f"expected 1 or more, got {steps}")
        self.eps, self.steps = eps, steps

    def __call__(self, inputs: ObjectiveInputs) -> Tensor:
        images, labels = inputs.batch
        changed = attacked(
            lambda near: inputs.logits(inputs.weights, near),
            images,
            labels,
            inputs.normalisation,
            self.eps,
            self.steps,
        )
        return F.cross_entropy(inputs.logits(inputs.weights, changed), labels)
