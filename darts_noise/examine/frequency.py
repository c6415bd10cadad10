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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from darts_noise.attacks.pixels import OnPixels
from darts_noise.configured import require_at_least
from darts_noise.data.seeds import Stream, generator
from darts_noise.errors import SettingError, counted
from darts_noise.examine.section import Pieces, Section, Subject, register_section
from darts_noise.reading import evaluating, own_statistics
from darts_noise.report.card import percent
from darts_noise.report.lines import draw_lines
from darts_noise.report.page import Table
from darts_noise.report.square_map import draw_square_map
from darts_noise.train.loop import each_tenth


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
    shifted: Tensor = torch.fft.fftshift(errors)
    return shifted


@dataclass(frozen=True)
class Frequency:
    """What a training leaves of each band of frequencies, and the errors on images with a wave.

    Attributes:
        steps: optimiser steps before each reading.
        per_epoch: optimiser steps of an epoch.
        widths: the widths of the filters; see `bands`.
        residuals: for each reading the residuals of all bands of the labels; see `band_residuals`.
        contrast: root mean square of a wave, with pixels from 0 to 1.
        error: share of wrong answers on test images without a wave, from 0 to 1.
        errors: (H, W), the share with each wave; see `fourier_sensitivity`.
    """

    steps: tuple[int, ...]
    per_epoch: int
    widths: tuple[float, ...]
    residuals: tuple[tuple[float, ...], ...]
    contrast: float
    error: float
    errors: tuple[tuple[float, ...], ...]

    def half_learnt(self, band: int) -> float | None:
        """Return the epochs until the residual of a band is below one half; None: never."""
        for step, residuals in zip(self.steps, self.residuals, strict=True):
            if residuals[band] < 0.5:
                return step / self.per_epoch
        return None

    @property
    def worst(self) -> tuple[int, int]:
        """Periods (from top to bottom, from left to right) of the wave with the most errors."""
        height, width = len(self.errors), len(self.errors[0])
        places = [(i, j) for i in range(height) for j in range(width)]
        row, column = max(places, key=lambda place: self.errors[place[0]][place[1]])
        return row - height // 2, column - width // 2


@register_section("frequency")
class FrequencySection(Section[Frequency]):
    """Train, and split what is left to learn into bands; then add waves to test images.

    Args:
        samples: largest number of training images at which the network is read.
        bands: number of bands, each of half the frequency of the next one.
        images: largest number of test images to which waves are added.
        contrast: root mean square of a wave, with pixels from 0 to 1. In [2] it is 1/8 for images
            of 32 × 32 pixels.
    """

    title = "Frequency"
    question = "Which frequencies does the network learn first, and which ones mislead it?"
    sources = (
        "Xu et al., Frequency principle: Fourier analysis sheds light on deep neural networks, "
        "2019, arXiv:1901.06523",
        "Yin et al., A Fourier perspective on model robustness in computer vision, NeurIPS 2019, "
        "arXiv:1906.08988",
    )
    result = Frequency

    def __init__(
        self, samples: int = 500, bands: int = 4, images: int = 200, contrast: float = 0.125
    ) -> None:
        require_at_least(2, samples=samples, bands=bands)
        require_at_least(1, images=images)
        if not contrast > 0:
            raise SettingError("contrast", f"expected more than 0, got {contrast}")
        self.samples, self.bands, self.images, self.contrast = samples, bands, images, contrast

    def steps(self, subject: Subject) -> float:
        training = subject.steps(len(subject.train))
        readings = sum(each_tenth(step, 1) for step in range(1, round(training) + 1))
        _, height, width = subject.train.shape
        read = readings * self.samples + height * width * self.images
        return training + read / subject.config.batch_size / 3  # no gradient: a third of a step

    def measure(self, subject: Subject, pieces: Pieces) -> Frequency:
        return pieces("training and waves", Frequency, lambda: self._measure(subject))

    def _measure(self, subject: Subject) -> Frequency:
        seed, device, data = subject.config.seed, subject.fabric.device, subject.train
        order = torch.randperm(len(data), generator=generator(seed, Stream.FOURIER))
        data = data.subset(order[: self.samples])
        images = subject.inputs(data)
        inputs = images.cpu()
        widths = octaves(inputs, self.bands - 1)
        target = F.one_hot(data.labels, data.num_classes).double()
        mean = target.mean(0)  # an untrained network knows it almost, and it is no frequency
        steps: list[int] = []
        residuals: list[tuple[float, ...]] = []

        def look(net: nn.Module, step: int, loss: float) -> bool:
            with own_statistics(net, [images]), evaluating(net), torch.no_grad():
                outputs = net(images).double().softmax(1).cpu()
            steps.append(step)
            residuals.append(band_residuals(inputs, target - mean, outputs - mean, widths))
            return False

        trained = subject.trained(subject.train, look, due=each_tenth, seed=seed)
        test = subject.test
        order = torch.randperm(len(test), generator=generator(seed, Stream.FOURIER, 1))
        test = test.subset(order[: self.images])
        pixels = test.images[torch.arange(len(test))].to(device).float() / 255
        labels = test.labels.to(device)
        subject.settle(trained.net, subject.train)
        net = OnPixels(trained.net, subject.normalisation)
        with evaluating(net), torch.no_grad():
            error = float((net(pixels).argmax(1) != labels).double().mean())
        norm = self.contrast * math.sqrt(pixels[0, 0].numel())
        random = generator(seed, Stream.FOURIER, 2)
        errors = fourier_sensitivity(net, pixels, labels, norm, random)
        return Frequency(
            tuple(steps),
            round(subject.steps(len(subject.train), 1)),
            widths,
            tuple(residuals),
            self.contrast,
            error,
            tuple(map(tuple, errors.tolist())),
        )

    def sentence(self, result: Frequency) -> str:
        def learnt(band: int) -> str:
            epochs = result.half_learnt(band)
            return "never" if epochs is None else f"after {epochs:.1f} epochs"

        down, across = (counted(abs(periods), "period") for periods in result.worst)
        worst = max(map(max, result.errors))
        return (
            f"Half of the lowest band of the labels is learnt {learnt(0)}, and half of the highest "
            f"{learnt(-1)}. The wave of {down} from top to bottom and {across} from left to right "
            f"misleads most: it raises the error from {percent(result.error)} to {percent(worst)}."
        )

    def figures(self, result: Frequency) -> Mapping[str, Figure]:
        epochs = [step / result.per_epoch for step in result.steps]
        lines = {
            name: list(zip(epochs, residuals, strict=True))
            for name, residuals in zip(
                self._names(result), zip(*result.residuals, strict=True), strict=True
            )
        }
        origin = (len(result.errors) // 2, len(result.errors[0]) // 2)
        return {
            "What is left to learn of each band of the labels. 1: nothing is learnt.": draw_lines(
                lines, "epoch", "residual", log_across=True
            ),
            f"Errors on test images with a wave of contrast {result.contrast:g}. In the middle all "
            "pixels of an image change alike.": draw_square_map(
                result.errors, "periods across", "periods down", "error", origin
            ),
        }

    @staticmethod
    def _names(result: Frequency) -> list[str]:
        """Return the names of the bands, from low to high frequencies."""
        last = len(result.widths)
        return ["lowest", *(f"band {i + 1}" for i in range(1, last)), "highest"]

    def tables(self, result: Frequency) -> Sequence[Table]:
        rows = []
        limits = ["∞", *(f"{width:.3g}" for width in result.widths), "0"]
        for band, name in enumerate(self._names(result)):
            half = result.half_learnt(band)
            at_half = "never" if half is None else f"{half:.1f}"
            scale = f"{limits[band]} to {limits[band + 1]}"
            rows.append((name, scale, at_half, f"{result.residuals[-1][band]:.3f}"))
        head = ("Band", "Distances of inputs", "Epochs to half", "Residual at the end")
        return [Table("Bands of frequencies of the labels", head, rows, numbers=True)]
