"""How small a change of an image fools a network: the attacks with growing sizes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from darts_noise.attacks.gradient import fgsm, fooled, pgd
from darts_noise.attacks.pixels import Ball, device_of
from darts_noise.attacks.settings import ATTACK, ATTACKS, AttackConfig
from darts_noise.attacks.square import square
from darts_noise.data.seeds import Stream, generator

CHECKED = 100
"""Images with which the check for masked gradients attacks without a limit."""
MASKED = 0.02
"""Largest share of images that may survive that, or that only `square` may fool."""

Attack = Callable[[nn.Module, Tensor, Tensor, Ball, AttackConfig, torch.Generator], Tensor]
BY_NAME: Mapping[str, Attack] = MappingProxyType({"fgsm": fgsm, "pgd": pgd, "square": square})


@dataclass(frozen=True)
class AttackResult:
    """The smallest of the tried sizes of a change that fools the network, for each image.

    Attributes:
        norm: ``linf`` or ``l2``.
        eps: the sizes of a change that were tried, ascending, with pixels from 0 to 1.
        smallest: attack → (N,), float64: the smallest of the sizes at which the attack changes the
            class of an image. 0: the class is wrong without an attack. Infinite: the attack fails.
        radii: (N,), float64: the certified radius of each image in this norm. None: the network
            cannot be certified.
        unlimited: accuracy of `CHECKED` images under pgd when every pixel may change from 0 to 1.
            It should be 0. None: pgd was not run.
        warnings: signs that the attacks overstate the robustness.
    """

    norm: str
    eps: tuple[float, ...]
    smallest: Mapping[str, Tensor]
    radii: Tensor | None
    unlimited: float | None
    warnings: tuple[str, ...]

    @property
    def strongest(self) -> Tensor:
        """(N,): the smallest change by any of the attacks."""
        return torch.stack(list(self.smallest.values())).amin(0)

    def accuracy(self, attack: str | None = None) -> tuple[float, ...]:
        """Return the accuracy without an attack, and under attack for each of `eps`.

        Args:
            attack: one of `smallest`. None: all of them; an image must resist each.
        """
        smallest = self.strongest if attack is None else self.smallest[attack]
        return tuple(float((smallest > eps).double().mean()) for eps in (0.0, *self.eps))

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON object. Its first accuracies are without a change."""
        accuracies = {name: self.accuracy(name) for name in self.smallest}
        return {
            "format": ATTACK,
            "norm": self.norm,
            "eps": [0.0, *self.eps],
            "images": len(self.strongest),
            "certified": None if self.radii is None else self.certified(),
            "accuracy": {**accuracies, "strongest": self.accuracy()},
            "unlimited": self.unlimited,
            "warnings": list(self.warnings),
        }

    def certified(self) -> tuple[float, ...]:
        """Return the certified accuracy for no change and for each of `eps`."""
        assert self.radii is not None, "a network without a certificate"
        right = self.strongest > 0
        kept = [(self.radii > eps) | (eps == 0) for eps in (0.0, *self.eps)]
        return tuple(float((right & certain).double().mean()) for certain in kept)


@parametrize.cached()  # otherwise, every call would rescale every weight
def attack_images(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: AttackConfig,
    radii: Tensor | None = None,
) -> AttackResult:
    """Attack each image with changes of growing size until one changes its class.

    Args:
        net: maps pixels from 0 to 1, (B, C, H, W), to logits. It is in eval mode.
        images: (N, C, H, W), from 0 to 1.
        labels: (N,), int64.
        config: the attacks.
        radii: (N,), the certified l2 radius of each image. None: not certified.
    """
    smallest = {name: _smallest(net, images, labels, config, name) for name in config.attacks}
    if radii is not None and config.norm == "linf":
        radii = radii / math.sqrt(images[0].numel())  # of a change of eps in every pixel
    unlimited, warnings = None, []
    if "pgd" in smallest:
        limit = 1.0 if config.norm == "linf" else math.sqrt(images[0].numel())
        right = (smallest["pgd"] > 0).nonzero()[:CHECKED, 0]
        every = replace(config, eps=(limit,), batch_size=CHECKED)
        resisting = _smallest(net, images[right], labels[right], every, "pgd").isinf()
        unlimited = float(resisting.double().mean()) if len(right) else 0.0
        if unlimited > MASKED and not _is_constant(net, images[:CHECKED]):
            warnings.append(
                f"pgd leaves {unlimited:.0%} of the images right that were right, although every "
                "pixel may change from 0 to 1 (expected 0%): the gradients are masked, or pgd "
                "needs more steps and starts; the network is less robust than measured"
            )
    with_gradients = [smallest[name] for name in smallest if name != "square"]
    if "square" in smallest and with_gradients:
        alone = smallest["square"] < torch.stack(with_gradients).amin(0)
        if (share := float(alone.double().mean())) > MASKED:
            warnings.append(
                f"square, which uses no gradients, fools {share:.0%} of the images with a smaller "
                "eps than the attacks with gradients: the gradients are masked, or pgd needs more "
                "steps and starts"
            )
    return AttackResult(config.norm, config.sizes, smallest, radii, unlimited, tuple(warnings))


def _is_constant(net: nn.Module, images: Tensor) -> bool:
    """Return whether all images get the same class. No change fools such a network."""
    with torch.no_grad():
        return len(net(images.to(device_of(net))).argmax(1).unique()) == 1


def _smallest(
    net: nn.Module, images: Tensor, labels: Tensor, config: AttackConfig, name: str
) -> Tensor:
    """Return the smallest of the sizes at which one attack fools each image; see `AttackResult`."""
    device = device_of(net)

    def wrong(changed: Tensor, indices: Tensor) -> Tensor:
        return fooled(net, changed.to(device), labels[indices].to(device)).cpu()

    everything = torch.arange(len(images))
    found = torch.full((len(images),), math.inf, dtype=torch.float64)
    for part in torch.split(everything, config.batch_size):
        found[part[wrong(images[part], part)]] = 0.0
    for number, size in enumerate(config.sizes):
        ball = Ball(config.norm, size)
        for i, part in enumerate(torch.split(everything[found.isinf()], config.batch_size)):
            random = generator(config.seed, Stream.ATTACK, ATTACKS.index(name), number, i)
            given = (images[part].to(device), labels[part].to(device))
            changed = BY_NAME[name](net, *given, ball, config, random)
            found[part[wrong(changed, part)]] = size
    return found
