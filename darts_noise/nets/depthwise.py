"""Depthwise convolution as fast on a CPU as it should be; elsewhere PyTorch's own.

On CPUs the library's kernels are slow in two cases, and both have an exact way round:

- *Dilation 2.* A convolution with dilation 2 is an undilated one on each of the four sub-grids of
  pixels with rows and columns of equal parity: a reshape before and after. With stride 2 only one
  of the four is asked for.
- *The weights' gradient of a kernel wider than 3.* Its columns are those of narrower kernels at
  shifted positions, for which the library is fast.

Anything that is not such a case, another device, a second derivative, compilation and export go
the library's way.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

WIDEST = 3
"""Columns of a kernel up to which the library's weight gradient is fast."""
MANY = 2**13
"""Values in a tensor from which several narrow kernels are faster than a wide one."""

_backward = torch.ops.aten.convolution_backward


def depthwise_conv2d(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """Each channel convolved with its own odd square kernel, padded to keep the size.

    Args:
        x: (B, C, H, W).
        weight: (C, 1, k, k), k odd.
        stride: of both directions.
        dilation: of both directions.

    Returns:
        (B, C, ⌈H/stride⌉, ⌈W/stride⌉): what ``F.conv2d(x, weight, None, stride,
        dilation * (k // 2), dilation, C)`` returns.
    """
    if (
        not _is_slow(weight, stride, dilation)
        or x.device.type != "cpu"
        or torch.compiler.is_compiling()
    ):
        return _reference(x, weight, stride, dilation)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
    out: Tensor = _Depthwise.apply(x, weight, stride, dilation)
    return out


def _is_slow(weight: Tensor, stride: int, dilation: int) -> bool:
    large = weight.shape[-1] > 3
    return (dilation == 2 and stride in (1, 2)) or (dilation == 1 and stride == 1 and large)


def _reference(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    padding = dilation * (weight.shape[-1] // 2)
    return F.conv2d(x, weight, None, stride, padding, dilation, x.shape[1])


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation = stride, dilation
        return _reference(x, weight, stride, dilation)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        mask = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():  # a second derivative will be asked for
            dx, dw = _gradients(gradient, x, weight, ctx.stride, ctx.dilation, mask)
        else:
            dx, dw = depthwise_gradients(gradient, x, weight, ctx.stride, ctx.dilation, mask)
        return dx, dw, None, None


def depthwise_gradients(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: int,
    dilation: int,
    mask: tuple[bool, bool] = (True, True),
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of `depthwise_conv2d` by x and by the weights, without a graph of their own.

    Args:
        gradient: by the output.
        x, weight, stride, dilation: as given to `depthwise_conv2d`.
        mask: which of the two are asked for; the other is None.
    """
    if not _is_slow(weight, stride, dilation):
        return _gradients(gradient, x, weight, stride, dilation, mask)
    shape = x.shape
    if dilation == 2:
        if mask[1]:  # the other gradient only asks for the shape, which is then that of its own
            x = _even(x) if stride == 2 else _split(x)
        gradient = gradient if stride == 2 else _split(gradient)
    dx, _ = _gradients(gradient, x if mask[1] else gradient, weight, 1, 1, (mask[0], False))
    dw = _weight_gradient(gradient, x, weight) if mask[1] else None
    if dx is not None and dilation == 2:
        dx = _at_even(dx, shape) if stride == 2 else _joined(dx, shape)
    return dx, dw


def _gradients(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: int,
    dilation: int,
    mask: tuple[bool, bool],
    padding: tuple[int, int] | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    if not any(mask):
        return None, None
    side = dilation * (weight.shape[-1] // 2)
    pair, C = (stride, stride), x.shape[1]
    dx, dw, _ = _backward(
        gradient,
        x,
        weight,
        None,
        pair,
        padding or (side, side),
        (dilation,) * 2,
        False,
        (0, 0),
        C,
        [*mask, False],
    )
    return dx, dw


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Of a convolution with stride 1 and dilation 1, put together from columns of the kernel."""
    k = weight.shape[-1]
    if k <= WIDEST or x.numel() < MANY or x.shape[-1] <= k // 2:  # some columns see no image
        _, dw = _gradients(gradient, x, weight, 1, 1, (False, True))
        assert dw is not None
        return dw
    blocks = []
    for start in range(0, k, WIDEST):
        columns = weight[..., start : start + WIDEST]
        first, last = start - k // 2, start + columns.shape[-1] - 1 - k // 2
        window = F.pad(x, (-first, last))  # what these columns see of the image
        _, dw = _gradients(gradient, window, columns, 1, 1, (False, True), (k // 2, 0))
        assert dw is not None
        blocks.append(dw)
    return torch.cat(blocks, -1)


def _even(x: Tensor) -> Tensor:
    return x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)


def _at_even(x: Tensor, shape: torch.Size) -> Tensor:
    """The adjoint of `_even`: zeros in between."""
    B, C, H, W = shape
    out = x.new_zeros(B, H, W, C).permute(0, 3, 1, 2)
    out[:, :, ::2, ::2] = x
    return out


def _split(x: Tensor) -> Tensor:
    """(B, C, H, W) → (4B, C, ⌈H/2⌉, ⌈W/2⌉): the sub-grids of equal parity, padded by zeros."""
    if x.shape[2] % 2 or x.shape[3] % 2:  # a padding by nothing would copy
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    B, C, H, W = x.shape
    grids = x.permute(0, 2, 3, 1).reshape(B, H // 2, 2, W // 2, 2, C).permute(2, 4, 0, 1, 3, 5)
    return grids.reshape(4 * B, H // 2, W // 2, C).permute(0, 3, 1, 2)


def _joined(grids: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `_split` for images of this shape."""
    B, C, H, W = shape
    h, w = grids.shape[-2:]
    pixels = grids.permute(0, 2, 3, 1).reshape(2, 2, B, h, w, C).permute(2, 3, 0, 4, 1, 5)
    return pixels.reshape(B, 2 * h, 2 * w, C)[:, :H, :W].permute(0, 3, 1, 2)
