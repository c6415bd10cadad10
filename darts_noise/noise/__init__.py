"""Noise: fixed sets that a cell must not learn, and the penalties for being able to.

Importing this package registers the families and the penalties; a file with a new family is
imported here, one with a new penalty in `penalties`.
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
from darts_noise.noise.penalties import list_penalties, register_penalty
from darts_noise.noise.penalties.twin import noise_fit_penalty

__all__ = [
    "datasets",
    "deficits",
    "describe_noise",
    "fingerprint",
    "list_noise",
    "list_penalties",
    "make_noise",
    "noise_fit_penalty",
    "random_images",
    "randomised",
    "register_noise",
    "register_penalty",
    "require_noise",
]
