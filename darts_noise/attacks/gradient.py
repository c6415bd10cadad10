"""Attacks along the gradient.

References:
    [1] Goodfellow et al., Explaining and harnessing adversarial examples, ICLR 2015,
        arXiv:1412.6572.
    [2] Madry et al., Towards deep learning models resistant to adversarial attacks, ICLR 2018,
        arXiv:1706.06083.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from darts_noise.attacks.pixels import Ball
from darts_noise.attacks.settings import AttackConfig

Logits = Callable[[Tensor], Tensor]
"""A network, or another function of images (B, C, H, W) → logits (B, classes)."""

FIRST_STEP = 0.5
"""Length of the first step of PGD, divided by the size of the allowed change.

The steps fall linearly to 0. With equal steps, 1 to 3% more images of digits resist.
"""


def advantage(logits: Tensor, labels: Tensor) -> Tensor:
    """Return what attacks increase: log Σ_j≠y exp z_j − z_y, (B,).

    It has the direction of the gradient of the cross-entropy log(1 + exp(advantage)). But it keeps
    its size where cross-entropy is rounded to 0, as with a large logit scale.
    """
    own, others = own_and_others(logits, labels)
    return others.logsumexp(1) - own


def own_and_others(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logit of the label, (B,), and the logits with -∞ in its place, (B, classes)."""
    index = labels[:, None]
    return logits.gather(1, index)[:, 0], logits.scatter(1, index, -math.inf)


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logit of the label minus the largest other logit, (B,)."""
    own, others = own_and_others(logits, labels)
    return own - others.amax(1)


def _gradient(net: Logits, images: Tensor, labels: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        total = advantage(net(images), labels).sum()
        [gradient] = torch.autograd.grad(total, images)
    return gradient


def fooled(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return which images (B,) the network gives another class than the label."""
    with torch.no_grad():
        logits: Tensor = net(images)
    return logits.argmax(1) != labels


def fgsm(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    config: AttackConfig,
    random: torch.Generator,
) -> Tensor:
    """Return the images (B, C, H, W) after one step of size `ball.eps` along the gradient [1]."""
    return leap(net, images, labels, ball)


def leap(net: Logits, images: Tensor, labels: Tensor, ball: Ball) -> Tensor:
    """Return the images of `fgsm`."""
    return ball.project(images + ball.eps * ball.step(_gradient(net, images, labels)), images)


def pgd(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    config: AttackConfig,
    random: torch.Generator,
) -> Tensor:
    """Return the images (B, C, H, W) after projected gradient steps from random starts [2].

    An image that is fooled is not changed further.
    """
    found = images.clone()
    left = torch.arange(len(images), device=images.device)
    for _ in range(config.starts):
        near = ball.random(images[left], random)
        for step in range(config.steps):
            originals, wanted = images[left], labels[left]
            near = _step(net, near, originals, wanted, ball, step / config.steps)
            found[left] = near
            kept = ~fooled(net, near, wanted)
            left, near = left[kept], near[kept]
            if not len(left):
                return found
    return found


def ascend(
    net: Logits,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    steps: int,
    random: torch.Generator,
) -> Tensor:
    """Return the images (B, C, H, W) after all steps of `pgd` from one random start [2].

    An image that is fooled is changed further. So its example is harder to learn, and fools other
    networks more often.
    """
    near = ball.random(images, random)
    for step in range(steps):
        near = _step(net, near, images, labels, ball, step / steps)
    return near


def _step(
    net: Logits, near: Tensor, images: Tensor, labels: Tensor, ball: Ball, done: float
) -> Tensor:
    """Return the changed images `near` after one more step. `done` is the share of steps before."""
    length = FIRST_STEP * ball.eps * (1 - done)
    return ball.project(near + length * ball.step(_gradient(net, near, labels)), images)
