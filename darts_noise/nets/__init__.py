"""Networks: a genotype as a network, a search space as a supernet."""

from darts_noise.nets.body import FeatureNetwork
from darts_noise.nets.cell import Cell
from darts_noise.nets.network import Network, WithAuxiliary, auxiliary_fits, create_model
from darts_noise.nets.supernet import SuperNet
from darts_noise.nets.synchronised import SynchronisedNorms

__all__ = [
    "Cell",
    "FeatureNetwork",
    "Network",
    "SuperNet",
    "SynchronisedNorms",
    "WithAuxiliary",
    "auxiliary_fits",
    "create_model",
]
