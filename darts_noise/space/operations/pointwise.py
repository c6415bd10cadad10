"""Strided convolutions that avoid two bugs of oneDNN on CPUs with AVX2 but without AVX-512.

- 1×1 convolutions with a stride above 1 (PyTorch 2.15): the backward pass writes past the end of
  its memory if the images are in channels_last and have fewer than 8 channels. This module selects
  the pixels first and then convolves them with stride 1.
- Square convolutions of maps of 1×1 pixel in bf16 (PyTorch 2.11 to 2.14): with stride 2, the
  gradient with respect to the weights is uninitialised memory. A stride has no effect on one pixel,
  so this module uses stride 1.
"""

import torch
from torch import Tensor, nn

from darts_noise.space.operations.dense import taken


class PointwiseConv(nn.Conv2d):
    """A 1×1 convolution without bias: (B, C_in, H, W) → (B, C_out, ⌈H/stride⌉, ⌈W/stride⌉)."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(taken(x, self.stride[0]), self.weight)


class SquareConv(nn.Conv2d):
    """An `nn.Conv2d` with a k×k kernel and a padding of k // 2."""

    def forward(self, x: Tensor) -> Tensor:
        stride = stride_on(x, self.stride)
        return nn.functional.conv2d(x, self.weight, self.bias, stride, self.padding)


def stride_on(x: Tensor, stride: tuple[int, ...]) -> tuple[int, ...]:
    """Return the stride of a padded convolution of x (B, C, H, W): 1 on a map of one pixel."""
    return (1, 1) if x.shape[-2:] == (1, 1) else stride


torch.fx.wrap("stride_on")  # a symbolic trace has no sizes for the condition
