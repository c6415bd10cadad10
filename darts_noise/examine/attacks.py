"""Attacks: small changes of images that change the class of a network.

- `fgsm`: one step along the gradient (Goodfellow et al. 2015, arXiv:1412.6572).
- `pgd`: many steps, each projected onto the allowed changes, from random starts (Madry et al. 2018,
  arXiv:1706.06083).
- `square`: random search over squares, without gradients (Andriushchenko et al. 2020,
  arXiv:1912.00049).

All take pixels from 0 to 1 and return pixels from 0 to 1. The network contains the normalisation.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from darts_noise.data.seeds import Stream, generator
from darts_noise.examine.certificates import device_of
from darts_noise.examine.settings import ATTACKS, AttackConfig

FORMAT = "darts_noise.attack/1"
FIRST_STEP = 0.5
"""Length of the first step of PGD, divided by the size of the allowed change.

The steps fall linearly to 0. With equal steps, 1 to 3 % more images of digits resist.
"""
LARGEST_SQUARE = 0.8
"""Share of an image that the first squares of the square attack cover."""
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the queries after which this share is halved."""
CHECKED = 100
"""Images with which the check for masked gradients attacks without a limit."""
MASKED = 0.02
"""Largest share of images that may survive that, or that only `square` may fool."""


@dataclass(frozen=True)
class Ball:
    """The allowed changes of an image: those with a norm of at most `eps`, with pixels from 0 to 1.

    Attributes:
        norm: ``linf`` or ``l2``.
        eps: the largest norm of a change.
    """

    norm: str
    eps: float

    def step(self, gradient: Tensor) -> Tensor:
        """Return the change of norm 1 that goes furthest along a gradient (B, C, H, W)."""
        return gradient.sign() if self.norm == "linf" else gradient / _norms(gradient)

    def project(self, images: Tensor, originals: Tensor) -> Tensor:
        """Return the images moved into the ball around the originals."""
        change = images - originals
        if self.norm == "linf":
            change = change.clamp(-self.eps, self.eps)
        else:
            change = change * (self.eps / _norms(change)).clamp(max=1)
        return (originals + change).clamp(0, 1)

    def random(self, images: Tensor, random: torch.Generator) -> Tensor:
        """Return random images of the ball, uniform in it but for the limits of the pixels."""
        if self.norm == "linf":
            change = 2 * torch.rand(images.shape, generator=random) - 1
        else:
            change = torch.randn(images.shape, generator=random)
            radii = torch.rand(len(images), 1, 1, 1, generator=random) ** (1 / images[0].numel())
            change = change / _norms(change) * radii
        return (images + self.eps * change.to(images)).clamp(0, 1)


def _norms(x: Tensor) -> Tensor:
    """Return the l2 norm of each image, (B, 1, 1, 1), above 0."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return norms.clamp_min(1e-12)


def advantage(logits: Tensor, labels: Tensor) -> Tensor:
    """Return what attacks increase: log Σ_j≠y exp z_j − z_y, (B,).

    It has the direction of the gradient of the cross-entropy log(1 + exp(advantage)). But it keeps
    its size where cross-entropy is rounded to 0, as with a large logit scale.
    """
    own, others = _own_and_others(logits, labels)
    return others.logsumexp(1) - own


def _own_and_others(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logit of the label, (B,), and the logits with -∞ in its place, (B, classes)."""
    index = labels[:, None]
    return logits.gather(1, index)[:, 0], logits.scatter(1, index, -math.inf)


def _gradient(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        total = advantage(net(images), labels).sum()
        [gradient] = torch.autograd.grad(total, images)
    return gradient


def _fooled(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
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
    """Return the images (B, C, H, W) after one step of size `ball.eps` along the gradient."""
    return ball.project(images + ball.eps * ball.step(_gradient(net, images, labels)), images)


def pgd(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    config: AttackConfig,
    random: torch.Generator,
) -> Tensor:
    """Return the images (B, C, H, W) after projected gradient steps.

    An image that is fooled is not changed further.
    """
    found = images.clone()
    left = torch.arange(len(images), device=images.device)
    for _ in range(config.starts):
        near = ball.random(images[left], random)
        for step in range(config.steps):
            originals, wanted = images[left], labels[left]
            length = FIRST_STEP * ball.eps * (1 - step / config.steps)
            near = near + length * ball.step(_gradient(net, near, wanted))
            near = ball.project(near, originals)
            found[left] = near
            kept = ~_fooled(net, near, wanted)
            left, near = left[kept], near[kept]
            if not len(left):
                return found
    return found


def square(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    config: AttackConfig,
    random: torch.Generator,
) -> Tensor:
    """Return the images (B, C, H, W) after a random search over squares.

    A new square is kept if it lowers the margin of the label. An image that is fooled is not
    changed further.
    """
    start, change, smallest = (
        (_stripes, _recolour, 1) if ball.norm == "linf" else (_tiles, _move_mass, 3)
    )

    def margins(images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            own, others = _own_and_others(net(images), labels)
        return own - others.amax(1)

    found = ball.project(images + start(images, ball.eps, random), images)
    best = margins(found, labels)
    for query in range(1, config.queries):
        left = (best > 0).nonzero()[:, 0]
        if not len(left):
            break
        share = LARGEST_SQUARE / 2 ** sum(query / config.queries > part for part in HALVINGS)
        side = max(smallest, round(math.sqrt(share * images.shape[2] * images.shape[3])))
        window = min(side, *images.shape[2:])
        originals = images[left]
        tried = originals + change(found[left] - originals, window, ball.eps, random)
        tried = ball.project(tried, originals)
        margin = margins(tried, labels[left])
        better = margin < best[left]
        found[left[better]], best[left[better]] = tried[better], margin[better]
    return found


def _stripes(images: Tensor, eps: float, random: torch.Generator) -> Tensor:
    """Return a first change: vertical stripes of ± eps."""
    batch, channels, _, width = images.shape
    return eps * _signs((batch, channels, 1, width), images, random)


def _recolour(change: Tensor, side: int, eps: float, random: torch.Generator) -> Tensor:
    """Return the changes with ± eps in a random square, with one sign for each channel."""
    inside, _, _ = _square_of(change, side, random)
    return torch.where(inside, eps * _signs((*change.shape[:2], 1, 1), change, random), change)


def _tiles(images: Tensor, eps: float, random: torch.Generator) -> Tensor:
    """Return a first change with norm eps: tiles of a peak beside a dent, with random signs."""
    batch, channels, height, width = images.shape
    side = max(2, min(height, width) // 5)
    rows, columns = torch.arange(height), torch.arange(width)
    peaks = _peak(side)[rows[:, None] % side, columns % side].to(images)
    signs = _signs((batch, channels, -(-height // side), -(-width // side)), images, random)
    change = peaks * signs[:, :, rows[:, None] // side, columns // side]
    return eps * change / _norms(change)


def _move_mass(change: Tensor, side: int, eps: float, random: torch.Generator) -> Tensor:
    """Return the changes with a new peak in one square, whose norm is taken from another square.

    Both squares are random. The part of eps that is not used is added (algorithm 3 of the paper).
    """
    inside, rows, columns = _square_of(change, side, random)
    other, _, _ = _square_of(change, side, random)
    peak = _peak(side).to(change)
    if torch.rand((), generator=random) < 0.5:
        peak = peak.T
    signs = _signs((*change.shape[:2], 1, 1), change, random)
    new = signs * peak[rows, columns][:, None] + _per_channel(change * inside)
    new = _per_channel(new * inside)
    unused = (eps**2 - change.square().sum((1, 2, 3), keepdim=True)).clamp_min(0)
    freed = (change * (inside | other)).square().sum((2, 3), keepdim=True)
    new = new * (freed + unused / change.shape[1]).sqrt()
    return torch.where(inside, new, change * ~other)


def _peak(side: int) -> Tensor:
    """Return a peak beside a dent, (side, side), with norm 1 (equation 2 of the paper)."""
    halves = [_pyramid(side, width) for width in (side // 2, side - side // 2)]
    peak = torch.cat([halves[0], -halves[1]], dim=1)
    length: Tensor = torch.linalg.vector_norm(peak)
    return peak / length


def _pyramid(height: int, width: int) -> Tensor:
    centre = height // 2
    rows = (torch.arange(height) - centre).abs()
    columns = (torch.arange(width) - width // 2).abs()
    steps = centre - torch.maximum(rows[:, None], columns)
    terms = 1 / (centre + 1 - torch.arange(centre + 1.0)) ** 2
    return terms.cumsum(0)[steps.clamp_min(0)] * (steps >= 0)


def _per_channel(x: Tensor) -> Tensor:
    """Scale each channel of each image to norm 1. Zeros stay zeros."""
    lengths: Tensor = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
    return x / lengths.clamp_min(1e-12)


def _square_of(x: Tensor, side: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a square for each image of x (B, C, H, W).

    Returns:
        Which pixels are inside, (B, 1, H, W), and the place of each pixel in the square: its row,
        (B, H, 1), and its column, (B, 1, W). Pixels outside have the nearest place inside.
    """
    height, width = (
        (torch.arange(length) - torch.randint(length - side + 1, (len(x), 1), generator=random))
        for length in x.shape[2:]
    )
    rows, columns = (height.to(x.device)[:, :, None], width.to(x.device)[:, None])
    inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
    return inside[:, None], rows.clamp(0, side - 1), columns.clamp(0, side - 1)


def _signs(shape: tuple[int, ...], like: Tensor, random: torch.Generator) -> Tensor:
    return (2 * torch.randint(2, shape, generator=random) - 1).to(like)


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
            "format": FORMAT,
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
    with parametrize.cached():  # otherwise, every call would rescale every weight
        return _attacked(net, images, labels, config, radii)


def _attacked(
    net: nn.Module, images: Tensor, labels: Tensor, config: AttackConfig, radii: Tensor | None
) -> AttackResult:
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
        if unlimited > MASKED:
            warnings.append(
                f"pgd leaves {unlimited:.0%} of the images right although every pixel may change "
                "from 0 to 1 (expected 0%): the gradients are masked, so the network is less "
                "robust than the table says"
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


def _smallest(
    net: nn.Module, images: Tensor, labels: Tensor, config: AttackConfig, name: str
) -> Tensor:
    """Return the smallest of the sizes at which one attack fools each image; see `AttackResult`."""
    device = device_of(net)

    def fooled(changed: Tensor, indices: Tensor) -> Tensor:
        return _fooled(net, changed.to(device), labels[indices].to(device)).cpu()

    everything = torch.arange(len(images))
    found = torch.full((len(images),), math.inf, dtype=torch.float64)
    for part in torch.split(everything, config.batch_size):
        found[part[fooled(images[part], part)]] = 0.0
    for number, size in enumerate(config.sizes):
        ball = Ball(config.norm, size)
        for i, part in enumerate(torch.split(everything[found.isinf()], config.batch_size)):
            random = generator(config.seed, Stream.ATTACK, ATTACKS.index(name), number, i)
            given = (images[part].to(device), labels[part].to(device))
            changed = BY_NAME[name](net, *given, ball, config, random)
            found[part[fooled(changed, part)]] = size
    return found
