"""``lookahead``: how much of the noise one gradient step of the twin learns."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_noise.distributed.collectives import average_over_processes
from darts_noise.errors import SettingError
from darts_noise.noise.penalties.penalty import Penalty, Trial, register_penalty

Loss = Callable[[Sequence[Tensor]], Tensor]


def removed_by_a_step(
    loss: Loss, weights: Sequence[Tensor], learning_rate: float, num_classes: int
) -> Tensor:
    """P = max(0, min(L(v), log C) − L(v − η ∇L(v))) / log C, in [0, 1].

    What lies above log C is the price of being sure of something wrong; to lose it is not to learn
    the noise, and does not count. Where nothing can be learnt, ∇L is 0 and P is 0 and flat; so it
    is where a step of this size leads uphill.

    Args:
        loss: L, the mean cross-entropy in nats of this process's samples, at given weights; twice
            differentiable.
        weights: v.
        learning_rate: η.
        num_classes: C, at least 2, of the noise.

    Returns:
        A scalar, differentiable by what `loss` depends on, through the step too.
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
    """The noise loss that one plain gradient step of the twin removes from a batch, over log C.

    The step is the twin's and not that of a copy of w. On noise, w is sure of something wrong, and
    a step from there unlearns that first, which says nothing of the noise; whereas the steps of v
    add up to exactly what the twin has learnt. The price: a twin that has learnt the whole set has
    nothing left to remove, just as one that can learn nothing. ``model.twin_restart`` puts the
    question anew.

    Args:
        learning_rate: η of the step, without momentum, weight decay or clipping.
    """

    def __init__(self, learning_rate: float = 0.1) -> None:
        if not learning_rate > 0:
            raise SettingError("learning_rate", f"expected more than 0, got {learning_rate}")
        self.learning_rate = learning_rate

    def __call__(self, trial: Trial) -> Tensor:
        images, labels = trial.noise
        return removed_by_a_step(
            lambda weights: F.cross_entropy(trial.logits(weights, images), labels),
            trial.weights,
            self.learning_rate,
            trial.num_classes,
        )
