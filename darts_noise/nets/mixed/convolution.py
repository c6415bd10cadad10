"""The convolutions of the stacked cell, which avoid two slow cases of PyTorch on a CPU.

Both cases are depthwise convolutions that keep the size:

- Dilation 2. The convolution equals an undilated one on each of the four sub-grids of pixels whose
  rows and columns have equal parity. With stride 2, only one sub-grid is needed.
- The gradient with respect to a kernel wider than 3. Its columns are the gradients with respect to
  narrower kernels at shifted positions, for which PyTorch is fast.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.compat import in_functorch
from darts_noise.space.operations.dense import taken
from darts_noise.space.operations.pointwise import stride_on

WIDEST = 3
"""The widest kernel for which PyTorch computes the gradient fast."""
MANY = 2**13
"""The smallest number of values in the images for which several narrow kernels are faster."""


def convolve(x: Tensor, weight: Tensor, layer: nn.Conv2d) -> Tensor:
    """Convolve the channels of several edges side by side, each edge with its own kernels.

    Args:
        x: (B, edges · in_channels, H, W).
        weight: (edges · out_channels, in_channels / groups, h, w).
        layer: a convolution without bias, with the settings of each edge.
    """
    stride, padding, dilation = layer.stride, layer.padding, layer.dilation
    groups = layer.groups * len(weight) // layer.out_channels
    if layer.kernel_size == (1, 1) and padding == (0, 0) and stride[0] == stride[1]:
        return F.conv2d(taken(x, stride[0]), weight, groups=groups)
    if groups == x.shape[1] == len(weight) and x.device.type == "cpu" and _keeps_size(layer):
        if dilation == (2, 2) and stride == (1, 1):
            return _joined(_depthwise(_split(x), weight), x.shape)
        if dilation == (2, 2) and stride == (2, 2):
            return _depthwise(taken(x, 2), weight)
        if dilation == stride == (1, 1):
            return _depthwise(x, weight)
    return F.conv2d(x, weight, None, stride_on(x, stride), padding, dilation, groups)


def _keeps_size(layer: nn.Conv2d) -> bool:
    """Return whether an odd square kernel is padded so that stride 1 keeps the size."""
    (k, other), (dilation, _) = layer.kernel_size, layer.dilation
    return k == other and k % 2 == 1 and layer.padding == (dilation * (k // 2),) * 2


def _depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve each channel with an odd square kernel, with padding that keeps the size."""
    k = weight.shape[-1]
    usual = (
        k <= WIDEST
        or x.numel() < MANY
        or x.shape[-1] <= k // 2  # some columns of the kernel meet only padding
        or torch.compiler.is_compiling()
        or in_functorch()
    )
    if usual:
        return F.conv2d(x, weight, padding=k // 2, groups=len(weight))
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
    out: Tensor = _WideDepthwise.apply(x, weight)
    return out


class _WideDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        k = weight.shape[-1]
        dx, dw = None, None
        if ctx.needs_input_grad[0]:
            dx, _ = _gradients(gradient, x, weight, (k // 2, k // 2), (True, False))
        if ctx.needs_input_grad[1]:
            blocks = []
            for start in range(0, k, WIDEST):
                columns = weight[..., start : start + WIDEST]
                first, last = start - k // 2, start + columns.shape[-1] - 1 - k // 2
                window = F.pad(x, (-first, last))  # the part of the image under these columns
                blocks.append(_gradients(gradient, window, columns, (k // 2, 0), (False, True))[1])
            dw = torch.cat(blocks, -1)
        return dx, dw


def _gradients(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    padding: tuple[int, int],
    mask: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    dx, dw, _ = torch.ops.aten.convolution_backward(
        gradient,
        x,
        weight,
        None,
        (1, 1),
        padding,
        (1, 1),
        False,
        (0, 0),
        len(weight),
        [*mask, False],
    )
    return dx, dw


def _split(x: Tensor) -> Tensor:
    """Return the sub-grids of equal parity, (4B, C, ⌈H/2⌉, ⌈W/2⌉), padded with zeros."""
    if x.shape[2] % 2 or x.shape[3] % 2:  # zero padding would still copy
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    B, C, H, W = x.shape
    grids = x.permute(0, 2, 3, 1).reshape(B, H // 2, 2, W // 2, 2, C).permute(2, 4, 0, 1, 3, 5)
    return grids.reshape(4 * B, H // 2, W // 2, C).permute(0, 3, 1, 2)


def _joined(grids: Tensor, shape: torch.Size) -> Tensor:
    """Undo `_split` for images of this shape."""
    B, C, H, W = shape
    h, w = grids.shape[-2:]
    pixels = grids.permute(0, 2, 3, 1).reshape(2, 2, B, h, w, C).permute(2, 3, 0, 4, 1, 5)
    return pixels.reshape(B, 2 * h, 2 * w, C)[:, :H, :W].permute(0, 3, 1, 2)
