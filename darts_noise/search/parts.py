"""The parts of a search that its settings name: space, strategy, variants, penalty, objectives."""

from collections.abc import Mapping
from dataclasses import dataclass

from darts_noise.errors import within
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
from darts_noise.space.spaces import Space, get_space


@dataclass(frozen=True)
class Parts:
    """The parts of a search. If ``macro`` is a list, ``space`` has its first mapping."""

    space: Space
    strategy: Strategy | None
    variants: Mapping[str, Variant]
    penalty: Penalty
    objectives: Objectives


def spaces_of(config: SearchConfig) -> list[Space]:
    """Return the space of a search, or one space for each mapping of a list ``macro``."""
    space = get_space(config.space, config.nodes)
    return [space.with_macro(choices) for choices in config.macros]


def make_parts(config: SearchConfig) -> Parts:
    """Return the parts of a search.

    Raises:
        SettingError: an unknown name, or settings that contradict each other.
    """
    c = config
    require_stem(c.stem, c.channels, c.stem_stride)
    space, strategy = spaces_of(c)[0], make_strategy(c.strategy)
    if strategy is not None:
        require_no_supernet_settings(c)
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
