"""The penalty ``lookahead``: the noise loss that one gradient step of the twin removes."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_noise.distributed.collectives import average_over_processes
from darts_noise.errors import SettingError
from darts_noise.noise.penalties.penalty import Penalty, PenaltyInputs, register_penalty

Loss = Callable[[Sequence[Tensor]], Tensor]


def removed_by_a_step(
    loss: Loss, weights: Sequence[Tensor], learning_rate: float, num_classes: int
) -> Tensor:
    """Compute P = max(0, min(L(v), log C) − L(v − η ∇L(v))) / log C, in [0, 1].

    A loss above log C comes from confident wrong predictions. Removing this part does not mean
    learning the noise, so it does not count. If nothing can be learnt, ∇L is 0, and P is 0 and
    flat. P is also 0 and flat if a step of this size increases the loss.

    Args:
        loss: weights → L, the mean cross-entropy of this process's samples, in nats. It must be
            twice differentiable.
        weights: v.
        learning_rate: η.
        num_classes: C, the number of classes of the noise, at least 2.

    Returns:
        A scalar. It is differentiable with respect to everything that `loss` depends on, and also
        through the step.
    """
    weights = [w if w.requires_grad else w.detach().requires_grad_() for w in weights]
    before = loss(weights)
    before, *slope = average_over_processes(
        [
            before,
            *torch.autograd.grad(
                before, weights, create_graph=True, allow_unused=True, materialize_grads=True
            ),
        ]
    )
    [after] = average_over_processes(
        [loss([w - learning_rate * g for w, g in zip(weights, slope, strict=True)])]
    )
    chance = math.log(num_classes)
    return ((before.clamp(max=chance) - after) / chance).clamp(min=0)


@register_penalty("lookahead")
class Lookahead(Penalty):
    """A penalty: the noise loss that one plain gradient step of the twin removes, divided by log C.

    The step starts from the weights of the twin, not from a copy of w. On noise, w makes confident
    wrong predictions. A step from w first unlearns these predictions, which measures nothing about
    the noise. The steps of v add up exactly to what the twin has learnt.

    The limit: a twin that has memorised the whole set has no loss to remove, like a twin that can
    learn nothing. ``model.twin_restart`` restarts the twin.

    Args:
        learning_rate: η of the step, without momentum, weight decay or clipping. Default: 0.1.
    """

    def __init__(self, learning_rate: float = 0.1) -> None:
        if not learning_rate > 0:
            raise SettingError("learning_rate", f"expected more than 0, got {learning_rate}")
        self.learning_rate = learning_rate

    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        images, labels = inputs.noise
        return removed_by_a_step(
            lambda weights: F.cross_entropy(inputs.logits(weights, images), labels),
            inputs.weights,
            self.learning_rate,
            inputs.num_classes,
        )
