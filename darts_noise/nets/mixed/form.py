"""What a convolution of a candidate does, apart from its weights, and its gradients."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.nets.depthwise import depthwise_conv2d, depthwise_gradients
from darts_noise.space.operations.pointwise import put_back, stride_on, taken


def is_pointwise(convolution: nn.Conv2d) -> bool:
    return convolution.kernel_size == (1, 1) and convolution.groups == 1


class Form:
    """The form of a convolution without bias that keeps the number of channels."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        self.stride = convolution.stride
        self.padding = convolution.padding
        self.dilation = convolution.dilation
        self.channels = convolution.in_channels
        self.depthwise = convolution.groups == convolution.in_channels > 1
        kernel = convolution.kernel_size
        self.keeps_size = (
            kernel[0] == kernel[1]
            and self.stride[0] == self.stride[1]
            and self.dilation[0] == self.dilation[1]
            and kernel[0] % 2 == 1
            and self.padding == (self.dilation[0] * (kernel[0] // 2),) * 2
        )
        self.pointwise = is_pointwise(convolution) and self.stride[0] == self.stride[1]

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        """x (B, G · channels, H, W) and weights of G convolutions like this one."""
        if self.depthwise and self.keeps_size:
            return depthwise_conv2d(x, weight, self.stride[0], self.dilation[0])
        groups = x.shape[1] if self.depthwise else x.shape[1] // self.channels
        if self.pointwise:
            return F.conv2d(taken(x, self.stride[0]), weight, groups=groups)
        stride = stride_on(x, self.stride)
        return F.conv2d(x, weight, None, stride, self.padding, self.dilation, groups)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """One such convolution of x (B, channels, H, W) in channels_last, without a graph."""
        if self.pointwise:
            x = taken(x, self.stride[0])
            return _image(torch.mm(_pixels(x), weight.view(self.channels, -1).t()), x)
        groups = self.channels if self.depthwise else 1
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, groups)

    def gradients(
        self, gradient: Tensor, x: Tensor, weight: Tensor, mask: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of `apply` by x and by the weights; those not asked for are None.

        A pointwise convolution looks at x for the gradient by the weights only.
        """
        if self.pointwise:
            matrix, of_pixels = weight.view(self.channels, -1), _pixels(gradient)
            stride = self.stride[0]
            dx, dw = None, None
            if mask[0]:
                dx = _image(torch.mm(of_pixels, matrix), gradient)
                dx = put_back(dx, x.shape, stride) if stride > 1 else dx
            if mask[1]:
                dw = torch.mm(of_pixels.t(), _pixels(taken(x, stride))).view_as(weight)
            return dx, dw
        if self.depthwise and self.keeps_size:
            return depthwise_gradients(gradient, x, weight, self.stride[0], self.dilation[0], mask)
        dx, dw, _ = torch.ops.aten.convolution_backward(
            gradient,
            x,
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,
            (0, 0),
            self.channels if self.depthwise else 1,
            [*mask, False],
        )
        return dx, dw


def _pixels(x: Tensor) -> Tensor:
    """(B · H · W, C), without a copy if x is in channels_last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _image(pixels: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_pixels`."""
    B, _, H, W = like.shape
    return pixels.view(B, H, W, -1).permute(0, 3, 1, 2)
