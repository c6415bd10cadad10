"""Pooling and low-pass candidates: nothing in them is learnt.

They halve or smooth, so they carry an image's low frequencies and lose what noise is made of.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.space.operations.registry import register_operation


@register_operation("pooling", normalise_in_search=True)
def max_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """DARTS."""
    return nn.MaxPool2d(3, stride, padding=1)


@register_operation("pooling", normalise_in_search=True)
def avg_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """DARTS and NAS-Bench-201: the border's padding is not counted."""
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


def mirrored(x: Tensor, margin: int) -> Tensor:
    """(B, C, H, W) → (B, C, H + 2m, W + 2m), by a margin of m pixels on each side.

    A side of no more than m pixels has too little to mirror: its border is repeated.
    """
    mode = "reflect" if min(x.shape[-2:]) > margin else "replicate"
    return F.pad(x, (margin,) * 4, mode=mode)


torch.fx.wrap("mirrored")  # a condition on sizes, which a symbolic trace has none of


def binomial(size: int) -> Tensor:
    """The (size, size) low-pass filter whose rows and columns are binomial coefficients; sum 1.

    >>> 16 * binomial(3)[1]
    tensor([2., 4., 2.])
    """
    row = torch.tensor([math.comb(size - 1, k) / 2 ** (size - 1) for k in range(size)])
    return torch.outer(row, row)


class BlurPool(nn.Module):
    """Fixed binomial low-pass filter per channel, then the stride.

    (B, C, H, W) → (B, C, ⌈H/stride⌉, ⌈W/stride⌉). The border is mirrored. Source: Zhang 2019,
    arXiv:1904.11486.

    Args:
        channels: C.
        stride: of the output.
        size: pixels of a side of the filter: 3, [1 2 1]ᵀ[1 2 1] / 16, or another odd number.
    """

    kernel: Tensor

    def __init__(self, channels: int, stride: int, size: int = 3) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride
        self.margin = size // 2
        # A constant: in no checkpoint, but it moves and changes its dtype with the module. Stored
        # in full, since ranks that are kept equal write into each other's buffers.
        self.register_buffer("kernel", binomial(size).repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = mirrored(x, self.margin)
        return F.conv2d(x, self.kernel, stride=self.stride, groups=self.channels)


@register_operation("pooling", normalise_in_search=True)
def blur_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """Zhang 2019."""
    return BlurPool(channels, stride)
