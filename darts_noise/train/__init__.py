"""Training of discrete networks, on data and on noise."""

from darts_noise.metrics import NoiseFitMetric
from darts_noise.train.module import TrainModule
from darts_noise.train.noise_fit import noise_fit
from darts_noise.train.noise_grid import NoiseGrid
from darts_noise.train.noise_record import NoiseFit, NoiseRun

__all__ = ["NoiseFit", "NoiseFitMetric", "NoiseGrid", "NoiseRun", "TrainModule", "noise_fit"]
