"""Registry of candidate operations: name → builder.

To add an operation, write a function or class under ``@register_operation`` in a file of this
folder. Genotypes store the names, so a published name never changes its meaning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from torch import nn

from darts_noise.errors import unknown
from darts_noise.space.shown import shortened, shown

Kind = Literal["convolution", "dilated", "pooling", "skip", "noise", "none"]
Builder = Callable[[int, int, bool], nn.Module]
B = TypeVar("B", bound=Builder)


@dataclass(frozen=True)
class Operation:
    """One candidate operation.

    Attributes:
        name: the name in genotypes.
        kind: the family. Drawings group and colour operations by it.
        build: ``(channels, stride, affine) → nn.Module`` that maps (B, C, H, W) to
            (B, C, ⌈H/stride⌉, ⌈W/stride⌉). ``affine``: whether its batch norms learn a scale and a
            shift.
        normalise_in_search: whether the supernet adds a batch norm without scale and shift after
            the operation. The candidates of an edge then have comparable magnitudes. DARTS does
            this after pools, which contain no batch norm. Default: False.
    """

    name: str
    kind: Kind
    build: Builder
    normalise_in_search: bool = False


_REGISTRY: dict[str, Operation] = {}


def register_operation(
    kind: Kind, *, name: str | None = None, normalise_in_search: bool = False
) -> Callable[[B], B]:
    """Register a builder ``(channels, stride, affine) → nn.Module`` under its name.

    Args:
        kind: see `Operation`.
        name: the name in genotypes. Default: the builder's ``__name__``.
        normalise_in_search: see `Operation`.

    Raises:
        ValueError: the name is registered already, or the kind is unknown.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"expected a kind among {', '.join(get_args(Kind))}, got {shown(kind)}")

    def register(build: B) -> B:
        key = name or build.__name__
        if key in _REGISTRY:
            raise ValueError(f"operation {key!r} is registered already")
        _REGISTRY[key] = Operation(key, kind, build, normalise_in_search)
        return build

    return register


def get_operation(name: str) -> Operation:
    """Return an operation by name. The ``ValueError`` lists the names and suggests the nearest."""
    if not isinstance(name, str):
        raise ValueError(f"expected the name of an operation, got {shown(name)}")
    if name not in _REGISTRY:
        raise unknown("operation", shortened(name), _REGISTRY)
    return _REGISTRY[name]


def list_operations(kind: Kind | None = None) -> list[str]:
    """Return the names of all operations, or of one kind of operations, sorted.

    >>> list_operations("skip")
    ['skip_connect']
    """
    return sorted(n for n, op in _REGISTRY.items() if kind is None or op.kind == kind)
