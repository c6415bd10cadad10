"""Candidates that pass a state on, or nothing at all."""

import torch
from torch import Tensor, nn

from darts_noise.space.operations.pointwise import PointwiseConv
from darts_noise.space.operations.registry import register_operation


class Zero(nn.Module):
    """No connection: zeros in the shape that any operation of this stride would give."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        # Not x * 0, which would pass NaN and Inf on.
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class FactorizedReduce(nn.Module):
    """Halves height and width by two 1×1 convolutions of stride 2, one shifted by a pixel.

    (B, C_in, H, W) → (B, C_out, ⌈H/2⌉, ⌈W/2⌉); each convolution gives half of the channels (the
    first the smaller half when C_out is odd). An odd side is padded by zeros at its end, so that
    the shifted grid has as many points. Source: DARTS.

    Raises:
        ValueError: fewer than two output channels, which cannot be halved.
    """

    def __init__(self, c_in: int, c_out: int, affine: bool) -> None:
        super().__init__()
        if c_out < 2:
            raise ValueError(f"a factorised reduction needs at least 2 channels, got {c_out}")
        self.relu = nn.ReLU()
        self.straight = PointwiseConv(c_in, c_out // 2, stride=2)
        self.shifted = PointwiseConv(c_in, c_out - c_out // 2, stride=2)
        self.norm = nn.BatchNorm2d(c_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        height, width = x.shape[-2:]
        shifted = nn.functional.pad(x, (0, width % 2, 0, height % 2))[:, :, 1:, 1:]
        out: Tensor = self.norm(torch.cat([self.straight(x), self.shifted(shifted)], dim=1))
        return out


@register_operation("none")
def none(channels: int, stride: int, affine: bool) -> nn.Module:
    """DARTS; never chosen in a genotype that the search writes."""
    return Zero(stride)


@register_operation("skip")
def skip_connect(channels: int, stride: int, affine: bool) -> nn.Module:
    """DARTS: the identity, or a factorised reduction where the stride is 2."""
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
