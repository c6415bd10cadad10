"""Candidates without a k×k filter: identity, factorised reduction, noise and zero."""

import torch
from torch import Tensor, nn

from darts_noise.space.operations import dense
from darts_noise.space.operations.pointwise import PointwiseConv
from darts_noise.space.operations.registry import register_operation


class Zero(nn.Module):
    """No connection: zeros with the output shape of an operation with this stride."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        # x * 0 would keep NaN and Inf.
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Noise(nn.Module):
    """An operation that returns Gaussian noise and ignores its input, except for the input's size.

    Each call draws new values with mean 0 and variance 1 from torch's global generator of the
    input's device, in train mode and in eval mode. No gradient reaches the input.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn_like(x[:, :, :: self.stride, :: self.stride])


class FactorisedReduce(nn.Module):
    """Two 1×1 convolutions of stride 2, one shifted by a pixel, that halve height and width.

    (B, C_in, H, W) → (B, C_out, ⌈H/2⌉, ⌈W/2⌉). Each convolution gives half of the channels; for an
    odd C_out, the first convolution gives the smaller half. An odd side is padded with zeros at its
    end, so that both grids have the same number of points. Source: DARTS.

    Raises:
        ValueError: there are fewer than two output channels.
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
        halves = self.straight(x), self.shifted(dense.shifted(x))
        out: Tensor = self.norm(dense.concatenated(halves))
        return out


@register_operation("none")
def none(channels: int, stride: int, affine: bool) -> nn.Module:
    """DARTS. The search never writes it into a genotype."""
    return Zero(stride)


@register_operation("noise")
def noise(channels: int, stride: int, affine: bool) -> nn.Module:
    """Zela et al. 2020, arXiv:1909.09656: Gaussian noise that ignores the input.

    A search should never choose it. A network with it gives a different output at each call.
    """
    return Noise(stride)


@register_operation("skip")
def skip_connect(channels: int, stride: int, affine: bool) -> nn.Module:
    """DARTS: the identity for stride 1, a factorised reduction for stride 2."""
    return nn.Identity() if stride == 1 else FactorisedReduce(channels, channels, affine)
