"""Splits and samples of a data set: indices that depend only on the labels and a seed.

The stratified functions shuffle all samples and take the first samples of each class; they differ
in how many they take. Add other ways to divide a data set (by group, by time) as functions here.
"""

import torch
from torch import Tensor

from darts_noise.data.seeds import Stream, generator
from darts_noise.errors import SettingError


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Divide the samples in two parts with the same proportions of the classes.

    Args:
        labels: (N,), int64, not negative.
        fraction: the share to hold out, between 0 and 1 (exclusive).
        seed: 0 or more.

    Returns:
        (rest_indices, held_out_indices), int64, each in random order. Together they contain every
        index once. `round(fraction * N)` samples are held out; each class holds out its share to
        within one sample. Two exceptions for small classes: a class with two samples or more has at
        least one in each part, and the only sample of a class stays in the rest.

    Raises:
        ValueError: the fraction is not between 0 and 1, or the seed is negative.
    """
    if not 0 < fraction < 1:
        raise SettingError("fraction", f"expected more than 0 and less than 1, got {fraction}")
    counts = torch.bincount(labels.cpu())
    quotas = _apportion(
        counts,
        round(fraction * len(labels)),
        lower=(counts >= 2).long(),
        upper=(counts - 1).clamp(min=0),
    )
    order, taken = _take(labels.cpu(), counts, quotas, generator(seed, Stream.SPLIT))
    return order[~taken], order[taken]


def stratified_subset(labels: Tensor, size: int, seed: int) -> Tensor:
    """Choose `size` samples and keep the proportions of the classes.

    Args:
        labels: (N,), int64, not negative.
        size: from 1 to N.
        seed: 0 or more.

    Returns:
        (size,) distinct indices in random order. Every class is included if `size` is at least the
        number of classes.

    Raises:
        ValueError: the size is outside 1 to N, or the seed is negative.
    """
    if not 1 <= size <= len(labels):
        raise SettingError("size", f"expected 1 to {len(labels)}, got {size}")
    counts = torch.bincount(labels.cpu())
    present = (counts > 0).long()
    lower = present if size >= int(present.sum()) else torch.zeros_like(counts)
    quotas = _apportion(counts, size, lower=lower, upper=counts)
    order, taken = _take(labels.cpu(), counts, quotas, generator(seed, Stream.SUBSET))
    return order[taken]


def bootstrap(size: int, seed: int, draws: int | None = None) -> Tensor:
    """Draw indices with replacement (Efron 1979), as for bagging (Breiman 1996).

    Args:
        size: number of samples, 1 or more.
        seed: 0 or more.
        draws: number of indices. None: `size`.

    Returns:
        Indices (draws,), int64, each uniform from 0 to size − 1.
    """
    count = size if draws is None else draws
    return torch.randint(size, (count,), generator=generator(seed, Stream.BOOTSTRAP))


def _apportion(counts: Tensor, total: int, lower: Tensor, upper: Tensor) -> Tensor:
    """Return how many samples to take of each class (C,), by largest remainders within the bounds.

    `counts`, `lower` and `upper` are int64 (C,). The sum is `total`, or the nearest number that the
    bounds allow.
    """
    shares = counts.double() * total / counts.sum()
    quotas = shares.floor().long().clamp(lower, upper)
    total = min(max(total, int(lower.sum())), int(upper.sum()))
    while (missing := total - int(quotas.sum())) != 0:
        step = 1 if missing > 0 else -1
        open_ = quotas < upper if missing > 0 else quotas > lower
        deficit = (shares - quotas) * step
        quotas[deficit.masked_fill(~open_, -torch.inf).argmax()] += step
    return quotas


def _take(
    labels: Tensor, counts: Tensor, quotas: Tensor, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return a random order of all samples (N,), and which of them (N,) are in their quota."""
    order = torch.randperm(len(labels), generator=random)
    shuffled = labels[order]
    by_class = shuffled.argsort(stable=True)
    first = counts.cumsum(0) - counts  # (C,) where each class begins in `by_class`
    rank = torch.empty_like(order)  # (N,) position of the sample within its class in `order`
    rank[by_class] = torch.arange(len(labels)) - first[shuffled[by_class]]
    return order, rank < quotas[shuffled]
