"""The choice of the final cell: train each candidate cell alone, and take the best one.

α weighs operations inside a mixture. A mixture hides how much a single operation can memorise: the
twin of a supernet may stay near chance although a discrete cell of that supernet memorises all of
the noise. So α only proposes cells. The objective of the search, measured on each cell, decides:

    F(cell) = L_val(w*) + λ · P,    P = max(0, 1 − L_noise(v*) / log C)

w* are the weights of the cell after training from scratch on the data. v* are its weights after
training from scratch on the noise. DARTS (arXiv:1806.09055, section 3.1) makes a similar choice by
validation accuracy among the cells of four searches. Here all cells come from one α, and the noise
fit counts too. The choice never uses the test images.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from darts_noise.data.module import ImageDataModule
from darts_noise.data.seeds import Stream, generator
from darts_noise.search.architecture import Architecture
from darts_noise.search.asking import ask_and_tell
from darts_noise.search.candidate import Candidate
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.heat import Heat, standing
from darts_noise.search.module import SearchModule
from darts_noise.search.strategies.cells import ordered
from darts_noise.search.strategies.strategy import Proposal, Strategy
from darts_noise.space.genotype import Cell, Genotype
from darts_noise.space.macro import Value


def choose(
    module: SearchModule,
    data: ImageDataModule,
    told: Callable[[Sequence[Candidate]], None] = lambda found: None,
    known: Iterable[Candidate] = (),
    raced: Sequence[Candidate] = (),
) -> list[Candidate]:
    """Measure cells that α of a finished search proposes, and set `module.chosen` to the best cell.

    The first candidate is the genotype of α. A third of the candidates, this one included, are
    samples from α. The cells of a race compete too. Each later candidate changes one operation or
    macro choice of the best cell so far. Macro choices are drawn uniformly, because the mixture
    says little about them: in the supernet of `bounded`, the twin fits hardly any noise with any
    logit scale. The same α gives the same candidates and the same measurements. The state of
    torch's generator does not change. With several processes, only one process calls this function.

    Args:
        module: the search.
        data: the data of the search.
        told: is called after each measurement with all candidates so far, in the order of
            measurement.
        known: candidates that an interrupted run of this search has measured.
        raced: cells that the race of this search has measured; see `of_race`.

    Returns:
        The cells of the race and ``candidates`` others, the best first; see `ask_and_tell`. There
        are fewer others if 100 proposals in a row were already measured.
    """
    count = module.config.candidates
    trainings = CandidateTrainings(module, data, [*known, *raced])
    cells = [candidate.genotype for candidate in raced]
    strategy = FromAlpha(module.arch, count, module.config.seed, cells)
    found = ask_and_tell(
        strategy, trainings, told, seed=module.config.seed, cells=count + len(cells)
    )
    meta = {**module.genotype().meta, "candidates": len(found)}
    module.chosen = replace(found[0].genotype, meta=meta)
    return found


def of_race(
    module: SearchModule,
    data: ImageDataModule,
    cells: Iterable[Genotype],
    heats: Iterable[Heat],
) -> list[Candidate]:
    """Return the reference cells of a race with the best combination as measured candidates.

    A race trains as candidates are trained, so these cells cost nothing more. With further
    objectives, whose values a race does not keep, or if a training of the best combination
    diverged, there are none.

    Args:
        module: the search with the best combination.
        data: the data of the search.
        cells: the reference cells.
        heats: the result of `race`.
    """
    trainings, winner = CandidateTrainings(module, data), standing(heats)[0]
    if module.objectives.terms or not math.isfinite(winner.objective):  # a training diverged
        return []
    found = []
    fits = winner.noise or (None,) * winner.cells
    for cell, validation, noise in zip(cells, winner.validation, fits, strict=True):
        penalty = 0.0 if noise is None else trainings.weighted_penalty(noise.loss)
        # As it was raced: another order of its operations would get other initial weights.
        genotype = replace(cell, macro=winner.macro, meta={})
        found.append(Candidate(genotype, validation, noise, validation.loss + penalty))
    return found


class FromAlpha(Strategy):
    """Proposes the cell of α, the cells of a race, and further cells from α; see `choose`.

    Args:
        arch: α.
        count: number of candidates that α proposes.
        seed: seed of the search.
        raced: cells that the race has measured.
    """

    exact = False

    def __init__(
        self, arch: Architecture, count: int, seed: int, raced: Iterable[Genotype] = ()
    ) -> None:
        self.arch, self.raced = arch, list(raced)
        self.sampled = math.ceil(count / 3) + len(self.raced)
        self.random = generator(seed, Stream.CANDIDATES)
        self.found: set[Genotype] = set()
        self.best: Candidate | None = None

    def ask(self) -> Proposal:
        if self.best is None:
            return Proposal(ordered(self.arch.genotype()))
        if self.raced:
            return Proposal(self.raced.pop(0))
        genotype = ordered(self.arch.draw(self.random))
        genotype = replace(genotype, macro=self._macro())
        if len(self.found) >= self.sampled:
            genotype = altered(self.best.genotype, genotype, self.random)
        return Proposal(genotype)

    def tell(self, candidate: Candidate) -> None:
        self.found.add(candidate.genotype)
        if self.best is None or candidate.score < self.best.score:
            self.best = candidate

    def _macro(self) -> dict[str, Value]:
        return {
            name: values[int(torch.randint(len(values), (), generator=self.random))]
            for name, values in self.arch.space.macro
        }


def altered(cell: Genotype, drawn: Genotype, random: torch.Generator) -> Genotype:
    """Return ``cell`` with one random difference to ``drawn`` taken over from ``drawn``.

    A difference is an operation with the same predecessor, or a macro choice. If there is no
    difference, return ``cell``.
    """
    changes = [
        replace(cell, macro={**cell.macro, name: value})
        for name, value in drawn.macro.items()
        if cell.choice(name) != value
    ]
    for kind in ("normal", "reduce"):
        nodes: Cell = getattr(cell, kind)
        for node, (pairs, others) in enumerate(zip(nodes, getattr(drawn, kind), strict=True)):
            operations = {predecessor: operation for operation, predecessor in others}
            for place, (operation, predecessor) in enumerate(pairs):
                new = operations.get(predecessor, operation)
                if new != operation:
                    changed = (*pairs[:place], (new, predecessor), *pairs[place + 1 :])
                    cells: dict[str, Any] = {kind: (*nodes[:node], changed, *nodes[node + 1 :])}
                    changes.append(replace(cell, **cells))
    if not changes:
        return cell
    return changes[int(torch.randint(len(changes), (), generator=random))]
