"""Residual candidates: the input plus functions of the input."""

from torch import Tensor, nn

from darts_noise.space.operations.convolution import ReluConvBn
from darts_noise.space.operations.identity import skip_connect
from darts_noise.space.operations.registry import register_operation


class MultiResidual(nn.Module):
    """x + Σ f_i(x), with several parallel branches f_i of two convolutions.

    (B, C, H, W) → (B, C, ⌈H/stride⌉, ⌈W/stride⌉). With stride 2, the factorised reduction of
    `skip_connect` replaces x. Source: Abdi & Nahavandi 2016, arXiv:1609.05672.

    Args:
        channels: C; at least 2 for stride 2.
        kernel: side of the kernels in pixels.
        stride: stride of the first convolution of each branch.
        affine: whether the batch norms learn a scale and a shift.
        branches: number of functions f_i. Default: 2.

    Attributes:
        paths: the identity, or the factorised reduction, and then the branches.
        bounded: whether the output is the mean of the paths, which has at most their gain. Default:
            False, the sum.
    """

    def __init__(
        self, channels: int, kernel: int, stride: int, affine: bool, branches: int = 2
    ) -> None:
        super().__init__()
        self.bounded = False
        functions = [
            nn.Sequential(
                ReluConvBn(channels, channels, kernel, stride, affine),
                ReluConvBn(channels, channels, kernel, 1, affine),
            )
            for _ in range(branches)
        ]
        self.paths = nn.ModuleList([skip_connect(channels, stride, affine), *functions])

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (path(x) for path in self.paths)
        total: Tensor = sum(others, start=first)
        return total / len(self.paths) if self.bounded else total


@register_operation("convolution")
def multi_residual_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """Abdi & Nahavandi 2016, with two branches."""
    return MultiResidual(channels, 3, stride, affine)
