"""A cell as a series of decisions, random cells, and the cells that differ in one decision."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import torch

from darts_noise.space.genotype import Cell, Genotype
from darts_noise.space.spaces import Space

Question = tuple[str, Sequence[Any], int]
"""Kind of decision, options, and how many different options to take. The kind is ``"predecessor"``,
``"operation"`` or the name of a macro choice."""
Take = Callable[[str, Sequence[Any], int], list[Any]]
"""A `Question` → the options that are taken."""


def assemble(space: Space, take: Take) -> Genotype:
    """Return the cell that a series of decisions makes; see `questions`."""
    series, answer = questions(space), None
    while True:
        try:
            question = series.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        answer = take(*question)


def questions(space: Space) -> Generator[Question, list[Any] | None, Genotype]:
    """Yield the questions whose answers make a cell, expect each answer, and return the cell.

    For each node of the normal and then of the reduction cell: its predecessors, and an operation
    for each of them that the space allows on this edge, never ``none``. Then each macro choice. If
    the space is complete, only operations are to decide, and ``none`` is one of them.
    """

    def take(*question: Any) -> Generator[Question, list[Any] | None, list[Any]]:
        answer = yield question
        assert answer is not None
        return answer

    def cell(kind: str) -> Generator[Question, list[Any] | None, Cell]:
        candidates = _operations(space, kind)
        nodes = []
        for node in range(space.nodes):
            from_: Sequence[int] = range(1, node + 2)
            if not space.complete:
                kept = min(space.kept_edges, node + 2)
                from_ = sorted((yield from take("predecessor", range(node + 2), kept)))
            pairs = []
            for predecessor in from_:
                taken = yield from take("operation", candidates[predecessor, node], 1)
                pairs.append((taken[0], predecessor))
            nodes.append(tuple(pairs))
        return tuple(nodes)

    normal, last = (yield from cell("normal")), space.nodes + 1
    reduce = normal if space.complete else (yield from cell("reduce"))
    concat = (last,) if space.complete else tuple(range(2, last + 1))
    macro = {}
    for name, values in space.macro:
        [macro[name]] = yield from take(name, values, 1)
    return Genotype(normal, concat, reduce, concat, macro=macro)


def _operations(space: Space, kind: str) -> dict[tuple[int, int], list[str]]:
    """Return (predecessor, node) → the operations that a cell can have on this edge."""
    return {
        edge: [name for name in allowed if name != "none" or space.complete]
        for edge, allowed in zip(space.edges, space.candidates(kind), strict=True)
    }


def random_cell(space: Space, source: torch.Generator | None = None) -> Genotype:
    """Return a random cell of a space: uniform operations, predecessors and macro choices.

    Args:
        space: the search space.
        source: the generator. None: torch's global generator.
    """

    def take(kind: str, options: Sequence[Any], count: int) -> list[Any]:
        if kind == "predecessor":
            return torch.randperm(len(options), generator=source)[:count].tolist()
        return [options[int(torch.randint(len(options), (), generator=source))]]

    return assemble(space, take)


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


def neighbours(space: Space, cell: Genotype) -> dict[str, list[Callable[[], Genotype]]]:
    """Return the cells of the space that differ from ``cell`` in one thing, by its kind.

    ``"operation"``: one operation with the same predecessor. ``"edge"``: one predecessor of a node.
    The operation stays, or is each one that the space allows there if it is not allowed on the new
    edge. ``"macro"``: one macro choice. Each function makes one of the cells: checking a genotype
    takes longer than listing a hundred.
    """
    found: dict[str, list[Callable[[], Genotype]]] = {"operation": [], "edge": [], "macro": []}

    def add(kind: str, **fields: Any) -> None:
        found[kind].append(lambda: ordered(replace(cell, **fields)))

    for kind in ("normal",) if space.complete else ("normal", "reduce"):
        nodes: Cell = getattr(cell, kind)
        allowed = _operations(space, kind)
        for node, pairs in enumerate(nodes):
            used = {predecessor for _, predecessor in pairs}
            others = set() if space.complete else set(range(node + 2)) - used
            for place, (operation, predecessor) in enumerate(pairs):
                names = allowed[predecessor, node]
                changes = [("operation", name, predecessor) for name in names if name != operation]
                for other in others:
                    names = allowed[other, node]
                    kept = [operation] if operation in names else names
                    changes += [("edge", name, other) for name in kept]
                for of, *pair in changes:
                    changed = (*pairs[:place], tuple(pair), *pairs[place + 1 :])
                    new = (*nodes[:node], changed, *nodes[node + 1 :])
                    add(
                        of,
                        **dict.fromkeys(("normal", "reduce") if space.complete else (kind,), new),
                    )
    for name, values in space.macro:
        for value in values:
            if value != cell.choice(name):
                add("macro", macro={**cell.macro, name: value})
    return found
