"""Search strategies, one idea per file. Importing this package registers all strategies."""

from darts_noise.search.strategies import (
    controller,
    evolution,
    random_labels,
    random_search,
    shared,
)
from darts_noise.search.strategies.strategy import (
    DEFAULT,
    Proposal,
    Strategy,
    list_strategies,
    make_strategy,
    register_strategy,
)

__all__ = [
    "DEFAULT",
    "Proposal",
    "Strategy",
    "controller",
    "evolution",
    "list_strategies",
    "make_strategy",
    "random_labels",
    "random_search",
    "register_strategy",
    "shared",
]
