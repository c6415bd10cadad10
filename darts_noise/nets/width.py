"""Find the width at which a network has a given number of parameters."""

import itertools
from collections.abc import Callable
from typing import Any

import torch

from darts_noise.errors import SettingError
from darts_noise.nets.macro_layers import scaled_channels
from darts_noise.nets.network import create_model
from darts_noise.nets.stems import LEAST_CHANNELS
from darts_noise.space.genotype import Genotype

WIDEST = 1024
"""Largest number of channels that is tried."""


def channels_for(genotype: Genotype, parameters: int, **others: Any) -> int:
    """Return the channels at which a network is nearest to a number of parameters.

    Args:
        genotype: the genotype of the cells.
        parameters: the number of parameters, without an auxiliary head.
        others: the other arguments of `darts_noise.create_model`.

    Raises:
        ValueError: `parameters` is less than half of the parameters with the fewest channels, or
            more than twice the parameters with `WIDEST` channels.

    >>> from darts_noise import load_genotype
    >>> channels_for(load_genotype("darts_v2"), 50_000, num_cells=3)
    23
    """
    count = parameter_count(genotype, **others)
    least = narrowest(genotype, others.get("stem", "cifar"))
    channels = nearest_width(count, parameters, least=least)
    if channels in (least, WIDEST) and not parameters / 2 <= count(channels) <= 2 * parameters:
        raise SettingError(
            "parameters",
            f"expected about {count(least):,} to {count(WIDEST):,}, the range of this cell with "
            f"{least} to {WIDEST:,} channels, got {parameters:,}",
        )
    return channels


def parameter_count(genotype: Genotype, **others: Any) -> Callable[[int], int]:
    """Return the function channels → parameters. It uses no memory and draws no random numbers.

    An auxiliary head does not count.

    Args:
        genotype: the genotype of the cells.
        others: the other arguments of `darts_noise.create_model`.
    """
    form = {**others, "auxiliary": False}

    def count(channels: int) -> int:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            net = create_model(genotype, **form, channels=channels)
        return sum(p.numel() for p in net.parameters())

    return count


def narrowest(genotype: Genotype, stem: str) -> int:
    """Return the fewest channels that a stem accepts with the width of a genotype."""
    least = LEAST_CHANNELS.get(stem, 1)
    return next(c for c in itertools.count(1) if scaled_channels(genotype, c) >= least)


def nearest_width(
    count: Callable[[int], int], target: int, largest: int = WIDEST, least: int = 1
) -> int:
    """Return the channels, `least` to `largest`, whose network is nearest to `target` parameters.

    Args:
        count: channels → parameters of the network. It must increase with the channels.
        target: the number of parameters.
        largest, least: largest and smallest number of channels that are tried.
    """
    low, high = least, least
    while high < largest and count(high) < target:
        low, high = high + 1, min(2 * high, largest)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if count(middle) < target else (low, middle)
    return min((max(low - 1, least), low), key=lambda channels: abs(count(channels) - target))
