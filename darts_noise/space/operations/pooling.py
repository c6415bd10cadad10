"""Pooling and low-pass candidates: nothing in them is learnt.

They halve or smooth, so they carry an image's low frequencies and lose what noise is made of.
"""

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


def _mirrored(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B, C, H + 2, W + 2), by a pixel on each side."""
    return F.pad(x, (1, 1, 1, 1), mode="reflect" if min(x.shape[-2:]) > 1 else "replicate")


torch.fx.wrap("_mirrored")  # a condition on sizes, which a symbolic trace has none of


class BlurPool(nn.Module):
    """Fixed binomial low-pass filter [1 2 1]ᵀ[1 2 1] / 16 per channel, then the stride.

    (B, C, H, W) → (B, C, ⌈H/stride⌉, ⌈W/stride⌉). The border is mirrored; a side of one pixel has
    nothing to mirror and is repeated. Source: Zhang 2019, arXiv:1904.11486.
    """

    kernel: Tensor

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride
        row = torch.tensor([1.0, 2.0, 1.0])
        # A constant: in no checkpoint, but it moves and changes its dtype with the module. Stored
        # in full, since ranks that are kept equal write into each other's buffers.
        self.register_buffer(
            "kernel", (torch.outer(row, row) / 16).repeat(channels, 1, 1, 1), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(_mirrored(x), self.kernel, stride=self.stride, groups=self.channels)


@register_operation("pooling", normalise_in_search=True)
def blur_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """Zhang 2019."""
    return BlurPool(channels, stride)
