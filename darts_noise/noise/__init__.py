"""Noise: fixed sets that a cell must not learn, and the penalty for being able to.

Importing this package registers the families; a file with a new one is imported here.
"""

from darts_noise.noise import datasets, deficits, random_images, randomised
from darts_noise.noise.families import (
    describe_noise,
    fingerprint,
    list_noise,
    make_noise,
    register_noise,
    require_noise,
)
from darts_noise.noise.penalty import noise_fit_penalty

__all__ = [
    "datasets",
    "deficits",
    "describe_noise",
    "fingerprint",
    "list_noise",
    "make_noise",
    "noise_fit_penalty",
    "random_images",
    "randomised",
    "register_noise",
    "require_noise",
]
