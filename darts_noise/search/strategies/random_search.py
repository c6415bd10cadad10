"""Random search, with or without successive halving.

Random search in a good space is the baseline that a search method must beat (Li & Talwalkar 2019,
arXiv:1902.07638). Every draw is trained alone. With several rungs, draws are trained briefly, and
only the best share of a rung is trained longer: the rule of ASHA (Li et al. 2018, arXiv:1810.05934,
algorithm 2) with one worker.
"""

import math

import torch

from darts_noise.configured import require_at_least
from darts_noise.errors import SettingError
from darts_noise.search.candidate import Candidate
from darts_noise.search.strategies.cells import random_cell
from darts_noise.search.strategies.strategy import Proposal, Strategy, register_strategy
from darts_noise.space.genotype import Genotype
from darts_noise.space.spaces import Space

LONGEST = 1_000_000
"""The last rung has at most this many times the epochs of the first rung."""


@register_strategy("random")
class RandomSearch(Strategy):
    """Random cells: uniform operations, predecessors and macro choices.

    If ``macro`` is a list of mappings, each combination of macro choices is as likely as another.

    Args:
        rungs: number of rungs. 1: train every cell in full.
        reduction: a cell of one rung is promoted to the next if it is among the best
            1/``reduction`` of its rung. There it is trained ``reduction`` times as long.
    """

    exact = False  # only the last rung is trained in full, and it promotes nothing
    several = True

    def __init__(self, rungs: int = 1, reduction: int = 4) -> None:
        require_at_least(1, rungs=rungs)
        require_at_least(2, reduction=reduction)
        if (rungs - 1) * math.log(reduction) > math.log(LONGEST):
            raise SettingError(
                "rungs",
                f"expected reduction^(rungs − 1) to be at most {LONGEST:,}, "
                f"got {reduction}^{rungs - 1}",
            )
        self.shares = [float(reduction) ** (rung + 1 - rungs) for rung in range(rungs)]
        self.reduction = reduction

    def start(self, space: Space) -> None:
        super().start(space)
        self.rungs: list[dict[Genotype, float]] = [{} for _ in self.shares]

    def ask(self) -> Proposal:
        for number in range(len(self.rungs) - 1, 0, -1):
            rung = self.rungs[number - 1]
            for genotype in sorted(rung, key=rung.__getitem__)[: len(rung) // self.reduction]:
                if genotype not in self.rungs[number]:
                    return Proposal(genotype, self.shares[number])
        return Proposal(random_cell(self._space()), self.shares[0])

    def _space(self) -> Space:
        if len(self.spaces) < 2:
            return self.space
        counts = [math.prod(len(values) for _, values in space.macro) for space in self.spaces]
        return self.spaces[int(torch.multinomial(torch.tensor(counts, dtype=torch.double), 1))]

    def tell(self, candidate: Candidate) -> None:
        self.rungs[self.shares.index(candidate.share)][candidate.genotype] = candidate.score
