"""Random generators that are a pure function of integers.

Everything random in `data` draws from `generator(seed, ...)` and never from the global state, so
that what one part draws cannot shift what another sees. A new use takes a new `Stream`: append it,
since the numbers of the others decide what published seeds mean.
"""

import enum

import numpy as np
import torch

from darts_noise.errors import SettingError


class Stream(enum.IntEnum):
    """What the randomness is for: equal seeds in different streams are unrelated."""

    SPLIT = 0
    SUBSET = 1
    ORDER = 2
    AUGMENTATION = 3
    TRAIN = 4
    VALIDATION = 5
    NOISE = 6
    TWIN = 7
    STATISTICS = 8
    RANDOM_CELL = 9
    CANDIDATES = 10


def derive_seed(seed: int, *key: int) -> int:
    """A seed for one use of `seed`, by NumPy's SeedSequence, whose output is fixed by contract.

    Raises:
        ValueError: a negative seed.
    """
    if seed < 0:
        raise SettingError("seed", f"expected 0 or more, got {seed}")
    return int(np.random.SeedSequence([seed, *key]).generate_state(1)[0])


def generator(seed: int, *key: int) -> torch.Generator:
    """A CPU generator that depends on (seed, *key) only."""
    return torch.Generator().manual_seed(derive_seed(seed, *key))
