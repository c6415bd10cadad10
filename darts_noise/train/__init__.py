"""Training of discrete networks, on data and on noise."""

from darts_noise.train.module import TrainModule
from darts_noise.train.noise_fit import NoiseFit, noise_fit

__all__ = ["NoiseFit", "TrainModule", "noise_fit"]
