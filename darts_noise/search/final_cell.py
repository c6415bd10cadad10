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
from darts_noise.search.candidate import Candidate, ranked
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.module import SearchModule
from darts_noise.space.genotype import Cell, Genotype

MISSES = 100
"""The choice ends after this many proposals in a row that were already measured."""


def choose(
    module: SearchModule,
    data: ImageDataModule,
    told: Callable[[Sequence[Candidate]], None] = lambda found: None,
    known: Iterable[Candidate] = (),
) -> list[Candidate]:
    """Measure cells that α of a finished search proposes, and set `module.chosen` to the best cell.

    The first candidate is the genotype of α. A third of the candidates, this one included, are
    samples from α. Each later candidate changes one operation or macro choice of the best cell so
    far. The same α gives the same candidates and the same measurements. The state of torch's
    generator does not change. With several processes, only one process calls this function.

    Args:
        module: the search.
        data: the data of the search.
        told: is called after each measurement with all candidates so far, in the order of
            measurement.
        known: candidates that an interrupted run of this search has measured.

    Returns:
        The candidates, the best first; see `ranked`. There are fewer than ``candidates`` if 100
        proposals in a row were already measured.
    """
    arch, count, seed = module.arch, module.config.candidates, module.config.seed
    trainings, random = CandidateTrainings(module, data, known), generator(seed, Stream.CANDIDATES)
    best = trainings.measured(ordered(arch.genotype()))
    found, misses = {best.genotype: best}, 0
    told([best])
    while len(found) < count and misses < MISSES:
        genotype = ordered(arch.draw(random))
        if len(found) >= math.ceil(count / 3):
            genotype = altered(best.genotype, genotype, random)
        if genotype in found:
            misses += 1
            continue
        misses = 0
        found[genotype] = candidate = trainings.measured(genotype, best.score)
        told(list(found.values()))
        if candidate.score < best.score:
            best = candidate
    meta = {**module.genotype().meta, "candidates": len(found)}
    module.chosen = replace(best.genotype, meta=meta)
    return ranked(found.values())


def ordered(genotype: Genotype) -> Genotype:
    """Return the same cells with the operations of each node sorted by predecessor.

    A genotype sorts them by strength, so two different genotypes can describe the same network.
    """

    def by_predecessor(cell: Cell) -> Cell:
        return tuple(tuple(sorted(pairs, key=lambda pair: pair[::-1])) for pairs in cell)

    return replace(
        genotype,
        normal=by_predecessor(genotype.normal),
        reduce=by_predecessor(genotype.reduce),
    )


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
