"""Find the width at which a network has a given number of parameters."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from darts_noise.errors import SettingError
from darts_noise.nets.network import create_model
from darts_noise.space.genotype import Genotype

WIDEST = 1024
"""Largest number of channels that is tried."""


def channels_for(genotype: Genotype, parameters: int, **arguments: Any) -> int:
    """Return the channels at which a network is nearest to a number of parameters.

    Args:
        genotype: the genotype of the cells.
        parameters: the number of parameters, without an auxiliary head.
        arguments: the other arguments of `darts_noise.create_model`.

    Raises:
        ValueError: `parameters` is less than half of the parameters with 1 channel, or more than
            twice the parameters with `WIDEST` channels.

    >>> from darts_noise import load_genotype
    >>> channels_for(load_genotype("darts_v2"), 50_000, num_cells=3)
    23
    """
    channels = nearest_channels(genotype, parameters, **arguments)
    if channels in (1, WIDEST):
        count = _counter(genotype, arguments)
        if not parameters / 2 <= count(channels) <= 2 * parameters:
            raise SettingError(
                "parameters",
                f"expected about {count(1):,} to {count(WIDEST):,}, the range of this cell with "
                f"1 to {WIDEST:,} channels, got {parameters:,}",
            )
    return channels


def nearest_channels(genotype: Genotype, parameters: int, **arguments: Any) -> int:
    """Do the same as `channels_for`, but return 1 or `WIDEST` if the number is out of range."""
    return nearest_width(_counter(genotype, arguments), parameters, WIDEST)


def _counter(genotype: Genotype, arguments: Mapping[str, Any]) -> Callable[[int], int]:
    """Make the function channels → parameters. It uses no memory and draws no random numbers."""

    def count(channels: int) -> int:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            net = create_model(genotype, **arguments, channels=channels)
        return sum(p.numel() for p in net.parameters())

    return count


def nearest_width(count: Callable[[int], int], target: int, largest: int) -> int:
    """Return the channels, at most `largest`, whose network is nearest to `target` parameters.

    Args:
        count: channels → parameters of the network. It must increase with the channels.
        target: the number of parameters.
        largest: largest number of channels that is tried.
    """
    low, high = 1, 1
    while high < largest and count(high) < target:
        low, high = high + 1, min(2 * high, largest)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if count(middle) < target else (low, middle)
    return min((max(low - 1, 1), low), key=lambda channels: abs(count(channels) - target))
