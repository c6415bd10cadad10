"""Regularised evolution (Real et al. 2019, arXiv:1802.01548, algorithm 1)."""

from collections import deque

import torch

from darts_noise.configured import require_at_least
from darts_noise.errors import SettingError
from darts_noise.search.candidate import Candidate
from darts_noise.search.strategies.cells import neighbours, random_cell
from darts_noise.search.strategies.strategy import Proposal, Strategy, register_strategy
from darts_noise.space.genotype import Genotype
from darts_noise.space.spaces import Space


@register_strategy("evolution")
class Evolution(Strategy):
    """A population of cells in which the best of a sample has a child, and the oldest cell dies.

    The first cells are random. A child is its parent with one mutation: an operation, an edge or a
    macro choice. The paper's third mutation changes nothing: here it would repeat a measurement.

    Args:
        population: number of cells in the population.
        sample: number of cells that are drawn for a tournament, with replacement.
    """

    def __init__(self, population: int = 10, sample: int = 3) -> None:
        require_at_least(1, population=population, sample=sample)
        if sample > population:
            raise SettingError(
                "sample", f"expected at most population ({population}), got {sample}"
            )
        self.size, self.sample = population, sample

    def start(self, space: Space) -> None:
        super().start(space)
        self.population: deque[Candidate] = deque(maxlen=self.size)  # the oldest first

    def ask(self) -> Proposal:
        if len(self.population) < self.size:
            return Proposal(random_cell(self.space))
        drawn = torch.randint(self.size, (self.sample,)).tolist()
        parent = min((self.population[i] for i in drawn), key=lambda cell: cell.score)
        return Proposal(mutated(self.space, parent.genotype))

    def tell(self, candidate: Candidate) -> None:
        self.population.append(candidate)  # a full population loses its oldest cell


def mutated(space: Space, cell: Genotype) -> Genotype:
    """Return the cell with one random mutation, or the cell itself in a space of one cell.

    The kind of the mutation is uniform among the kinds that are possible, and then the change. It
    draws from torch's global generator.
    """
    possible = [cells for cells in neighbours(space, cell).values() if cells]
    if not possible:
        return cell
    cells = possible[int(torch.randint(len(possible), ()))]
    return cells[int(torch.randint(len(cells), ()))]()
