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
    """Return (B, C, H, W) without its first row and column, odd sides padded with zeros."""
    height, width = x.shape[-2:]
    return F.pad(x, (-1, width % 2, -1, height % 2))


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


# A symbolic trace has neither sizes nor gradients for the conditions. It finds these functions only
# if they are called as attributes of this module.
torch.fx.wrap("shifted")
torch.fx.wrap("concatenated")
