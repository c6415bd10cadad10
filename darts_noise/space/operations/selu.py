"""Self-normalising candidates, which keep mean 0 and variance 1 without a norm.

Source: Klambauer et al. 2017, arXiv:1706.02515.
"""

from torch import nn

from darts_noise.space.operations.pointwise import SquareConv
from darts_noise.space.operations.registry import register_operation

DROPOUT = 0.05
"""The rate of alpha dropout, the smaller of the two rates that the paper recommends."""


class SeluConv(nn.Sequential):
    """SELU → alpha dropout → convolution: (B, C, H, W) → (B, C, ⌈H/stride⌉, ⌈W/stride⌉).

    SELU maps values of mean 0 and variance 1 to values of mean 0 and variance 1. So does alpha
    dropout, which acts in train mode only. The initial weights are LeCun normal: their variance is
    1 / fan-in, so that the convolution keeps both, too. At the border, the zero padding makes the
    variance smaller.
    """

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        convolution = SquareConv(channels, channels, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="linear")  # LeCun's is this one
        super().__init__(nn.SELU(), nn.AlphaDropout(DROPOUT), convolution)


# The weights of a supernet could undo α, because this operation has no norm.
@register_operation("convolution", normalise_in_search=True)
def selu_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """Klambauer et al. 2017."""
    return SeluConv(channels, 3, stride)
