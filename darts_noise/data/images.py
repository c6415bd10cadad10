"""Labelled images, data sets and the normalisation of their pixels.

Images stay uint8 until a batch is made, so that a whole data set fits on the device. Images that do
not fit into memory stay in their files (`FileImages`). Add a property of a data set (such as
`flip`) to `ImageDataset`. Conversions of whole data sets belong in `conversion.py`.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from darts_noise.data.file_images import FileImages
from darts_noise.data.seeds import Stream, generator

_STATISTICS_SAMPLE = 2000
_STATISTICS_SEED = 0
"""Fixed and independent of the seed of a run: the same images get the same normalisation."""
_CHUNK = 100
"""Image files decoded at once for the statistics."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images and their classes.

    Args:
        images: (N, C, H, W), uint8: a tensor, or files that are decoded when they are indexed.
        labels: (N,), int64, each an index into `classes`.
        classes: the names of the classes, in the order of their labels.
        true_labels: (N,), int64, if some of the labels were made wrong. None: all labels are right.

    Raises:
        ValueError: a dtype or a shape is wrong, the channels are last, N differs, or a label is
            outside `classes`.
    """

    images: Tensor | FileImages
    labels: Tensor
    classes: tuple[str, ...]
    true_labels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(f"images: expected uint8 (N, C, H, W), got {_describe(self.images)}")
        if self._channels_last():
            raise ValueError(
                f"images: expected uint8 (N, C, H, W), got {_describe(self.images)}, which looks "
                "like (N, H, W, C); use images.permute(0, 3, 1, 2).contiguous()"
            )
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            raise ValueError(f"labels: expected int64 (N,), got {_describe(self.labels)}")
        if len(self.labels) != len(self.images):
            raise ValueError(
                f"labels: expected one for each of {len(self.images)} images, "
                f"got {len(self.labels)}"
            )
        if len(self.labels):
            low, high = (int(bound) for bound in self.labels.aminmax())
            if low < 0 or high >= len(self.classes):
                raise ValueError(
                    f"labels: expected 0 to {len(self.classes) - 1} for "
                    f"{len(self.classes)} classes, got {low} to {high}"
                )

    def _channels_last(self) -> bool:
        _, first, second, last = self.images.shape
        return last in (1, 3, 4) and min(first, second) > 4

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def chance(self) -> float:
        """The accuracy of the best constant answer: the share of the largest class."""
        return int(torch.bincount(self.labels).max()) / len(self)

    def subset(self, indices: Tensor | Sequence[int]) -> "LabelledImages":
        """Copy the images at `indices` (K,), in that order, with the same classes.

        Images in files are not read.
        """
        index = torch.as_tensor(indices, dtype=torch.int64, device=self.images.device)
        images = self.images
        chosen = images.subset(index) if isinstance(images, FileImages) else images[index]
        true = None if self.true_labels is None else self.true_labels[index]
        return replace(self, images=chosen, labels=self.labels[index], true_labels=true)

    def with_true_labels(self) -> "LabelledImages":
        """Return the same images without wrong labels."""
        if self.true_labels is None:
            return self
        return replace(self, labels=self.true_labels, true_labels=None)

    def to(self, device: torch.device | str) -> "LabelledImages":
        """Move images and labels to `device`. Images in files and their labels are not moved."""
        if isinstance(self.images, FileImages):
            return self
        true = None if self.true_labels is None else self.true_labels.to(device)
        return replace(
            self, images=self.images.to(device), labels=self.labels.to(device), true_labels=true
        )


def _describe(tensor: Tensor | FileImages) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


@dataclass(frozen=True)
class ImageDataset:
    """A named data set with its own training and test images.

    Args:
        name: the registered name.
        train: the training images. The validation images for α are split off from them.
        test: the test images. No search and no training may use them.
        flip: whether a mirror image keeps its class. Objects do; digits do not.

    Raises:
        ValueError: train and test differ in their classes or in the shape of an image.
    """

    name: str
    train: LabelledImages
    test: LabelledImages
    flip: bool

    def __post_init__(self) -> None:
        if self.train.classes != self.test.classes:
            raise ValueError(
                f"{self.name}: expected the classes of train in test, {self.train.classes}, "
                f"got {self.test.classes}"
            )
        if self.train.shape != self.test.shape:
            raise ValueError(
                f"{self.name}: expected test images of shape {self.train.shape} as in train, "
                f"got {self.test.shape}"
            )


@dataclass(frozen=True)
class Normalisation:
    """The per-channel map `(x / 255 - mean) / std`, with mean and std on the scale [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError(f"std: expected {len(self.mean)} channels, got {len(self.std)}")
        if not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"std: expected finite positive values, got {self.std}")

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise images.

        Args:
            images: (B, C, H, W), uint8 or floating, values from 0 to 255.

        Returns:
            float32 (B, C, H, W) on the images' device.

        Raises:
            ValueError: images and statistics differ in the number of channels.
        """
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ValueError(
                f"images: expected (B, {len(self.mean)}, H, W), got {tuple(images.shape)}"
            )
        scale, black = _constants(self, images.device)
        return torch.addcmul(black, images.to(torch.float32), scale)

    def pixels(self, images: Tensor) -> Tensor:
        """Return the pixels, from 0 to 1, of normalised images (B, C, H, W)."""
        scale, black = _constants(self, images.device)
        return (images - black) / (255 * scale)

    def black(self, device: torch.device | str = "cpu") -> Tensor:
        """Return the normalised value of a black pixel, `-mean / std`: float32 (C, 1, 1)."""
        return _constants(self, torch.device(device))[1]


@functools.lru_cache(maxsize=64)
def _constants(normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return scale and offset on `device`, each (C, 1, 1). Cached: a copy to a GPU synchronises."""
    # A tensor made in inference mode cannot be used in a later backward pass.
    with torch.inference_mode(False):
        mean = torch.tensor(normalisation.mean, dtype=torch.float64).view(-1, 1, 1)
        std = torch.tensor(normalisation.std, dtype=torch.float64).view(-1, 1, 1)
        scale, black = 1 / (255 * std), -mean / std
        return scale.to(device, torch.float32), black.to(device, torch.float32)


def channel_statistics(images: Tensor | FileImages, shared: bool = False) -> Normalisation:
    """Return mean and population standard deviation of each channel, in exact arithmetic.

    A uint8 pixel has 256 values, so the moments are integer sums over a histogram. This needs no
    float copy of the images and gives the same result on every device. The std of a constant
    channel is 1, so that the channel is normalised to zeros and not to 0 / 0.

    For images in files, at most 2,000 random images are decoded. The choice depends only on N.

    Args:
        images: (N, C, H, W), uint8, N ≥ 1.
        shared: use the statistics of the pixels of all channels for every channel. Default: False.

    Raises:
        ValueError: there are no images, they are not uint8 of rank 4, or a file cannot be read.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape.numel() == 0:
        raise ValueError(f"images: expected non-empty uint8 (N, C, H, W), got {_describe(images)}")
    histograms = _histograms(images)
    if shared:
        histograms = [[sum(counts) for counts in zip(*histograms, strict=True)]] * len(histograms)
    mean, std = [], []
    for counts in histograms:
        pixels = sum(counts)
        first = sum(value * count for value, count in enumerate(counts))
        second = sum(value**2 * count for value, count in enumerate(counts))
        squared_spread = pixels * second - first**2  # pixels² × the variance, an exact integer
        mean.append(first / (255 * pixels))
        std.append(math.sqrt(squared_spread) / (255 * pixels) if squared_spread else 1.0)
    return Normalisation(tuple(mean), tuple(std))


def _histograms(images: Tensor | FileImages) -> list[list[int]]:
    """Count how often each of the 256 values occurs in each of the C channels."""
    if isinstance(images, Tensor):
        channels = images.unbind(1)  # C times (N, H, W)
        return [torch.bincount(pixels.flatten(), minlength=256).tolist() for pixels in channels]
    random = generator(_STATISTICS_SEED, Stream.STATISTICS)
    chosen = torch.randperm(len(images), generator=random)[:_STATISTICS_SAMPLE]
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for start in range(0, len(chosen), _CHUNK):
        counts += torch.tensor(_histograms(images[chosen[start : start + _CHUNK]]))
    return [channel.tolist() for channel in counts]
