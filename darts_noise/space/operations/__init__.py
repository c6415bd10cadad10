"""Candidate operations, one family per file. Importing this package registers all of them."""

from darts_noise.space.operations import convolution, identity, pooling, residual, selu
from darts_noise.space.operations.registry import (
    Kind,
    Operation,
    get_operation,
    list_operations,
    register_operation,
)

__all__ = [
    "Kind",
    "Operation",
    "convolution",
    "get_operation",
    "identity",
    "list_operations",
    "pooling",
    "register_operation",
    "residual",
    "selu",
]
