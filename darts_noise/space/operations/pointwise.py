"""1×1 convolutions that leave pixels out: the pixels are taken first and convolved then.

oneDNN's own way (PyTorch 2.15, CPUs with AVX2 but without AVX-512) writes past the end of its
memory in the backward pass, where images in channels_last have fewer than 8 channels.
"""

import torch
from torch import Tensor, nn


class PointwiseConv(nn.Conv2d):
    """A 1×1 convolution without bias: (B, C_in, H, W) → (B, C_out, ⌈H/stride⌉, ⌈W/stride⌉)."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(taken(x, self.stride[0]), self.weight)


def taken(x: Tensor, stride: int) -> Tensor:
    """Every pixel of (B, C, H, W) that a 1×1 convolution with this stride sees."""
    return x[:, :, ::stride, ::stride] if stride > 1 else x


def put_back(pixels: Tensor, shape: torch.Size, stride: int) -> Tensor:
    """The adjoint of `taken` for images of this shape: zeros in between, in channels_last."""
    B, C, H, W = shape
    out = pixels.new_zeros(B, H, W, C).permute(0, 3, 1, 2)
    out[:, :, ::stride, ::stride] = pixels
    return out
