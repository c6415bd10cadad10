"""The registry of candidate operations: a name → how to build it.

An operation is one function or class under ``@register_operation`` in one of the files beside this
one; nothing else has to be touched to add one. Names are what genotypes store, so a name that has
been published never changes its meaning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from torch import nn

from darts_noise.errors import unknown
from darts_noise.space.shown import shortened, shown

Kind = Literal["convolution", "dilated", "pooling", "skip", "none"]
Builder = Callable[[int, int, bool], nn.Module]
B = TypeVar("B", bound=Builder)


@dataclass(frozen=True)
class Operation:
    """One candidate operation.

    Attributes:
        name: the name in genotypes.
        kind: the family, by which drawings group and colour operations.
        build: ``(channels, stride, affine) → nn.Module`` that maps (B, C, H, W) to
            (B, C, ⌈H/stride⌉, ⌈W/stride⌉); ``affine`` says whether its batch norms learn a scale
            and a shift.
        normalise_in_search: whether the supernet puts a batch norm without scale and shift after
            it, so that the candidates of an edge have comparable magnitudes (DARTS does so after
            pools, which have no batch norm of their own).
    """

    name: str
    kind: Kind
    build: Builder
    normalise_in_search: bool = False


_REGISTRY: dict[str, Operation] = {}


def register_operation(
    kind: Kind, *, name: str | None = None, normalise_in_search: bool = False
) -> Callable[[B], B]:
    """Registers a builder ``(channels, stride, affine) → nn.Module`` under its own name.

    Args:
        kind: see `Operation`.
        name: the name in genotypes; the builder's ``__name__`` when absent.
        normalise_in_search: see `Operation`.

    Raises:
        ValueError: the name is taken, or the kind is none of the known ones.
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
    """The operation of that name; ``ValueError`` lists the valid ones and suggests the nearest."""
    if not isinstance(name, str):
        raise ValueError(f"expected the name of an operation, got {shown(name)}")
    if name not in _REGISTRY:
        raise unknown("operation", shortened(name), _REGISTRY)
    return _REGISTRY[name]


def list_operations(kind: Kind | None = None) -> list[str]:
    """The names of all operations, sorted, or of those of one kind.

    >>> list_operations("skip")
    ['skip_connect']
    """
    return sorted(n for n, op in _REGISTRY.items() if kind is None or op.kind == kind)
