"""Strategies whose cells share weights: random search (Li & Talwalkar 2019, arXiv:1902.07638), and
a controller, ENAS (Pham et al. 2018, arXiv:1802.03268).
"""

from abc import abstractmethod

import torch

from darts_noise.errors import SettingError
from darts_noise.search.candidate import Candidate, ranked
from darts_noise.search.strategies.cells import ordered, random_cell
from darts_noise.search.strategies.controller import Nas, reward
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


@register_strategy("enas")
class Enas(Sharing):
    """A controller and shared weights that are trained in turn (Pham et al. 2018, section 2.2).

    In each epoch, the shared weights are first trained on all training images, one drawn cell per
    step. Then the controller makes steps with the reward A · exp(−λ · P) of drawn cells on a random
    batch of validation images and of noise; see `reward`. At the end, drawn cells are ranked on one
    validation batch.

    Args:
        share: share of the budget in gradient steps for the shared weights and the controller, more
            than 0, at most 1.
        samples: number of drawn cells that are ranked.
        controller_steps: steps of the controller per epoch.
        learning_rate: learning rate of Adam for the controller.
        entropy: weight of the entropy.
        baseline: share of the old baseline when a new reward is averaged in.
        batch: number of cells for each step of the controller.
        hidden: size of the controller's hidden states.
        layers: number of its LSTM layers.
    """

    def __init__(
        self,
        share: float = 0.5,
        samples: int = 10,
        controller_steps: int = 30,
        learning_rate: float = 0.0035,
        entropy: float = 1e-4,
        baseline: float = 0.99,
        batch: int = 1,
        hidden: int = 64,
        layers: int = 1,
    ) -> None:
        super().__init__(share, samples, whole=False)
        if controller_steps < 1:
            raise SettingError("controller_steps", f"expected 1 or more, got {controller_steps}")
        self.controller_steps = controller_steps
        self.nas = Nas(learning_rate, entropy, baseline, batch, hidden, layers)

    def start(self, space: Space) -> None:
        super().start(space)
        self.nas.start(space)

    def train(self, steps: int) -> None:
        while self.shared.steps < steps:
            for _ in range(self.shared.epoch):
                if self.shared.steps < steps:
                    self.shared.train(self.draw(), self.shared.steps / steps)
            for _ in range(self.controller_steps):
                if self.shared.steps < steps:
                    self.train_controller()

    def train_controller(self) -> None:
        """Make a step of the controller, which counts as one gradient step."""
        for _ in range(self.nas.batch):
            draw = self.nas.controller()
            # Batch 0 is for the ranking at the end.
            measured = self.shared.measured(draw.genotype, 1 + self.nas.told)
            self.nas.learn(draw, reward(measured, power=1))
        self.shared.steps += 1

    @torch.no_grad()
    def draw(self) -> Genotype:
        genotype: Genotype = self.nas.controller().genotype
        return genotype
