"""Noise: fixed sets that a cell must not learn, and the penalty for being able to."""

from darts_noise.noise.families import fingerprint, list_noise, make_noise, register_noise
from darts_noise.noise.penalty import noise_fit_penalty

__all__ = ["fingerprint", "list_noise", "make_noise", "noise_fit_penalty", "register_noise"]
