"""The cells that nobody searched: drawn at random, with as many parameters, of skips alone."""

from collections.abc import Callable
from functools import partial

import torch

from darts_noise.data.seeds import Stream, generator
from darts_noise.nets.width import nearest_width
from darts_noise.space.genotype import Cell, Genotype
from darts_noise.space.spaces import Space

TOLERANCE = 0.05
"""By which the parameters of a matched cell may differ."""
DRAWS = 1000
WIDEST = 4
"""A matched cell has at most so many times the channels of the network that it is matched to."""


def random_cell(space: Space, seed: int, draw: int = 0) -> Genotype:
    """A cell that the search could have found: operations, predecessors, macro choices uniform.

    Args:
        space: ``none`` is no operation of a discrete cell.
        seed: of the cell.
        draw: which of the cells of this seed.
    """
    source = generator(seed, Stream.RANDOM_CELL, draw)

    def choose(count: int) -> int:
        return int(torch.randint(count, (), generator=source))

    operations = [name for name in space.operations if name != "none"]

    def cell() -> Cell:
        nodes = []
        for node in range(space.nodes):
            kept = min(space.kept_edges, node + 2)
            from_ = sorted(torch.randperm(node + 2, generator=source)[:kept].tolist())
            nodes.append(tuple((operations[choose(len(operations))], p) for p in from_))
        return tuple(nodes)

    concat = tuple(range(2, 2 + space.nodes))
    normal, reduce = cell(), cell()
    macro = {name: values[choose(len(values))] for name, values in space.macro}
    return Genotype(normal, concat, reduce, concat, macro=macro)


def matched_cell(
    space: Space, seed: int, target: int, count: Callable[[Genotype, int], int], channels: int
) -> tuple[Genotype, int]:
    """A random cell that has, at some width, as many parameters as another network.

    Args:
        space: of the cell.
        seed: of the cell.
        target: the parameters that are to be matched within 5 %.
        count: (cell, channels) → parameters of its network.
        channels: of the other network; at most four times as many are tried.

    Returns:
        The cell and its channels.

    Raises:
        ValueError: none of a thousand cells has such a width.
    """
    for draw in range(1, DRAWS + 1):  # draw 0 is the random cell of this seed
        cell = random_cell(space, seed, draw)
        width = nearest_width(partial(count, cell), target, WIDEST * channels)
        if abs(count(cell, width) - target) <= TOLERANCE * target:
            return cell, width
    raise ValueError(
        f"controls.matched: none of {DRAWS} random cells has {target:,} parameters within "
        f"{100 * TOLERANCE:.0f} % at a width of up to {WIDEST * channels} channels"
    )


def all_skip_cell(nodes: int) -> Genotype:
    """Cells of skip connections alone, with DARTS's macro choices."""
    cell = tuple((("skip_connect", 0), ("skip_connect", 1)) for _ in range(nodes))
    concat = tuple(range(2, 2 + nodes))
    return Genotype(cell, concat, cell, concat)
