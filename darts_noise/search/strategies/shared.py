"""Strategies whose cells share weights: random search (Li & Talwalkar 2019, arXiv:1902.07638), and
a controller, ENAS (Pham et al. 2018, arXiv:1802.03268), also with a memory (Adam & Lorraine 2019,
arXiv:1904.00438).
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from darts_noise.configured import require_at_least
from darts_noise.errors import SettingError
from darts_noise.search.candidate import Candidate, ranked
from darts_noise.search.strategies.cells import ordered, random_cell
from darts_noise.search.strategies.controller import Decision, Nas, reward
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

    Attributes:
        whole: whether the cells are ranked on all validation images, or on one batch.
    """

    exact = False
    whole = True

    def __init__(self, share: float = 0.5, samples: int = 100) -> None:
        if not 0 < share <= 1:
            raise SettingError("share", f"expected more than 0 and at most 1, got {share}")
        require_at_least(1, samples=samples)
        self.share, self.samples = share, samples

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

    def rank(self) -> list[Genotype]:
        """Return the drawn cells, the best first."""
        drawn = dict.fromkeys(ordered(self.draw()) for _ in range(self.samples))
        batch = None if self.whole else 0
        measured = [self.shared.measured(cell, batch) for cell in drawn]
        return [candidate.genotype for candidate in ranked(measured)]

    def ask(self) -> Proposal:
        if self.asked == 0:
            self.train(max(1, int(self.share * self.shared.budget)))
            self.ranked = self.rank()
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

    With a memory, the controller also learns to reproduce cells that it has drawn before (Adam &
    Lorraine 2019). Before the controller's steps of an epoch, drawn cells go into the memory. The
    mean negative log-likelihood of random cells from it is added to the loss of each step.

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
        memory: number of cells in the memory. 0: no memory.
        memory_from: first epoch in which cells go into the memory, counted from 1.
        memory_added: cells that go into the memory in each epoch until it is full.
        memory_replaced: cells that later replace the oldest ones in each epoch.
        supervised_from: first epoch in which the controller learns to reproduce cells.
        supervised_batch: number of these cells for each step of the controller.
    """

    whole = False

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
        memory: int = 0,
        memory_from: int = 1,
        memory_added: int = 100,
        memory_replaced: int = 10,
        supervised_from: int = 2,
        supervised_batch: int = 10,
    ) -> None:
        super().__init__(share, samples)
        require_at_least(1, controller_steps=controller_steps, supervised_batch=supervised_batch)
        require_at_least(1, memory_from=memory_from, memory_added=memory_added)
        require_at_least(0, memory=memory, memory_replaced=memory_replaced)
        if supervised_from < memory_from:
            raise SettingError(
                "supervised_from",
                f"expected at least memory_from ({memory_from}), got {supervised_from}",
            )
        self.controller_steps = controller_steps
        self.nas = Nas(learning_rate, entropy, baseline, batch, hidden, layers)
        self.memory_from, self.supervised_from = memory_from, supervised_from
        self.added, self.replaced = memory_added, memory_replaced
        self.supervised_batch = supervised_batch
        self.memory: deque[Sequence[Decision]] = deque(maxlen=memory)  # the oldest first

    def start(self, space: Space) -> None:
        super().start(space)
        self.nas.start(space)
        self.controller = self.nas.controller
        self.epoch = 0

    def train(self, steps: int) -> None:
        while self.shared.steps < steps:
            self.epoch += 1
            for _ in range(self.shared.epoch):
                if self.shared.steps < steps:
                    self.shared.train(self.draw(), self.shared.steps / steps)
            if self.memory.maxlen and self.epoch >= self.memory_from:
                self.remember()
            for _ in range(self.controller_steps):
                if self.shared.steps < steps:
                    self.train_controller()

    def train_controller(self) -> None:
        """Make a step of the controller, which counts as one gradient step."""
        if self.memory and self.epoch >= self.supervised_from:
            self.supervised_loss().backward()  # type: ignore[no-untyped-call]
        for _ in range(self.nas.batch):
            draw = self.nas.controller()
            # Batch 0 is for the ranking at the end.
            measured = self.shared.measured(draw.genotype, 1 + self.nas.told)
            self.nas.learn(draw, reward(measured, power=1))
        self.shared.steps += 1

    @torch.no_grad()
    def remember(self) -> None:
        """Put drawn cells into the memory. If it is full, they replace the oldest ones."""
        room = (self.memory.maxlen or 0) - len(self.memory)
        for _ in range(min(self.added, room) if room else self.replaced):
            self.memory.append(self.nas.controller().decisions)

    def supervised_loss(self) -> Tensor:
        """Return the mean of −log π over random cells of the memory, without replacement."""
        drawn = torch.randperm(len(self.memory))[: self.supervised_batch].tolist()
        return -self.nas.controller.log_probabilities([self.memory[i] for i in drawn]).mean()

    @torch.no_grad()
    def draw(self) -> Genotype:
        genotype: Genotype = self.nas.controller().genotype
        return genotype
