"""Convolutional candidates: depthwise, separable, dilated, random, factorised and plain.

All are ReLU → convolution → batch norm, the pre-activation order of the NASNet family
(Zoph et al. 2018, arXiv:1707.07012; DARTS, arXiv:1806.09055). To add a kernel size, register a
builder at the end of this file.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.space.operations.pointwise import PointwiseConv, SquareConv
from darts_noise.space.operations.registry import register_operation


class ReluConvBn(nn.Sequential):
    """ReLU → convolution → batch norm: (B, C_in, H, W) → (B, C_out, ⌈H/stride⌉, ⌈W/stride⌉).

    It is also the preprocessing of a cell. There, ``c_in`` and ``c_out`` differ.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, affine: bool) -> None:
        convolution = (
            PointwiseConv(c_in, c_out, stride)
            if kernel == 1
            else SquareConv(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        )
        super().__init__(nn.ReLU(), convolution, nn.BatchNorm2d(c_out, affine=affine))


class DepthwiseConv(nn.Sequential):
    """ReLU → depthwise convolution → batch norm: a learnt filter that does not mix channels."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )


class DilConv(nn.Sequential):
    """ReLU → depthwise convolution with dilation → 1×1 convolution → batch norm."""

    def __init__(
        self, channels: int, kernel: int, stride: int, affine: bool, dilation: int = 2
    ) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel, stride, padding, dilation, channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )


class RandomDilation(nn.Conv2d):
    """A depthwise convolution without bias that draws its dilation for every batch.

    (B, C, H, W) → (B, C, ⌈H/stride⌉, ⌈W/stride⌉). All dilations have the same weights. In train
    mode, each call draws one of them from torch's global generator of the input's device. In eval
    mode, the output is the average of the outputs with all dilations. Stochastic depth draws its
    layers like this, and evaluates their expectation (Huang et al. 2016, arXiv:1603.09382). We know
    of no paper about random dilations.

    The layer writes its weights into a kernel of the size of the largest dilation, and computes one
    convolution with it. So torch.compile makes one graph for all draws.

    Args:
        channels: C.
        kernel: side of the kernel in pixels, odd.
        stride: stride in pixels.
        dilations: the dilations, in pixels. Default: 1, 2 and 3.
    """

    places: Tensor

    def __init__(
        self, channels: int, kernel: int, stride: int, dilations: tuple[int, ...] = (1, 2, 3)
    ) -> None:
        half = max(dilations) * (kernel // 2)
        super().__init__(channels, channels, kernel, stride, half, groups=channels, bias=False)
        self.side = 2 * half + 1
        offsets = torch.arange(kernel) - kernel // 2
        rows = F.one_hot(torch.stack([half + d * offsets for d in dilations]), self.side)
        places = torch.einsum("dkr,dlc->dklrc", rows, rows).flatten(3).flatten(1, 2)
        # (dilations, kernel², side²): the place of each weight. It is in no checkpoint, and it has
        # three dimensions, because channels_last refuses more than four.
        self.register_buffer("places", places.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        places = self.places
        if self.training:
            places = places[torch.randint_like(x[:1, 0, 0, 0], len(places), dtype=torch.long)]
        kernel = (self.weight.flatten(2)[..., None] * places.mean(0)).sum(2)
        kernel = kernel.view(-1, 1, self.side, self.side)
        return F.conv2d(x, kernel, None, self.stride, self.padding, groups=self.groups)


class SepConv(nn.Sequential):
    """Two depthwise-separable convolutions; the first has the stride."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool) -> None:
        super().__init__(
            DilConv(channels, kernel, stride, affine, dilation=1),
            DilConv(channels, kernel, 1, affine, dilation=1),
        )


class FactorisedConv(nn.Sequential):
    """ReLU → 1×k convolution → k×1 convolution → batch norm."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool) -> None:
        half = kernel // 2
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, (1, kernel), (1, stride), (0, half), bias=False),
            nn.Conv2d(channels, channels, (kernel, 1), (stride, 1), (half, 0), bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )


@register_operation("convolution")
def sep_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """DARTS."""
    return SepConv(channels, 3, stride, affine)


@register_operation("convolution")
def sep_conv_5x5(channels: int, stride: int, affine: bool) -> nn.Module:
    """DARTS."""
    return SepConv(channels, 5, stride, affine)


@register_operation("convolution")
def sep_conv_7x7(channels: int, stride: int, affine: bool) -> nn.Module:
    """NASNet."""
    return SepConv(channels, 7, stride, affine)


@register_operation("dilated")
def dil_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """DARTS; a 5×5 receptive field."""
    return DilConv(channels, 3, stride, affine)


@register_operation("dilated")
def dil_conv_5x5(channels: int, stride: int, affine: bool) -> nn.Module:
    """DARTS; a 9×9 receptive field."""
    return DilConv(channels, 5, stride, affine)


@register_operation("dilated")
def random_dil_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """`dil_conv_3x3` with a random dilation (Yu & Koltun 2016, arXiv:1511.07122) of 1, 2 or 3."""
    return nn.Sequential(
        nn.ReLU(),
        RandomDilation(channels, 3, stride),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


@register_operation("convolution")
def conv_7x1_1x7(channels: int, stride: int, affine: bool) -> nn.Module:
    """NASNet."""
    return FactorisedConv(channels, 7, stride, affine)


@register_operation("convolution")
def conv_1x1(channels: int, stride: int, affine: bool) -> nn.Module:
    """NASNet."""
    return ReluConvBn(channels, channels, 1, stride, affine)


@register_operation("convolution")
def conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """NASNet."""
    return ReluConvBn(channels, channels, 3, stride, affine)


@register_operation("convolution")
def conv_5x5(channels: int, stride: int, affine: bool) -> nn.Module:
    """Inception (Szegedy et al. 2015, arXiv:1409.4842)."""
    return ReluConvBn(channels, channels, 5, stride, affine)


@register_operation("convolution")
def dw_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """MobileNet (Howard et al. 2017, arXiv:1704.04861), without its 1×1 convolution."""
    return DepthwiseConv(channels, 3, stride, affine)


# NAS-Bench-201 (Dong & Yang 2020, arXiv:2001.00326) names the same two functions differently.
register_operation("convolution", name="nor_conv_1x1")(conv_1x1)
register_operation("convolution", name="nor_conv_3x3")(conv_3x3)
