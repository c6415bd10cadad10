"""The choice among discrete cells by what they do themselves, trained alone.

α weighs operations inside a mixture, and a mixture hides what one of its operations can memorise: a
supernet whose twin is near chance may hold a cell that fits the noise entirely. So α proposes, and
the objective of the search, measured on each proposed cell, decides:

    F(cell) = L_val(w*) + λ · P,    P = max(0, 1 − L_noise(v*) / log C)

w* and v* are the cell's own weights, trained from scratch on the data and on the noise. DARTS
(arXiv:1806.09055, section 3.1) chooses likewise, among the cells of four searches and by validation
accuracy; here one α proposes, and noise counts too. The test images have no part in it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from darts_noise.data.module import ImageDataModule
from darts_noise.data.seeds import Stream, generator
from darts_noise.search.candidate import Candidate, ranked
from darts_noise.search.module import SearchModule
from darts_noise.search.trials import Trials
from darts_noise.space.genotype import Cell, Genotype

MISSES = 100
"""So many proposals in a row that bring nothing new end the choice."""


def choose(
    module: SearchModule,
    data: ImageDataModule,
    told: Callable[[Sequence[Candidate]], None] = lambda found: None,
    known: Iterable[Candidate] = (),
) -> list[Candidate]:
    """Measures cells that α of an ended search proposes; `module.chosen` becomes the best.

    First the cell that α stands for; up to a third of the candidates are draws from α, and the
    others change one thing at a time in the best so far. The same α gives the same candidates with
    the same figures; torch's generator is left as it was. Of several processes one does all this.

    Args:
        module: the search.
        data: those of the search.
        told: is given the candidates so far, in the order in which they were measured, after each.
        known: candidates of this search that a run which was stopped has measured.

    Returns:
        The best first, as `ranked` has them; fewer than ``candidates`` where a hundred proposals
        give nothing new.
    """
    arch, count, seed = module.arch, module.config.candidates, module.config.seed
    trials, random = Trials(module, data, known), generator(seed, Stream.CANDIDATES)
    best = trials.measured(ordered(arch.genotype()))
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
        found[genotype] = candidate = trials.measured(genotype, best.score)
        told(list(found.values()))
        if candidate.score < best.score:
            best = candidate
    meta = {**module.genotype().meta, "candidates": len(found)}
    module.chosen = replace(best.genotype, meta=meta)
    return ranked(found.values())


def ordered(genotype: Genotype) -> Genotype:
    """The same cells with the operations of a node by predecessor, not by strength: one form for
    what is one network."""

    def by_predecessor(cell: Cell) -> Cell:
        return tuple(tuple(sorted(pairs, key=lambda pair: pair[::-1])) for pairs in cell)

    return replace(
        genotype,
        normal=by_predecessor(genotype.normal),
        reduce=by_predecessor(genotype.reduce),
    )


def altered(cell: Genotype, drawn: Genotype, random: torch.Generator) -> Genotype:
    """The cell with one thing as another has it; the cell itself where both are alike.

    One thing is an operation, whose predecessor stays, or a macro choice.
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
