"""The width at which a network has so many parameters."""

from collections.abc import Callable


def nearest_width(count: Callable[[int], int], target: int, largest: int) -> int:
    """The channels, at most `largest`, whose network has nearest to `target` parameters.

    Args:
        count: channels → parameters of the network, which rise with the channels.
        target: the parameters.
        largest: number of channels that is tried.
    """
    low, high = 1, largest
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if count(middle) < target else (low, middle)
    return min((max(low - 1, 1), low), key=lambda channels: abs(count(channels) - target))
