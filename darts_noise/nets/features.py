"""Describe the maps of each size in a network, for feature pyramids."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from darts_noise.errors import SettingError
from darts_noise.nets.integers import require_integers
from darts_noise.shown import shown


class Feature(NamedTuple):
    """One map of a network.

    Attributes:
        channels: channels of the map.
        reduction: r; the height of the map is ⌈height of the image / r⌉.
        module: name of the submodule that outputs the map.
    """

    channels: int
    reduction: int
    module: str


class FeatureInfo(tuple[Feature, ...]):
    """The maps of a network, from the largest to the smallest, with timm's ``feature_info`` API.

    >>> info = FeatureInfo([Feature(32, 1, "cells.0"), Feature(64, 2, "cells.2")])
    >>> info.channels(), info.reduction(), info[-1].module
    ([32, 64], [1, 2], 'cells.2')
    """

    __slots__ = ()

    def channels(self) -> list[int]:
        """Return the channels of each map."""
        return [feature.channels for feature in self]

    def reduction(self) -> list[int]:
        """Return the reduction of each map: the image's height divided by the map's height."""
        return [feature.reduction for feature in self]

    def module_name(self) -> list[str]:
        """Return the name of the submodule that outputs each map."""
        return [feature.module for feature in self]


def chosen_indices(out_indices: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Return the indices of maps as ascending numbers from 0. None: all maps.

    Raises:
        ValueError: there is no index, an index occurs twice, or an index is outside -count to
            count - 1.

    >>> chosen_indices((0, -1), 3)
    (0, 2)
    """
    if out_indices is None:
        return tuple(range(count))
    if not isinstance(out_indices, Iterable):
        raise SettingError(
            "out_indices", f"expected a sequence of integers, got {shown(out_indices)}"
        )
    given = tuple(out_indices)
    require_integers(**{f"out_indices[{place}]": index for place, index in enumerate(given)})
    chosen = tuple(sorted({i + count if i < 0 else i for i in given}))
    if not given or len(chosen) != len(given) or chosen[0] < 0 or chosen[-1] >= count:
        raise SettingError(
            "out_indices", f"expected distinct indices from {-count} to {count - 1}, got {given}"
        )
    return chosen
