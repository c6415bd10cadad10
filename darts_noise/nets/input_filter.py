"""The macro choice ``input_filter``: a low-pass filter before the stem of a network or supernet.

Neighbouring pixels of independent noise are uncorrelated. A binomial 3×3 filter therefore reduces
the standard deviation of noise to 3/8, and a 5×5 filter to a bit more than 1/4. An image keeps its
coarse structure.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.nets.macro_layers import Weighted
from darts_noise.space.macro import Value
from darts_noise.space.operations.pooling import BlurPool, binomial, mirrored
from darts_noise.space.spaces import Space


def input_filter(kind: Value, in_channels: int) -> nn.Module:
    """Make the filter before the stem: (B, in_channels, H, W) → the same shape."""
    size = filter_size(kind)
    return nn.Identity() if size == 1 else BlurPool(in_channels, 1, size)


def filter_size(kind: Value) -> int:
    """Return the side of a filter in pixels.

    >>> filter_size("blur_5x5"), filter_size("none")
    (5, 1)
    """
    return 1 if kind == "none" else int(str(kind).rpartition("x")[2])


class MixedInputFilter(Weighted):
    """The filter Σ_k weight_k · filter_k of x (B, C, H, W). The filters are linear: one pass.

    Attributes:
        border: as for `BlurPool`.
    """

    kernels: Tensor
    border = "reflect"

    def __init__(self, candidates: Sequence[Value]) -> None:
        super().__init__("input_filter", candidates)
        sizes = [filter_size(kind) for kind in candidates]
        self.margin = max(sizes) // 2
        kernels = [F.pad(binomial(size), ((max(sizes) - size) // 2,) * 4) for size in sizes]
        self.register_buffer("kernels", torch.stack(kernels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = torch.einsum("k,kij->ij", self.shares, self.kernels.to(self.shares.dtype))
        channels = x.shape[1]
        weight = kernel.to(x.dtype).expand(channels, 1, *kernel.shape)
        return F.conv2d(mirrored(x, self.margin, self.border), weight, groups=channels)


def mixed_input_filter(space: Space) -> nn.Module:
    """Make the filter before the stem of a supernet; an identity if the space has no filters."""
    candidates = dict(space.macro).get("input_filter")
    return nn.Identity() if candidates is None else MixedInputFilter(candidates)
