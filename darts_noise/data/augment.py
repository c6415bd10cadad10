"""Augment whole batches on the device of the images: crop, colours, flip, cutout.

The parameters (offsets, flips, centres) are drawn per sample on the CPU and then moved to the
device. The same generator therefore gives the same augmentation on a CPU and on a GPU.

To add an augmentation, write a pure function, add a field to `Augmentation` and call the function
in one of its three steps: `crops` (on the stored image), `on_pixels` (before the normalisation) or
`__call__` (after the normalisation). Append the call at the end of the step, because all calls draw
from the same generator. Draw nothing when the augmentation is off.

References:
    [1] DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout,
        2017, arXiv:1708.04552.
    [2] Liu, Simonyan and Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
        arXiv:1806.09055. CIFAR (32 × 32): crop with 4 black pixels, flip, normalise, cutout 16.
        ImageNet: random resized crop, flip, colour jitter 0.4, normalise.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from darts_noise.data.colour import color_jitter
from darts_noise.data.crops import Crop, random_crops


def random_crop(
    images: Tensor, padding: int, generator: torch.Generator, fill: Tensor | float = 0.0
) -> Tensor:
    """Pad each image and crop it at a random offset: a shift of up to `padding` pixels.

    Args:
        images: (B, C, H, W), any dtype.
        padding: pixels added on every side. 0: return the images unchanged.
        generator: a CPU generator.
        fill: value of the padding, a number or one value per channel (C, 1, 1). Default: 0.

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
    """Mirror each image left to right with probability 1/2.

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

    The centre is uniform over the pixels. The square is clipped at the border, so its area varies,
    as in [1]. On normalised images, zero is the mean.

    Args:
        images: (B, C, H, W), any dtype.
        length: side of the square in pixels. 0: return the images unchanged.
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
    """The augmentation of training images. The default changes nothing.

    There are three steps: `crops`, then `on_pixels`, then (after the normalisation) `__call__`. All
    three draw from the generator of the batch, in this order.

    Args:
        crop_padding: black pixels added on every side before the random crop. 0: no crop.
        flip: mirror each image with probability 1/2.
        cutout: side in pixels of the square that is set to the mean. 0: no cutout.
        random_resized_crop: scale a random part of the image to the size of the image; see
            `crops.random_box`. It excludes the padded crop.
        color_jitter: strength of the colour changes, 0 to 1. 0: no change.

    `DataConfig` checks the values.
    """

    crop_padding: int = 0
    flip: bool = False
    cutout: int = 0
    random_resized_crop: bool = False
    color_jitter: float = 0.0

    def crops(self, n: int, generator: torch.Generator) -> list[Crop] | None:
        """Draw the crops of `n` images for `crop_and_scale` or a decoder. None: whole images."""
        return random_crops(n, generator) if self.random_resized_crop else None

    def on_pixels(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change the colours of a batch that is not yet normalised.

        Args:
            images: (B, C, H, W), uint8.
            generator: a CPU generator.

        Returns:
            (B, C, H, W), values from 0 to 255: float32 if `color_jitter` is on, otherwise the input
            images.

        Raises:
            ValueError: `color_jitter` is on and the images do not have three channels.
        """
        if not self.color_jitter:
            return images
        return color_jitter(images / 255, self.color_jitter, generator) * 255

    def __call__(
        self, images: Tensor, generator: torch.Generator, black: Tensor | float = 0.0
    ) -> Tensor:
        """Apply the padded crop, the flip and the cutout to a normalised batch, in this order.

        In [2] the crop comes before the normalisation and pads with black; the cutout comes after
        the normalisation and fills with the mean. This method gives the same result if `black` is
        the normalised value of black.

        Args:
            images: (B, C, H, W), normalised.
            generator: a CPU generator.
            black: value of the padding, `Normalisation.black(device)` (C, 1, 1) or a number.
                Default: 0.

        Returns:
            (B, C, H, W), the same dtype and device.
        """
        images = random_crop(images, self.crop_padding, generator, fill=black)
        if self.flip:
            images = random_flip(images, generator)
        return cutout(images, self.cutout, generator)
