"""Selected pixels and concatenations whose gradients are dense, in the layout of the maps.

A slice gives its gradient in channels first, and a concatenation gives gradients with gaps. On maps
in channels_last, every layer before it would then copy its gradient or take a slow path.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F


def taken(x: Tensor, stride: int) -> Tensor:
    """Return the pixels of (B, C, H, W) that a 1×1 convolution with this stride uses."""
    return F.avg_pool2d(x, 1, stride) if stride > 1 else x


def shifted(x: Tensor) -> Tensor:
    """Return (B, C, H, W) moved by a pixel: no first row and column, zeros in the last ones."""
    return F.pad(x, (-1, 1, -1, 1))


def concatenated(maps: Sequence[Tensor]) -> Tensor:
    """Concatenate maps (B, Cᵢ, H, W) along the channels."""
    for each in maps:
        if each.requires_grad and not torch.compiler.is_compiling():
            hook = partial(_dense, layout=_layout(each))
            each.register_hook(hook)  # type: ignore[no-untyped-call]
    return torch.cat(tuple(maps), dim=1)


def _dense(gradient: Tensor | None, layout: torch.memory_format) -> Tensor | None:
    """Copy a gradient with gaps once, so that not every user copies it. None: there is none."""
    return None if gradient is None else gradient.contiguous(memory_format=layout)


def _layout(x: Tensor) -> torch.memory_format:
    is_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format


# A symbolic trace has no gradients for the condition. It finds this function only if it is called
# as an attribute of this module.
torch.fx.wrap("concatenated")
