"""Values that the backward pass computes again instead of keeping them."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def recomputed(value: Tensor, compute: Callable[[], Tensor]) -> AbstractContextManager[object]:
    """Within it, operations that would keep ``value`` for their backward pass keep how to make it.

    A pointwise convolution costs little and its result is as large as any; on a CPU, writing and
    reading less memory pays for doing it twice. Compilers decide such things themselves.

    Args:
        value: what ``compute`` gives; its history stays as it is, so second derivatives are right.
        compute: makes the value again.
    """
    if not value.requires_grad or value.device.type != "cpu" or torch.compiler.is_compiling():
        return nullcontext()
    address, shape = value.data_ptr(), value.shape

    def pack(kept: Tensor) -> Tensor | None:
        return None if kept.data_ptr() == address and kept.shape == shape else kept

    def unpack(kept: Tensor | None) -> Tensor:
        if kept is not None:
            return kept
        with torch.no_grad():
            return compute()

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
