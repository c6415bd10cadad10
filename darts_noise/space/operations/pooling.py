"""Pooling and low-pass candidates, which have no parameters.

They keep the low frequencies of an image and remove the high frequencies, which dominate noise.
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
    """DARTS and NAS-Bench-201: the average does not count the padding."""
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


def mirrored(x: Tensor, margin: int, border: str = "reflect") -> Tensor:
    """Pad (B, C, H, W) by a mirrored margin of m pixels on each side: (B, C, H + 2m, W + 2m).

    If H or W is at most m pixels, the border is repeated instead. With the border ``constant``, the
    margin is zero.
    """
    if border == "reflect" and min(x.shape[-2:]) <= margin:
        border = "replicate"
    return F.pad(x, (margin,) * 4, mode=border)


torch.fx.wrap("mirrored")  # a symbolic trace has no sizes for the condition


def binomial(size: int) -> Tensor:
    """Return the (size, size) binomial low-pass filter; its sum is 1.

    >>> 16 * binomial(3)[1]
    tensor([2., 4., 2.])
    """
    row = torch.tensor([math.comb(size - 1, k) / 2 ** (size - 1) for k in range(size)])
    return torch.outer(row, row)


class BlurPool(nn.Module):
    """A fixed binomial low-pass filter per channel, with a stride.

    (B, C, H, W) → (B, C, ⌈H/stride⌉, ⌈W/stride⌉). The border is mirrored. Source: Zhang 2019,
    arXiv:1904.11486.

    Args:
        channels: C.
        stride: stride of the filter in pixels.
        size: side of the filter in pixels, odd. Default: 3, the filter [1 2 1]ᵀ[1 2 1] / 16.

    Attributes:
        border: ``reflect`` (default) or ``constant``, zeros, with which no pixel counts more than
            once.
    """

    kernel: Tensor
    border = "reflect"

    def __init__(self, channels: int, stride: int, size: int = 3) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride
        self.margin = size // 2
        # A constant that is in no checkpoint but changes device and dtype with the module. It is
        # not an expanded view, because DDP writes into the buffers when it synchronises the ranks.
        self.register_buffer("kernel", binomial(size).repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = mirrored(x, self.margin, self.border)
        return F.conv2d(x, self.kernel, stride=self.stride, groups=self.channels)


@register_operation("pooling", normalise_in_search=True)
def blur_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """Zhang 2019."""
    return BlurPool(channels, stride)
