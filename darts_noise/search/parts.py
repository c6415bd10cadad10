"""The parts of a search that its settings name: space, strategy, variants, penalty, objectives."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from darts_noise.errors import SettingError, within
from darts_noise.nets.stems import require_stem
from darts_noise.noise.families import require_noise
from darts_noise.noise.penalties.penalty import Penalty, make_penalty, penalty_name
from darts_noise.search.objectives.objective import Objectives, make_objectives
from darts_noise.search.settings import (
    SearchConfig,
    require_no_supernet_settings,
    require_no_twin_settings,
)
from darts_noise.search.strategies.strategy import Strategy, make_strategy
from darts_noise.search.variants.variant import Variant, make_variants
from darts_noise.space.macro import MACRO
from darts_noise.space.spaces import Space, get_space


@dataclass(frozen=True)
class Parts:
    """The parts of a search.

    If ``macro`` is a list, ``space`` has its first mapping, or, for a strategy that searches all of
    them, the candidates of all mappings.
    """

    space: Space
    strategy: Strategy | None
    variants: Mapping[str, Variant]
    penalty: Penalty
    objectives: Objectives


def spaces_of(config: SearchConfig) -> list[Space]:
    """Return the space of a search, or one space for each mapping of a list ``macro``."""
    space = get_space(config.space, config.nodes)
    return [space.with_macro(choices) for choices in config.macros]


def _union(spaces: Sequence[Space]) -> Space:
    """Return the space with the candidates that a macro choice has in any of the spaces."""
    macros = [dict(space.macro) for space in spaces]
    return spaces[0].with_macro(
        {
            name: [*dict.fromkeys(v for macro in macros for v in macro.get(name, MACRO[name][:1]))]
            for name in dict.fromkeys(itertools.chain.from_iterable(macros))
        }
    )


def make_parts(config: SearchConfig) -> Parts:
    """Return the parts of a search.

    Raises:
        SettingError: an unknown name, or settings that contradict each other.
    """
    c = config
    require_stem(c.stem, c.channels, c.stem_stride)
    spaces, strategy = spaces_of(c), make_strategy(c.strategy)
    space = spaces[0]
    if strategy is not None:
        require_no_supernet_settings(c)
        if len(spaces) > 1 and not strategy.several:
            raise SettingError(
                "macro",
                f"expected one mapping with strategy {c.strategy!r}, got a list of {len(spaces)}",
            )
        space = _union(spaces)
    assert not isinstance(c.variants, str)
    variants, penalty = make_variants(c.variants or {}), make_penalty(c.penalty)
    assert not isinstance(c.objectives, str)
    objectives = make_objectives(c.objectives or {})
    with within("noise_"):
        require_noise(c.noise_family)
    for variant in variants.values():
        variant.check(c)
    if c.noise_weight > 0 and penalty.weights == "own":
        require_no_twin_settings(c, penalty_name(c.penalty))
    return Parts(space, strategy, variants, penalty, objectives)
