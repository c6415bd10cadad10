"""The macro choices before the stem: ``colour``, ``contrast``, ``input_filter``, ``filters``.

They decide what a network can see, in this order. Neighbouring pixels of independent noise are
uncorrelated. A binomial 3×3 filter therefore reduces the standard deviation of noise to 3/8, and a
5×5 filter to a bit more than 1/4. An image keeps its coarse structure.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.errors import SettingError
from darts_noise.nets.gain import almost_orthogonal
from darts_noise.nets.macro_layers import Weighted, candidates, chosen
from darts_noise.space.genotype import Genotype
from darts_noise.space.macro import Value
from darts_noise.space.operations.pooling import BlurPool, binomial, mirrored
from darts_noise.space.spaces import Space


def input_filter(choices: Genotype | Space, in_channels: int) -> nn.Module:
    """Make all that is before the stem: (B, in_channels, H, W) → (B, K, H, W).

    K is `filtered_channels`.

    Raises:
        ValueError: a ``colour`` other than ``all`` of images that do not have three channels.
    """
    require_colour(choices, in_channels)
    steps = [chosen(choices, "colour", colour), chosen(choices, "contrast", contrast)]
    if isinstance(choices, Space) and "input_filter" in dict(choices.macro):
        steps.append(MixedInputFilter(candidates(choices, "input_filter")))
    else:
        size = filter_size(*candidates(choices, "input_filter"))
        steps.append(nn.Identity() if size == 1 else BlurPool(in_channels, 1, size))
    steps.append(chosen(choices, "filters", lambda kind: filters(kind, in_channels), beside=1))
    return nn.Sequential(*(step for step in steps if not isinstance(step, nn.Identity)))


def require_colour(choices: Genotype | Space, in_channels: int) -> None:
    """Raise a `SettingError` if ``colour`` has a value that needs three channels."""
    colours = [str(kind) for kind in candidates(choices, "colour") if kind != "all"]
    if in_channels != 3 and colours:
        raise SettingError(
            "macro.colour",
            f"expected images of 3 channels for {', '.join(colours)}, got {in_channels}",
        )


def filtered_channels(choices: Genotype | Space, in_channels: int) -> int:
    """Return the channels K in front of the stem."""
    return in_channels * sum(
        1 if kind == "none" else len(BANKS[str(kind)]()) for kind in candidates(choices, "filters")
    )


LUMA_LIMIT = 4.0
"""The largest norm of luma in ``tinted`` as a multiple of the norm of chroma."""


class Colour(nn.Module):
    """The part of each pixel that the network sees, (B, 3, H, W).

    ``luma`` is the mean of the three channels, in all of them; ``chroma`` is the difference to it.
    Both are orthogonal projections. ``tinted`` is chroma and luma, which is clipped where its norm
    is more than `LUMA_LIMIT` times that of chroma. For three equal channels, ``chroma`` and
    ``tinted`` are exactly 0.

    Attributes:
        gain: the Lipschitz constant in the Euclidean norm.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.gain = math.hypot(1, LUMA_LIMIT) if kind == "tinted" else 1.0

    def forward(self, x: Tensor) -> Tensor:
        luma = x.mean(1, keepdim=True)
        if self.kind == "luma":
            return luma.expand_as(x)
        chroma = ((x - x.roll(1, 1)) + (x - x.roll(2, 1))) / 3
        if self.kind == "chroma":
            return chroma
        limit = torch.linalg.vector_norm(chroma, dim=1, keepdim=True) * (LUMA_LIMIT / math.sqrt(3))
        return chroma + luma.clamp(-limit, limit)

    def extra_repr(self) -> str:
        return self.kind


def colour(kind: Value) -> nn.Module:
    """Make the choice ``colour``: (B, 3, H, W) → the same shape."""
    return nn.Identity() if kind == "all" else Colour(str(kind))


SMALLEST_VARIANCE = 1e-5
"""Added to the variance of an image by ``standardised``, so that a constant image gives zeros."""
ROUGH, SMOOTH = 0.2, 0.3
"""The correlation of neighbouring pixels up to which ``smooth`` shows nothing of an image, and from
which on it shows all. Images of MNIST and CIFAR-10 have 0.5 to 1, digits of 8×8 pixels 0.25 to
0.7. Independent pixels have 0 with a deviation of about 1 / √(2 · C · H · W)."""


def neighbour_correlation(x: Tensor) -> Tensor:
    """Return the correlation of neighbouring pixels of each image, (B, 1, 1, 1).

    It is the sum over all pairs of neighbours in a row or a column, divided by twice the sum of
    squares, so it is between -1 and 1. An image of zeros has 0.

    Args:
        x: (B, C, H, W), whose channels have mean 0.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # float16 cannot hold the sums
    beside = (x[..., 1:] * x[..., :-1]).sum((1, 2, 3), keepdim=True)
    below = (x[..., 1:, :] * x[..., :-1, :]).sum((1, 2, 3), keepdim=True)
    squares = x.square().sum((1, 2, 3), keepdim=True)
    return (beside + below) / (2 * squares).clamp_min(torch.finfo(x.dtype).tiny)


torch.fx.wrap("neighbour_correlation")  # a symbolic trace has no dtype


class Contrast(nn.Module):
    """Removes the mean of each channel of an image, and can multiply the image by a factor.

    ``standardised`` divides the image by its standard deviation √(σ² + 10⁻⁵) over all channels and
    pixels, so that the channels keep their proportions. ``smooth`` multiplies it by a factor that
    rises from 0 to 1 while `neighbour_correlation` rises from `ROUGH` to `SMOOTH`. So an image of
    independent pixels gives zeros, and a photograph stays as it is.

    Attributes:
        gain: a bound on the Lipschitz constant. With ``standardised``, an image without contrast
            reaches it. With ``smooth`` the gradient of the correlation ρ of an image x is
            2 · (A x - ρ x) / ‖x‖² with an averaging A, so it is not above 2 / ‖x‖.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        of_kind = {"standardised": SMALLEST_VARIANCE**-0.5, "smooth": 1 + 2 / (SMOOTH - ROUGH)}
        self.gain = of_kind.get(kind, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean((2, 3), keepdim=True)
        if self.kind == "standardised":
            x = x * (x.square().mean((1, 2, 3), keepdim=True) + SMALLEST_VARIANCE).rsqrt()
        elif self.kind == "smooth":
            shown = ((neighbour_correlation(x) - ROUGH) / (SMOOTH - ROUGH)).clamp(0, 1)
            x = x * shown.to(x.dtype)
        return x

    def steady_radius(self, x: Tensor) -> Tensor:
        """Return how far each image can move while the factor of ``smooth`` stays 1, or stays 0.

        The correlation of an image of direction u is ρ = uᵀ A u, where A has norm 1 at most. So
        arcsin ρ changes by at most twice the angle by which the direction turns, and a change of
        norm r turns it by at most arcsin (r / ‖x‖).

        Args:
            x: (B, C, H, W).

        Returns:
            (B,): the l2 distance. 0 where the factor is between 0 and 1.
        """
        x = x - x.mean((2, 3), keepdim=True)
        angle = neighbour_correlation(x).flatten().clamp(-1, 1).asin()
        turn = torch.maximum(angle - math.asin(SMOOTH), math.asin(ROUGH) - angle).clamp_min(0) / 2
        radii: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3)) * turn.sin()
        return radii

    def extra_repr(self) -> str:
        return self.kind


def contrast(kind: Value) -> nn.Module:
    """Make the choice ``contrast``: (B, C, H, W) → the same shape."""
    return nn.Identity() if kind == "none" else Contrast(str(kind))


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


def haar() -> Tensor:
    """Return the average and the three differences over 2×2 pixels, (4, 2, 2).

    At every pixel of a map they keep the norm (an undecimated Haar transform, a tight frame).

    >>> haar()[0], haar()[1]
    (tensor([[0.2500, 0.2500],
            [0.2500, 0.2500]]), tensor([[ 0.2500, -0.2500],
            [ 0.2500, -0.2500]]))
    """
    rows = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    return torch.einsum("ai,bj->abij", rows, rows).flatten(0, 1) / 4


def gabor() -> Tensor:
    """Return waves of 4 pixels in four directions, even and odd, (8, 5, 5).

    A Gaussian of 1.5 pixels weighs them. They have no mean, so a constant image gives zeros. Their
    common gain is at most 1.
    """
    y, x = torch.meshgrid(torch.arange(-2.0, 3.0), torch.arange(-2.0, 3.0), indexing="ij")
    angles = math.pi / 4 * torch.arange(4.0)[:, None, None]
    phase = math.pi / 2 * (x * angles.cos() + y * angles.sin())
    envelope = torch.exp(-(x.square() + y.square()) / (2 * 1.5**2))
    waves = torch.cat([phase.cos(), phase.sin()])
    waves = envelope * (waves - (envelope * waves).mean((1, 2), keepdim=True) / envelope.mean())
    return almost_orthogonal(waves[:, None])[:, 0]


NEIGHBOURS_ALIKE = 0.95
"""The correlation of neighbouring pixels that ``whitened`` assumes; about that of photographs."""


def whitened() -> Tensor:
    """Return the principal components of 3×3 patches, divided by their deviations, (9, 3, 3).

    So all outputs for an image have the same variance, and fine detail weighs as much as coarse.
    Jordan (2024, arXiv:2404.00498) takes the patches from the training images. Here pixels that are
    a columns and b rows apart have the correlation ρ^(a + b), so the filters do not depend on data.
    Their common gain is at most 1.
    """
    places = torch.arange(3.0, dtype=torch.float64)
    covariance = NEIGHBOURS_ALIKE ** (places - places[:, None]).abs()  # of three pixels in a row
    variances, vectors = torch.linalg.eigh(covariance)
    rows = (vectors * vectors[0].sign() / variances.sqrt()).T  # their signs are not unique
    patches = torch.einsum("ai,bj->abij", rows, rows).flatten(0, 1)
    return almost_orthogonal(patches[:, None])[:, 0].float()


BANKS: Mapping[str, Callable[[], Tensor]] = MappingProxyType(
    {"haar": haar, "gabor": gabor, "whitened": whitened}
)
"""The fixed filters of ``filters``, each (K, height, width)."""


class FilterBank(nn.Module):
    """Fixed filters of each channel: (B, C, H, W) → (B, C · K, H, W). The border is zero."""

    kernel: Tensor

    def __init__(self, kernels: Tensor, channels: int) -> None:
        super().__init__()
        self.channels = channels
        weight = kernels[:, None].repeat(channels, 1, 1, 1)
        self.register_buffer("kernel", weight, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.kernel.shape[-2:]
        margins = ((width - 1) // 2, width // 2, (height - 1) // 2, height // 2)
        return F.conv2d(F.pad(x, margins), self.kernel, groups=self.channels)


def filters(kind: Value, in_channels: int) -> nn.Module:
    """Make the choice ``filters``: (B, C, H, W) → (B, C, H, W) or (B, C · K, H, W)."""
    return nn.Identity() if kind == "none" else FilterBank(BANKS[str(kind)](), in_channels)
