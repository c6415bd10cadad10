"""The square attack: random search over squares, without gradients.

Reference:
    [1] Andriushchenko et al., Square attack: a query-efficient black-box adversarial attack via
        random search, ECCV 2020, arXiv:1912.00049.
"""

import math

import torch
from torch import Tensor, nn

from darts_noise.attacks.gradient import margins
from darts_noise.attacks.pixels import Ball, norms
from darts_noise.attacks.settings import AttackConfig

LARGEST_SQUARE = 0.8
"""Share of an image that the first squares of the square attack cover."""
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the queries after which this share is halved."""


@torch.no_grad()
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

    found = ball.project(images + start(images, ball.eps, random), images)
    best = margins(net(found), labels)
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
        margin = margins(net(tried), labels[left])
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
    return eps * change / norms(change)


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
