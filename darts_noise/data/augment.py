"""Augmentation of whole batches on the device of the images: crop, flip, cutout.

The parameters (offsets, mirrorings, centres) are drawn per sample on the CPU and then moved, so
that a run on the CPU and one on a GPU see the same augmentation from the same generator. A new one
is a pure function here, a field of `Augmentation` and a line of its `__call__`; append the line,
since each draws from the generator in turn.

References:
    [1] DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout,
        2017, arXiv:1708.04552.
    [2] Liu, Simonyan and Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
        arXiv:1806.09055: crop with 4 black pixels, flip, normalise, cutout 16 (on 32 × 32).
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def random_crop(
    images: Tensor, padding: int, generator: torch.Generator, fill: Tensor | float = 0.0
) -> Tensor:
    """Shift each image by up to `padding` pixels each way: pad, then crop at a random offset.

    Args:
        images: (B, C, H, W), any dtype.
        padding: pixels added on every side.
        generator: a CPU generator.
        fill: the value of the padding: a number, or one per channel (C, 1, 1).

    Returns:
        (B, C, H, W), the same dtype and device.
    """
    if padding == 0:
        return images
    B, C, H, W = images.shape
    device = images.device
    offsets = torch.randint(0, 2 * padding + 1, (2, B, 1), generator=generator)
    top, left = offsets.to(device, non_blocking=True)  # each (B, 1)
    padded = torch.empty(
        (B, C, H + 2 * padding, W + 2 * padding), dtype=images.dtype, device=device
    )
    padded[:] = fill
    padded[:, :, padding : padding + H, padding : padding + W] = images
    rows = top + torch.arange(H, device=device)  # (B, H)
    columns = left + torch.arange(W, device=device)  # (B, W)
    sample = torch.arange(B, device=device)[:, None, None, None]
    channel = torch.arange(C, device=device)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half.

    Args:
        images: (B, C, H, W), any dtype.
        generator: a CPU generator.

    Returns:
        (B, C, H, W), the same dtype and device.
    """
    mirrored = torch.randint(0, 2, (len(images), 1, 1, 1), generator=generator) == 1
    return torch.where(mirrored.to(images.device, non_blocking=True), images.flip(-1), images)


def cutout(images: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Set a square of each image to zero [1].

    The centre is uniform over the pixels and the square is clipped at the border, so that its area
    varies, as in [1]. On normalised images zero is the mean.

    Args:
        images: (B, C, H, W), any dtype.
        length: the side of the square in pixels.
        generator: a CPU generator.

    Returns:
        (B, C, H, W), the same dtype and device.
    """
    if length == 0:
        return images
    B, _, H, W = images.shape
    device = images.device
    centres = torch.stack(
        [torch.randint(0, side, (B, 1), generator=generator) for side in (H, W)]
    )  # (2, B, 1)
    top, left = (centres - length // 2).to(device, non_blocking=True)  # each (B, 1)
    rows = torch.arange(H, device=device)
    columns = torch.arange(W, device=device)
    in_rows = (rows >= top) & (rows < top + length)  # (B, H)
    in_columns = (columns >= left) & (columns < left + length)  # (B, W)
    square = in_rows[:, None, :, None] & in_columns[:, None, None, :]  # (B, 1, H, W)
    return images.masked_fill(square, 0)


@dataclass(frozen=True)
class Augmentation:
    """Crop, then flip, then cutout, of normalised images; the default leaves them as they are.

    Args:
        crop_padding: black pixels added on every side before the random crop; 0 for none.
        flip: mirror half of the images.
        cutout: side of the square that is set to the mean; 0 for none.

    Raises:
        ValueError: a negative number of pixels.
    """

    crop_padding: int = 0
    flip: bool = False
    cutout: int = 0

    def __post_init__(self) -> None:
        for name, pixels in (("crop_padding", self.crop_padding), ("cutout", self.cutout)):
            if pixels < 0:
                raise ValueError(f"{name}: expected 0 or more pixels, got {pixels}")

    def __call__(
        self, images: Tensor, generator: torch.Generator, black: Tensor | float = 0.0
    ) -> Tensor:
        """Augment a batch.

        The result is that of the pipeline of [2], in which the crop comes before the normalisation
        and pads with black, and cutout comes after it and fills with the mean: pass the normalised
        value of black as `black`.

        Args:
            images: (B, C, H, W), normalised.
            generator: a CPU generator.
            black: the padding of the crop, `Normalisation.black(device)` (C, 1, 1) or a number.

        Returns:
            (B, C, H, W), the same dtype and device.
        """
        images = random_crop(images, self.crop_padding, generator, fill=black)
        if self.flip:
            images = random_flip(images, generator)
        return cutout(images, self.cutout, generator)
