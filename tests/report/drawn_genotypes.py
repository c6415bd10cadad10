"""The genotypes whose drawings are checked. Add one to `GENOTYPES` to have it checked."""

import random
from dataclasses import replace
from typing import Any

import pytest

from darts_noise.space.genotype import Genotype
from darts_noise.space.macro import MACRO as MACRO_CHOICES
from darts_noise.space.operations import list_operations
from darts_noise.space.published import load_genotype

NAMES = list_operations()


def random_genotype(seed: int) -> Genotype:
    chance = random.Random(seed)

    def cell() -> tuple[Any, Any]:
        count = chance.choice((2, 4, 5, 7))
        nodes = [
            [
                (chance.choice(NAMES), chance.randrange(node + 2))
                for _ in range(chance.choice((1, 2, 2, 2, 3)))
            ]
            for node in range(count)
        ]
        return nodes, sorted(chance.sample(range(2, count + 2), chance.randint(1, count)))

    return Genotype(*cell(), *cell())


AMOEBA = Genotype(  # five nodes, parallel edges, unequal concatenations
    [
        [("avg_pool_3x3", 0), ("max_pool_3x3", 1)],
        [("skip_connect", 0), ("sep_conv_5x5", 2)],
        [("sep_conv_3x3", 2), ("sep_conv_5x5", 0)],
        [("avg_pool_3x3", 1), ("avg_pool_3x3", 1)],
        [("conv_7x1_1x7", 2), ("skip_connect", 2)],
    ],
    [3, 4, 5, 6],
    [
        [("max_pool_3x3", 0), ("sep_conv_3x3", 0)],
        [("sep_conv_7x7", 2), ("skip_connect", 1)],
        [("sep_conv_7x7", 1), ("sep_conv_7x7", 0)],
        [("conv_7x1_1x7", 0), ("max_pool_3x3", 3)],
        [("dil_conv_5x5", 4), ("dil_conv_3x3", 2)],
    ],
    [5, 6],
)
TWO = Genotype(
    [[("sep_conv_3x3", 0), ("skip_connect", 1)], [("sep_conv_3x3", 0), ("dil_conv_3x3", 2)]],
    [2, 3],
    [[("max_pool_3x3", 0), ("skip_connect", 1)], [("skip_connect", 2), ("max_pool_3x3", 0)]],
    [3],
)
CHAIN = Genotype(  # seven nodes, each after the last
    [[("sep_conv_5x5", i), ("conv_7x1_1x7", i + 1)] for i in range(7)],
    [*range(2, 9)],
    [[("skip_connect", i + 1)] for i in range(7)],
    [8],
)
LONGEST = {name: max(values, key=lambda v: len(str(v))) for name, values in MACRO_CHOICES.items()}
MACRO = replace(TWO, macro=LONGEST)
SMALLEST = replace(  # the narrowest drawing below the longest line
    MACRO,
    normal=[[("skip_connect", 0), ("skip_connect", 1)]],
    normal_concat=[2],
    reduce=[[("skip_connect", 0), ("skip_connect", 1)]],
    reduce_concat=[2],
)
PUBLISHED = {name: load_genotype(name) for name in ("darts_v1", "darts_v2")}
GENOTYPES = {
    **PUBLISHED,
    "amoeba": AMOEBA,
    "two": TWO,
    "chain": CHAIN,
    "macro": MACRO,
    "smallest": SMALLEST,
    **{f"random {seed}": random_genotype(seed) for seed in range(6)},
}
each = pytest.mark.parametrize("cells", GENOTYPES.values(), ids=GENOTYPES.keys())


def both(cells: Genotype) -> list[tuple[Any, Any]]:
    return [(cells.normal, cells.normal_concat), (cells.reduce, cells.reduce_concat)]
