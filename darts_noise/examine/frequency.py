"""Frequency: which frequencies a network learns first, and to which in an image it is sensitive.

Two meanings of the word. The frequency of a *function* says how fast its value changes from one
image to another: `band_residuals` splits what is left to learn into such bands, and networks mostly
learn from low to high [1]. The frequency of an *image* says how fast its pixels change:
`fourier_sensitivity` adds one wave to the images and counts the errors [2].

References:
    [1] Xu, Zhang, Luo, Xiao and Ma, Frequency principle: Fourier analysis sheds light on deep
        neural networks, 2019, arXiv:1901.06523.
    [2] Yin, Lopes, Shlens, Cubuk and Gilmer, A Fourier perspective on model robustness in computer
        vision, NeurIPS 2019, arXiv:1906.08988.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from darts_noise.reading import evaluating


def octaves(inputs: Tensor, count: int = 4) -> tuple[float, ...]:
    """Return widths for `band_residuals`: the median distance of inputs times 1, 1/2, 1/4, …

    Args:
        inputs: (N, ...), N ≥ 2.
        count: number of widths.
    """
    widest = float(torch.pdist(inputs.flatten(1)).median())
    return tuple(widest / 2**i for i in range(count))


def bands(inputs: Tensor, values: Tensor, widths: Sequence[float]) -> Tensor:
    """Split a function that is known at some inputs into bands of frequencies.

    Each width σ gives a low-pass filter, the mean of the values around an input with Gaussian
    weights exp(−‖x − x'‖² / 2σ²) ([1], section 4.2). It keeps frequencies up to about 1 / 2πσ. The
    first band is what the widest filter keeps, the next one what the next filter keeps in addition,
    and the last one what no filter keeps. The bands add up to the values.

    Args:
        inputs: (N, ...).
        values: (N, C), the function at the inputs.
        widths: σ in descending order, in units of the distance of inputs.

    Returns:
        (bands, N, C), one band more than there are widths, from low to high frequencies.
    """
    distances = torch.cdist(inputs.flatten(1).double(), inputs.flatten(1).double())
    values = values.double()
    low = [torch.zeros_like(values)]
    for width in widths:
        weights = (-(distances.square()) / (2 * width**2)).exp()
        low.append(weights @ values / weights.sum(1, keepdim=True))
    return torch.stack([*low, values]).diff(dim=0)


def band_residuals(
    inputs: Tensor, target: Tensor, outputs: Tensor, widths: Sequence[float]
) -> tuple[float, ...]:
    """Return ‖band of (target − outputs)‖ / ‖band of target‖ of each band: what is left to learn.

    1: nothing of the band is learnt, if the outputs have nothing of it. 0: the band is learnt. NaN:
    the target has nothing of it.

    Args:
        inputs: (N, ...).
        target: (N, C), such as one-hot labels.
        outputs: (N, C), such as probabilities.
        widths: as for `bands`.
    """
    of_both = bands(inputs, torch.cat([target, target - outputs], 1), widths)
    whole, left = of_both.chunk(2, dim=2)
    return tuple((left.norm(dim=(1, 2)) / whole.norm(dim=(1, 2))).tolist())


def fourier_waves(height: int, width: int) -> Tensor:
    """Return the Fourier basis of grey images: (height, width, height, width), float64.

    Wave [i, j] has i periods from top to bottom and j from left to right: cos φ + sin φ with
    φ = 2π (i·y / height + j·x / width), divided by its norm. Only the frequencies (i, j) and
    (−i, −j) occur in it, in equal parts, as in [2]. All waves are orthonormal.

    >>> waves = fourier_waves(2, 2).flatten(0, 1).flatten(1)
    >>> bool((waves @ waves.T).allclose(torch.eye(4, dtype=torch.float64)))
    True
    """
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in (height, width))
    down = torch.outer(rows, rows) / height  # whole periods do not count: i and i − height are one
    across = torch.outer(columns, columns) / width
    phase = 2 * math.pi * (down[:, None, :, None] + across[None, :, None, :])
    return (phase.cos() + phase.sin()) / math.sqrt(height * width)


def fourier_sensitivity(
    net: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    norm: float,
    random: torch.Generator,
    watch: Callable[[int], None] = lambda row: None,
) -> Tensor:
    """Return the error of a network on images to which one wave is added, for each wave [2].

    Each image and channel gets the wave times `norm` with a random sign. Pixels are not clipped to
    0 to 1, which would add other frequencies.

    Args:
        net: pixels (B, C, H, W) from 0 to 1 → logits (B, num_classes). It is read in eval mode.
        pixels: (B, C, H, W), from 0 to 1.
        labels: (B,).
        norm: the l2 norm of the change of a channel, with pixels from 0 to 1.
        random: a CPU generator for the signs. All waves get the same signs.
        watch: called with the number of each row of waves that is done.

    Returns:
        (H, W), float64: share of wrong answers, from 0 to 1. The frequency (0, 0) is at
        [H // 2, W // 2], as `torch.fft.fftshift` puts it.
    """
    batch, channels, height, width = pixels.shape
    signs = 2.0 * torch.randint(2, (batch, channels, 1, 1), generator=random) - 1
    waves = (norm * fourier_waves(height, width)).to(pixels)
    errors = torch.empty(height, width, dtype=torch.float64)
    with evaluating(net), torch.inference_mode():
        for i in range(height):
            for j in range(width):
                answers = net(pixels + signs.to(pixels) * waves[i, j]).argmax(1)
                errors[i, j] = (answers != labels).double().mean()
            watch(i)
    shifted: Tensor = torch.fft.fftshift(errors)
    return shifted
