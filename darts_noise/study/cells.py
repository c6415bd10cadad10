"""Control cells that no search finds: random cells, also of a given size, and the all-skip cell."""

from collections.abc import Callable
from functools import partial

from darts_noise.data.seeds import Stream, generator
from darts_noise.nets.width import narrowest, nearest_width
from darts_noise.search.strategies.cells import random_cell as uniform_cell
from darts_noise.space.genotype import Genotype
from darts_noise.space.spaces import Space

TOLERANCE = 0.05
"""Largest relative difference between the parameters of a matched cell and the target."""
DRAWS = 1000
WIDEST = 4
"""A matched cell has at most this many times the channels of the network that it matches."""


def random_cell(space: Space, seed: int, draw: int = 0) -> Genotype:
    """Return a random cell of a space: uniform operations, predecessors and macro choices.

    Args:
        space: the search space. The cell has only operations that the space allows on the edge,
            and never ``none``.
        seed: seed of the cell.
        draw: number of the cell among the cells of this seed.
    """
    return uniform_cell(space, generator(seed, Stream.RANDOM_CELL, draw))


def matched_cell(
    space: Space,
    seed: int,
    target: int,
    count: Callable[[Genotype, int], int],
    channels: int,
    stem: str,
) -> tuple[Genotype, int]:
    """Return a random cell and channels that give about the target number of parameters.

    Args:
        space: the search space.
        seed: seed of the cell.
        target: the number of parameters. The cell's network is within 5% of it.
        count: (cell, channels) → number of parameters of its network.
        channels: channels of the matched network. At most four times as many are tried.
        stem: the stem of the networks.

    Returns:
        The cell and its channels.

    Raises:
        ValueError: none of a thousand cells has the target at any width.
    """
    for draw in range(1, DRAWS + 1):  # draw 0 is the random cell of this seed
        cell = random_cell(space, seed, draw)
        least = narrowest(cell, stem)
        width = nearest_width(partial(count, cell), target, WIDEST * channels, least)
        if abs(count(cell, width) - target) <= TOLERANCE * target:
            return cell, width
    raise ValueError(
        f"controls.matched: none of {DRAWS} random cells has {target:,} parameters within "
        f"{100 * TOLERANCE:.0f}% at a width of up to {WIDEST * channels} channels"
    )


def all_skip_cell(nodes: int) -> Genotype:
    """Return cells that have only skip connections, with the macro choices of DARTS."""
    cell = tuple((("skip_connect", 0), ("skip_connect", 1)) for _ in range(nodes))
    concat = tuple(range(2, 2 + nodes))
    return Genotype(cell, concat, cell, concat)
