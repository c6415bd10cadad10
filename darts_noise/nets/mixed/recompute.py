"""Values that the backward pass computes again instead of keeping them.

On a CPU the supernet is bound by memory: its cheap convolutions are done twice, so that little is
written, kept and read. Compilers decide such things themselves, so within them nothing changes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Size, Tensor


def recomputed(value: Tensor, compute: Callable[[], Tensor]) -> AbstractContextManager[object]:
    """Within it, operations that would keep ``value`` for their backward pass keep how to make it.

    Args:
        value: what ``compute`` gives; its history stays as it is, so second derivatives are right.
        compute: makes the value again, in the same memory format.
    """
    if not value.requires_grad or value.device.type != "cpu" or torch.compiler.is_compiling():
        return nullcontext()
    address = value.untyped_storage().data_ptr()

    def pack(kept: Tensor) -> "Tensor | tuple[Size, tuple[int, ...], int]":
        """A view of the value, or the value itself, becomes where it lies in the value."""
        if kept.untyped_storage().data_ptr() != address:
            return kept
        return kept.shape, kept.stride(), int(kept.storage_offset())

    def unpack(kept: "Tensor | tuple[Size, tuple[int, ...], int]") -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        with torch.no_grad():
            return compute().as_strided(*kept)

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


class Recomputation:
    """Two values, the second made from the first, that a backward pass asks for in reverse.

    Args:
        first: makes the first value.
        second: makes the second value from the first.
        both: whether the first is asked for too; then it is held from one request to the other.
    """

    def __init__(
        self, first: Callable[[], Tensor], second: Callable[[Tensor], Tensor], both: bool
    ) -> None:
        self._first, self._second, self._both = first, second, both
        self._held: Tensor | None = None

    def second(self) -> Tensor:
        first = self._first()
        if self._both:
            self._held = first
        return self._second(first)

    def first(self) -> Tensor:
        held, self._held = self._held, None
        return self._first() if held is None else held
