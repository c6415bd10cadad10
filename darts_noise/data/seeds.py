"""Random generators that are a pure function of integers.

Each consumer of random numbers has its own: `generator(seed, use, ...)` or, for what draws from
torch's global generators inside a network, `drawing(seed, use, ...)`. So what one part draws cannot
shift what another sees. A new use takes a new `Stream`: append it, since the numbers of the others
decide what published seeds mean.
"""

import enum
from collections.abc import Iterator
from contextlib import contextmanager

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
    ADDED_ALPHA = 11
    ALPHA_STEP = 12
    WEIGHTS_STEP = 13
    TWIN_STEP = 14
    PERTURBATION = 15
    LAG = 16
    CURVATURE = 17


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


@contextmanager
def drawing(seed: int, *key: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Within it, torch's global generators depend on (seed, *key) only; then they are as before.

    Without a key they begin at the seed itself, as after ``torch.manual_seed(seed)``.

    Args:
        seed: 0 or more.
        key: as for `derive_seed`.
        device: whose generator it is for, beside the CPU's.
    """
    start, cuda = derive_seed(seed, *key) if key else seed, torch.device(device).type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(start)  # torch.manual_seed reaches every device
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(start)
        yield
