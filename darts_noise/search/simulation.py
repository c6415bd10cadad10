"""Searches on a table instead of trainings: what a strategy finds, at which cost.

    table = dn.CellTable.from_csv("table.csv", noise="uniform")
    runs = dn.simulate(table, "evolution", repeats=100)
    regret = np.array([run.regret([10, 100]) for run in runs])  # (100, 2)

A strategy is asked and told as in a search with trainings: see `ask_and_tell`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darts_noise.configured import require_at_least
from darts_noise.data.seeds import Stream, drawing
from darts_noise.errors import SettingError
from darts_noise.search.asking import ask_and_tell
from darts_noise.search.candidate import Candidate
from darts_noise.search.strategies.shared import Sharing
from darts_noise.search.strategies.strategy import Strategy, make_strategy, strategies_without
from darts_noise.search.table import CellTable

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Simulation:
    """One search of a strategy on a table.

    Attributes:
        table: the table.
        costs: cost of all cells up to each measured cell, (cells,), increasing.
        found: row numbers of the measured cells, in the order of measurement.
        best: row number of the best cell so far, after each measurement.
    """

    table: CellTable
    costs: Sequence[int]
    found: Sequence[int]
    best: Sequence[int]

    def at(self, costs: ArrayLike, values: Sequence[float]) -> Array:
        """Return a value of the best cell at each of some costs. NaN: no cell is measured yet.

        Args:
            costs: the costs.
            values: the value of each row of the table, such as `CellTable.figure`.
        """
        reached = np.searchsorted(np.asarray(self.costs), np.asarray(costs), side="right")
        of_best = np.array([math.nan, *(values[row] for row in self.best)])
        return of_best[reached]

    def regret(self, costs: ArrayLike) -> Array:
        """Return the objective of the best cell so far less the smallest one of the table."""
        objectives = [candidate.score for candidate in self.table.candidates]
        return self.at(costs, objectives) - min(objectives)


def simulate(
    table: CellTable,
    strategy: str | Mapping[str, Any] | Callable[[], Strategy],
    repeats: int = 100,
    cells: float = math.inf,
    steps: float = math.inf,
    seed: int = 0,
) -> list[Simulation]:
    """Search a table several times with a strategy.

    A search ends when all cells of the table are measured, when its budget is spent, or after 100
    proposals in a row that were already measured. As in a search with trainings, a cell that is
    proposed again costs nothing.

    Args:
        table: the table.
        strategy: a setting as for ``search.py --strategy``, or a function that makes a strategy.
            Strategies that train shared weights do not work without data.
        repeats: number of searches. They have the seeds ``seed``, ``seed + 1`` and so on.
        cells: largest number of cells that each search measures.
        steps: budget of each search, in the unit of the table's costs.
        seed: the first seed.

    Raises:
        SettingError: the strategy is unknown or needs shared weights, or the table does not have a
            cell that it proposes.
    """
    require_at_least(1, repeats=repeats)
    kind, known = "strategy without shared weights", strategies_without(Sharing)
    make = strategy if callable(strategy) else partial(make_strategy, strategy, kind, known)
    most = min(cells, len(table.candidates))
    return [_simulated(table, make, most, steps, seed + repeat) for repeat in range(repeats)]


def _simulated(
    table: CellTable,
    make: Callable[[], Strategy | None],
    cells: float,
    steps: float,
    seed: int,
) -> Simulation:
    rows: list[int] = []
    with drawing(seed, Stream.STRATEGY):
        strategy = make()
        if strategy is None or isinstance(strategy, Sharing):
            raise SettingError("strategy", "expected one that trains no shared weights")
        strategy.start(table.space)

    def told(found: Sequence[Candidate]) -> None:
        rows.append(table.number(found[-1].genotype))

    ask_and_tell(strategy, table, told, seed=seed, cells=cells, steps=steps)
    costs = np.cumsum([table.candidates[row].steps for row in rows]).tolist()
    best: list[int] = []
    for row in rows:
        better = not best or table.candidates[row].score < table.candidates[best[-1]].score
        best.append(row if better else best[-1])
    return Simulation(table, costs, rows, best)


def mean_interval(
    values: Array, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Return the mean over the first axis, and a bootstrap interval of it (percentile method).

    Args:
        values: (repeats, ...).
        level: probability of the interval.
        draws: number of resamples.
        seed: seed of the resamples.
    """
    random = np.random.default_rng(seed)
    repeats = len(values)
    counts = random.multinomial(repeats, np.full(repeats, 1 / repeats), draws)  # (draws, repeats)
    means = np.tensordot(counts / repeats, values, axes=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return values.mean(axis=0), low, high
