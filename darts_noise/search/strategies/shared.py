"""Strategies whose cells share weights: random search (Li & Talwalkar 2019, arXiv:1902.07638)."""

from abc import abstractmethod

from darts_noise.errors import SettingError
from darts_noise.search.candidate import Candidate, ranked
from darts_noise.search.strategies.cells import ordered, random_cell
from darts_noise.search.strategies.strategy import Proposal, Strategy, register_strategy
from darts_noise.space.genotype import Genotype
from darts_noise.space.spaces import Space


class Sharing(Strategy):
    """Trains shared weights, ranks many cells by the weights that they inherit, and proposes them.

    The best cell comes first. The search trains the proposed cells alone for the rest of the
    budget, one at least, and returns the best of them.

    Args:
        share: share of the budget in gradient steps for the shared weights, more than 0, at most 1.
        samples: number of draws that are ranked.
        whole: rank the cells on all validation images. False: on one batch.
    """

    exact = False

    def __init__(self, share: float, samples: int, whole: bool) -> None:
        if not 0 < share <= 1:
            raise SettingError("share", f"expected more than 0 and at most 1, got {share}")
        if samples < 1:
            raise SettingError("samples", f"expected 1 or more, got {samples}")
        self.share, self.samples, self.whole = share, samples, whole

    def start(self, space: Space) -> None:
        super().start(space)
        self.ranked: list[Genotype] = []
        self.asked = 0

    @abstractmethod
    def train(self, steps: int) -> None:
        """Train the shared weights until `SharedWeights.steps` reaches a number."""

    @abstractmethod
    def draw(self) -> Genotype:
        """Draw a cell to rank."""

    def ask(self) -> Proposal:
        if self.asked == 0:
            self.train(max(1, int(self.share * self.shared.budget)))
            drawn = dict.fromkeys(ordered(self.draw()) for _ in range(self.samples))
            batch = None if self.whole else 0
            measured = [self.shared.measured(cell, batch) for cell in drawn]
            self.ranked = [candidate.genotype for candidate in ranked(measured)]
        # The last cell is proposed again until the search ends.
        place = min(self.asked, len(self.ranked) - 1)
        self.asked += 1
        return Proposal(self.ranked[place])

    def tell(self, candidate: Candidate) -> None:
        """Nothing is learnt from the trainings of single cells."""


@register_strategy("random_shared")
class RandomShared(Sharing):
    """Each step trains the weights of one uniformly random cell; random cells are then ranked.

    Args:
        share: share of the budget in gradient steps for the shared weights, more than 0, at most 1.
        samples: number of random cells that are ranked.
    """

    def __init__(self, share: float = 0.5, samples: int = 100) -> None:
        super().__init__(share, samples, whole=True)

    def train(self, steps: int) -> None:
        while self.shared.steps < steps:
            self.shared.train(self.draw(), self.shared.steps / steps)

    def draw(self) -> Genotype:
        return random_cell(self.space)
