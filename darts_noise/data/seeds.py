"""Random generators that are a pure function of integers.

Each part of the package has its own generator, `generator(seed, use, ...)`. Networks draw from
torch's global generators; for these there is `drawing(seed, use, ...)`. The draws of one part
therefore never change the draws of another part.

For a new use, append a `Stream`. Never renumber the others: published results depend on them.
"""

import enum
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from darts_noise.errors import SettingError


class Stream(enum.IntEnum):
    """The use of a generator. Equal seeds in different streams give unrelated numbers."""

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
    RACE = 18
    STRATEGY = 19
    SHARED = 20
    RANDOM_LABELS = 21
    VALIDATION_GRADIENT = 22
    DECISION = 23
    OBJECTIVE = 24
    ATTACK = 25
    LEARNT = 26
    WRONG_LABELS = 27
    PEER = 28
    EXAMINATION = 29
    FOLDS = 30
    FISHER = 31
    LABEL_COMPLEXITY = 32
    FOURIER = 33
    INPUT_GRADIENT = 34
    ADVERSARIAL = 35
    BOOTSTRAP = 36
    OBJECTIVES = 37


def derive_seed(seed: int, *key: int) -> int:
    """Derive a seed for one use of `seed`.

    It uses NumPy's SeedSequence, whose output NumPy guarantees not to change.

    Raises:
        ValueError: the seed is negative.
    """
    if seed < 0:
        raise SettingError("seed", f"expected 0 or more, got {seed}")
    return int(np.random.SeedSequence([seed, *key]).generate_state(1)[0])


def generator(seed: int, *key: int) -> torch.Generator:
    """Return a CPU generator that depends only on (seed, *key)."""
    return torch.Generator().manual_seed(derive_seed(seed, *key))


@contextmanager
def drawing(seed: int, *key: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's global generators from (seed, *key) inside the context; restore them after it.

    Without a key, the seed itself is used, as in ``torch.manual_seed(seed)``.

    Args:
        seed: 0 or more.
        key: as for `derive_seed`.
        device: device whose generator is seeded in addition to the CPU's generator.
    """
    start, cuda = derive_seed(seed, *key) if key else seed, torch.device(device).type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(start)  # torch.manual_seed would seed every device
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(start)
        yield
