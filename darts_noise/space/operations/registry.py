"""Registry of candidate operations: name → builder.

To add an operation, write a function or class under ``@register_operation`` in a file of this
folder, and add its name to `BUILT_IN`. Genotypes store the names, so a published name never changes
its meaning.

The builders import torch, which takes seconds, so they are imported when the first one is needed. A
genotype is read and drawn without them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from darts_noise.errors import unknown
from darts_noise.shown import shortened, shown

if TYPE_CHECKING:
    from torch import nn

Kind = Literal["convolution", "dilated", "pooling", "skip", "noise", "none"]
Builder = Callable[[int, int, bool], "nn.Module"]
B = TypeVar("B", bound=Builder)

BUILT_IN: Mapping[str, Kind] = {
    **dict.fromkeys(("sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7"), "convolution"),
    **dict.fromkeys(("conv_1x1", "conv_3x3", "conv_5x5", "conv_7x1_1x7"), "convolution"),
    **dict.fromkeys(("nor_conv_1x1", "nor_conv_3x3", "dw_conv_3x3"), "convolution"),
    **dict.fromkeys(("selu_conv_3x3", "multi_residual_3x3"), "convolution"),
    **dict.fromkeys(("dil_conv_3x3", "dil_conv_5x5", "random_dil_conv_3x3"), "dilated"),
    **dict.fromkeys(("max_pool_3x3", "avg_pool_3x3", "blur_pool_3x3"), "pooling"),
    "skip_connect": "skip",
    "noise": "noise",
    "none": "none",
}
"""The operations of this folder: name → kind. A test compares them with the registry."""


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
        if not build.__module__.startswith(f"{__package__}."):  # those import each other
            import_builders()
        key = name or build.__name__
        if key in _REGISTRY:
            raise ValueError(f"operation {key!r} is registered already")
        _REGISTRY[key] = Operation(key, kind, build, normalise_in_search)
        return build

    return register


def import_builders() -> None:
    """Import the files of this folder, each of which registers its operations."""
    from darts_noise.space.operations import (  # noqa: F401
        convolution,
        identity,
        pooling,
        residual,
        selu,
    )


def operation_kinds() -> dict[str, Kind]:
    """Return the name of every operation → its kind."""
    return {**BUILT_IN, **{name: operation.kind for name, operation in _REGISTRY.items()}}


def kind_of(name: str) -> Kind:
    """Return the kind of an operation. Raise ``ValueError`` for an unknown name, with a hint."""
    if not isinstance(name, str):
        raise ValueError(f"expected the name of an operation, got {shown(name)}")
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name not in _REGISTRY:
        raise unknown("operation", shortened(name), operation_kinds())
    return _REGISTRY[name].kind


def get_operation(name: str) -> Operation:
    """Return an operation by name. Raise a ``ValueError`` as `kind_of` does."""
    kind_of(name)
    import_builders()
    return _REGISTRY[name]


def list_operations(kind: Kind | None = None) -> list[str]:
    """Return the names of all operations, or of one kind of operations, sorted.

    Raises:
        ValueError: there is no such kind.

    >>> list_operations("skip")
    ['skip_connect']
    """
    if kind is not None and kind not in get_args(Kind):
        raise ValueError(unknown("kind of operations", shown(kind), get_args(Kind)))
    return sorted(n for n, own in operation_kinds().items() if kind in (None, own))
