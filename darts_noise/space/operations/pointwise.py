"""Convolutions with a stride, around two faults of oneDNN on CPUs with AVX2 but without AVX-512.

- 1×1 convolutions that leave pixels out (PyTorch 2.15): the backward pass writes past the end of
  its memory if images in channels_last have fewer than 8 channels. Here the pixels are taken first
  and convolved then.
- Square convolutions of maps of 1×1 pixel in bf16 (PyTorch 2.11 to 2.14): with a stride of 2 the
  gradient of the weights is read from memory that nobody has written. A stride changes nothing on
  one pixel, so it is left out there.
"""

import torch
from torch import Tensor, nn


class PointwiseConv(nn.Conv2d):
    """A 1×1 convolution without bias: (B, C_in, H, W) → (B, C_out, ⌈H/stride⌉, ⌈W/stride⌉)."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(taken(x, self.stride[0]), self.weight)


class SquareConv(nn.Conv2d):
    """A convolution with a k×k kernel, padded by k // 2; as `nn.Conv2d`."""

    def forward(self, x: Tensor) -> Tensor:
        stride = stride_on(x, self.stride)
        return nn.functional.conv2d(x, self.weight, self.bias, stride, self.padding)


def stride_on(x: Tensor, stride: tuple[int, ...]) -> tuple[int, ...]:
    """Return the stride of a padded convolution of x (B, C, H, W): 1 on a map of one pixel."""
    return (1, 1) if x.shape[-2:] == (1, 1) else stride


def taken(x: Tensor, stride: int) -> Tensor:
    """Every pixel of (B, C, H, W) that a 1×1 convolution with this stride sees."""
    return x[:, :, ::stride, ::stride] if stride > 1 else x


def put_back(pixels: Tensor, shape: torch.Size, stride: int) -> Tensor:
    """The adjoint of `taken` for images of this shape: zeros in between, in channels_last."""
    B, C, H, W = shape
    out = pixels.new_zeros(B, H, W, C).permute(0, 3, 1, 2)
    out[:, :, ::stride, ::stride] = pixels
    return out
