"""The width at which a network has so many parameters."""

from collections.abc import Callable
from typing import Any

import torch

from darts_noise.nets.network import create_model
from darts_noise.space.genotype import Genotype

WIDEST = 1024
"""Channels that are tried, at most."""


def channels_for(genotype: Genotype, parameters: int, **form: Any) -> int:
    """The channels at which a network of a cell comes nearest to so many parameters.

    Args:
        genotype: the cell.
        parameters: the number, without an auxiliary head.
        form: the other arguments of `darts_noise.create_model`.

    >>> from darts_noise import load_genotype
    >>> channels_for(load_genotype("darts_v2"), 50_000, num_cells=3)
    23
    """

    def count(channels: int) -> int:
        net = create_model(genotype, **form, channels=channels)
        return sum(p.numel() for p in net.parameters())

    with torch.random.fork_rng(devices=[]):
        return nearest_width(count, parameters, WIDEST)


def nearest_width(count: Callable[[int], int], target: int, largest: int) -> int:
    """The channels, at most `largest`, whose network has nearest to `target` parameters.

    Args:
        count: channels → parameters of the network, which rise with the channels.
        target: the parameters.
        largest: number of channels that is tried.
    """
    low, high = 1, 1
    while high < largest and count(high) < target:
        low, high = high + 1, min(2 * high, largest)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if count(middle) < target else (low, middle)
    return min((max(low - 1, 1), low), key=lambda channels: abs(count(channels) - target))
