"""Candidate operations, one family per file. The registry imports the files when it needs them."""

from darts_noise.space.operations.registry import (
    Kind,
    Operation,
    get_operation,
    kind_of,
    list_operations,
    register_operation,
)

__all__ = [
    "Kind",
    "Operation",
    "get_operation",
    "kind_of",
    "list_operations",
    "register_operation",
]
