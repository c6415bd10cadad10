"""Where in a network the maps of each size come from: what feature pyramids ask for."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from darts_noise.errors import SettingError
from darts_noise.nets.integers import require_integers
from darts_noise.space.shown import shown


class Feature(NamedTuple):
    """One map that a network can give.

    Attributes:
        channels: of the map.
        reduction: height of the image divided by that of the map, which is rounded up.
        module: name of the submodule whose output it is.
    """

    channels: int
    reduction: int
    module: str


class FeatureInfo(tuple[Feature, ...]):
    """The maps of a network, from the largest to the smallest; read like timm's ``feature_info``.

    >>> info = FeatureInfo([Feature(32, 1, "cells.0"), Feature(64, 2, "cells.2")])
    >>> info.channels(), info.reduction(), info[-1].module
    ([32, 64], [1, 2], 'cells.2')
    """

    __slots__ = ()

    def channels(self) -> list[int]:
        """Channels of each map."""
        return [feature.channels for feature in self]

    def reduction(self) -> list[int]:
        """Of each map, the image's height divided by its own."""
        return [feature.reduction for feature in self]

    def module_name(self) -> list[str]:
        """Of each map, the submodule that gives it."""
        return [feature.module for feature in self]


def chosen_indices(out_indices: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """The indices of maps, ascending from 0; all of them for None.

    Raises:
        ValueError: none, one twice, or one outside of -count to count - 1.

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
