"""The interface of search strategies, and their registry.

A strategy proposes a cell, and is told what the cell was worth; see `ask_and_tell` in
`darts_noise.search.asking`. To add a strategy, write a class with ``@register_strategy`` in a new
file of this folder, and import the file in ``__init__.py``. The constructor's keyword arguments are
the settings in a config:

    model:
      strategy:
        evolution: {population: 20}

A strategy may draw from torch's global generators: they are seeded before each call. It must have
no other source of chance, such as Python's ``random``. A stopped search is resumed by asking a new
strategy from the beginning and telling it the measurements that are on disk.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from darts_noise.configured import configured, name_and_settings, registering
from darts_noise.search.candidate import Candidate
from darts_noise.space.genotype import Genotype
from darts_noise.space.spaces import Space

if TYPE_CHECKING:
    from darts_noise.search.shared_weights import SharedWeights
    from darts_noise.search.strategies.controller import Controller

DEFAULT = "darts"
"""The differentiable search, which trains a supernet instead of single cells."""


class Proposal(NamedTuple):
    """A cell to measure.

    Attributes:
        genotype: the cell.
        share: how long its networks are trained, as a share of the full number of epochs, in
            (0, 1]. The search returns a cell that was trained in full.
    """

    genotype: Genotype
    share: float = 1.0


class Strategy(ABC):
    """Proposes cells, each of which is trained alone, and is told what they were worth.

    Attributes:
        exact: whether `tell` needs the exact objective. If False, the measurement of a cell ends as
            soon as the cell cannot be the best one: `Candidate.objective` is then a lower bound or
            None. This saves gradient steps and never changes which cell is the best.
        several: whether it searches all mappings of a list ``macro``; see `spaces`.
        spaces: the space of each mapping of ``macro``, set before `start`. Empty: only the space
            that `start` gets.
        peak_epochs: number of last epochs over which `Candidate.peak` is the largest validation
            accuracy. 1: no peak is measured.
        shared: weights that cells share, for a strategy that wants them; see `SharedWeights`.
            `ask` may train them and measure cells with them. They exist from the first use on, and
            their steps count in the budget of the search. It is set before `start`.
        controller: the controller of a strategy that has one. The search keeps it for the report;
            see `darts_noise.search.learnt`.
    """

    exact = True
    several = False
    spaces: Sequence[Space] = ()
    peak_epochs = 1
    shared: "SharedWeights"
    controller: "Controller | None" = None

    def start(self, space: Space) -> None:
        """Begin a search in a space. It is called once, before the first `ask`."""
        self.space = space

    @abstractmethod
    def ask(self) -> Proposal:
        """Return the next cell to measure. A cell that was measured before costs no steps."""

    @abstractmethod
    def tell(self, candidate: Candidate) -> None:
        """Learn what the last proposal was worth: ``candidate.score`` is F, smaller is better."""


S = TypeVar("S", bound=type[Strategy])
_STRATEGIES: dict[str, type[Strategy]] = {}


def register_strategy(name: str) -> Callable[[S], S]:
    """Return a decorator that registers a strategy class by name.

    Raises:
        ValueError: the name is taken.
        TypeError: the decorated class is not a `Strategy`.
    """
    return registering("strategy", name, _STRATEGIES, Strategy, DEFAULT)


def list_strategies() -> list[str]:
    """Return the names of all search strategies, sorted. ``darts`` is the default."""
    return sorted([DEFAULT, *_STRATEGIES])


def strategies_without(excluded: type) -> dict[str, type[Strategy]]:
    """Return the registered classes by name, without the subclasses of a class."""
    return {name: cls for name, cls in _STRATEGIES.items() if not issubclass(cls, excluded)}


def make_strategy(
    setting: str | Mapping[str, Any],
    kind: str = "strategy",
    registry: Mapping[str, Callable[..., Strategy | None]] | None = None,
) -> Strategy | None:
    """Return the strategy of a config's ``model.strategy``, or None for ``darts``.

    Args:
        setting: a name, or a mapping of one name to its settings.
        kind: the kind of the strategies, for messages.
        registry: the allowed strategies by name. None: all.

    Raises:
        ValueError: a strategy or setting is unknown, or a value is invalid. The message is one line
            and names the key.
    """
    name, given = name_and_settings(kind, "strategy", "{evolution: {population: 20}}", setting)
    registry = {**_STRATEGIES, DEFAULT: lambda: None} if registry is None else registry
    return configured(kind, "strategy", registry, name, given)
