"""Operations, search spaces and genotypes: what a cell can be, as data."""

from darts_noise.space.genotype import Genotype
from darts_noise.space.operations import list_operations, register_operation
from darts_noise.space.published import list_genotypes, load_genotype
from darts_noise.space.spaces import Space, get_space, list_spaces, register_space

__all__ = [
    "Genotype",
    "Space",
    "get_space",
    "list_genotypes",
    "list_operations",
    "list_spaces",
    "load_genotype",
    "register_operation",
    "register_space",
]
