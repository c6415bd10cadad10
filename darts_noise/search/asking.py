"""Ask a strategy for cells, measure each cell alone, and tell the strategy what it was worth."""

import math
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from darts_noise.data.module import ImageDataModule
from darts_noise.data.seeds import Stream, drawing
from darts_noise.distributed.collectives import on_first_process
from darts_noise.errors import SettingError
from darts_noise.finite import NotFiniteError
from darts_noise.search.candidate import Candidate, ranked
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.module import SearchModule
from darts_noise.search.parts import spaces_of
from darts_noise.search.shared_weights import SharedWeights
from darts_noise.search.strategies.strategy import Proposal, Strategy
from darts_noise.shown import shown
from darts_noise.space.genotype import Genotype

CELLS = 20
"""Number of cells trained in full whose gradient steps are the default budget of a strategy."""
REPEATS = 100
"""A search ends after this many proposals in a row that were already measured."""


class Measurements(Protocol):
    """Measures cells: trains them, or looks them up in a table.

    Attributes:
        peak_epochs: see `Strategy`.
        shared_steps: number of updates of weights that the cells share.
    """

    peak_epochs: int
    shared_steps: int

    def measured(self, genotype: Genotype, least: float, share: float) -> Candidate:
        """Measure a cell; see `CandidateTrainings.measured`."""
        ...


def ask_and_tell(
    strategy: Strategy,
    measurements: Measurements,
    told: Callable[[Sequence[Candidate]], None] = lambda found: None,
    *,
    seed: int,
    cells: float = math.inf,
    steps: float = math.inf,
    call: Callable[[Callable[[], Any]], Any] = lambda do: do(),
) -> list[Candidate]:
    """Measure the cells that a strategy proposes, and return them, the best first; see `ranked`.

    The same arguments give the same cells and measurements, also if ``measurements`` knows some
    of them from a stopped search. The state of torch's generators does not change.

    Args:
        strategy: the strategy, after its `start`.
        measurements: measures the cells.
        told: is called after each measurement with all candidates so far, in the order of
            measurement.
        seed: seed of the search.
        cells: largest number of measurements.
        steps: budget of optimiser steps, those of shared weights included. The measurement that
            exceeds it is completed.
        call: calls the strategy and the measurements. With several processes, all processes must
            call this function with `on_first_process`. The strategy then lives in the first one.
    """
    found: dict[object, Candidate] = {}
    repeats, asked, best, alone = 0, 0, math.inf, 0
    measurements.peak_epochs = strategy.peak_epochs

    def asking() -> tuple[Proposal, int]:
        with drawing(seed, Stream.STRATEGY, asked, 1):
            return _proposed(strategy), measurements.shared_steps

    def telling() -> None:
        with drawing(seed, Stream.STRATEGY, asked, 2):
            _called(strategy.tell, candidate)

    while len(found) < cells and measurements.shared_steps + alone < steps and repeats < REPEATS:
        (genotype, share), measurements.shared_steps = call(asking)
        if (genotype, share) in found:
            repeats += 1
        else:
            repeats = 0
            bar = math.inf if strategy.exact or share < 1 else best
            candidate = call(partial(measurements.measured, genotype, bar, share))
            found[genotype, share] = candidate
            alone += candidate.steps
            best = min(best, candidate.score) if share == 1 else best
            told(list(found.values()))
        candidate = found[genotype, share]
        call(telling)
        asked += 1
    return ranked(found.values())


def _called(method: Callable[..., Any], *args: Any) -> Any:
    """Call a method of a strategy, and name it and its line in an error that it raises.

    Raises:
        SettingError: the method raised an exception.
        NotFiniteError: shared weights diverged.
    """
    try:
        return method(*args)
    except (SettingError, NotFiniteError):
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]  # without this function
        place = f" ({Path(frames[0].filename).name}, line {frames[0].lineno})" if frames else ""
        raise SettingError(
            "model.strategy",
            f"{method.__qualname__} failed: {type(error).__name__}: {error}{place}",
        ) from error


def _proposed(strategy: Strategy) -> Proposal:
    """Return the next proposal of a strategy.

    Raises:
        SettingError: `Strategy.ask` raised an exception, or returned no valid proposal.
    """
    proposal = _called(strategy.ask)
    of = f"from {strategy.ask.__qualname__}"
    if not isinstance(proposal, Proposal) or not isinstance(proposal.genotype, Genotype):
        raise SettingError(
            "model.strategy", f"expected a Proposal of a Genotype {of}, got {shown(proposal)}"
        )
    if not isinstance(proposal.share, int | float) or not 0 < proposal.share <= 1:
        raise SettingError(
            "model.strategy",
            f"expected a share above 0 and at most 1 {of}, got {shown(proposal.share)}",
        )
    return proposal


def budget(trainings: CandidateTrainings) -> int:
    """Return the budget of a strategy in gradient steps."""
    return trainings.config.strategy_steps or CELLS * trainings.full_steps()


def propose(
    module: SearchModule,
    data: ImageDataModule,
    told: Callable[[Sequence[Candidate], int], None] = lambda found, budget: None,
    known: Iterable[Candidate] = (),
    said: Callable[[str], None] = lambda line: None,
) -> list[Candidate]:
    """Measure cells that the strategy of a search proposes, and set `module.chosen` to the best.

    With several processes, all call this function: the first one trains, and all get the results.

    Args:
        module: the search, prepared for the data.
        data: the data of the search.
        told: is called after each measurement with all candidates so far, in the order of
            measurement, and the budget of gradient steps.
        known: candidates that an interrupted run of this search has measured.
        said: is called in the first process with a line after each epoch of shared weights.

    Returns:
        The candidates, the best first.
    """
    strategy, trainings = module.strategy, CandidateTrainings(module, data, known)
    assert strategy is not None
    steps = budget(trainings)
    strategy.shared = SharedWeights(trainings, steps, said)
    strategy.spaces = spaces_of(module.config)
    with drawing(module.config.seed, Stream.STRATEGY):
        _called(strategy.start, module.space)
    found = ask_and_tell(
        strategy,
        trainings,
        lambda so_far: told(so_far, steps),
        seed=module.config.seed,
        steps=steps,
        call=on_first_process,
    )
    if module.shared_steps + sum(candidate.steps for candidate in found) < steps:
        module.stopped_because = (
            f"the strategy proposed {REPEATS} cells in a row that were already measured"
        )
    origin = {"space": module.space.name, "strategy": module.config.strategy}
    meta = {**origin, **module.stated(), "candidates": len(found)}
    module.chosen = replace(found[0].genotype, meta=meta)
    return found
