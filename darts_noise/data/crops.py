"""Crop images and scale the crops to one size: the central part or a random part (Inception crop).

A crop is a function of the height and width of an image. The same function works for an image in
memory and for a file, whose size is known only once it is open. Add other ways to choose a part
(such as ten fixed parts) as functions that return a `Box`.

References:
    [1] Szegedy et al., Going Deeper with Convolutions, CVPR 2015, arXiv:1409.4842, section 6.
    [2] torchvision's RandomResizedCrop; `random_box` has the same procedure and distribution.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_TRIES = 10
_DRAWS = 2 * _TRIES + 2
"""Area and aspect for each try, and the position of the accepted try."""


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


Crop = Callable[[int, int], Box]
"""(height, width) of an image → the part to keep."""


def central_box(shape: tuple[int, int], share: float, height: int, width: int) -> Box:
    """Return the largest central part with the proportions of `shape`, its sides times `share`.

    For a square `shape` of side S, this is the central square whose side is `share` of the shorter
    side. Scaling the shorter side to S / share and cutting out the central S × S is the same.
    """
    scale = share * min(height / shape[0], width / shape[1])
    h, w = (max(1, round(scale * side)) for side in shape)
    return Box((height - h) // 2, (width - w) // 2, h, w)


def random_box(draws: Sequence[float], height: int, width: int) -> Box:
    """Return a random part: 8% to 100% of the area, aspect (width / height) 3/4 to 4/3 [1].

    As in [2], the area and the logarithm of the aspect are uniform. There are ten tries; the first
    part that fits into the image is used, at a uniform position. If none fits, the result is the
    central part with the nearest allowed aspect.

    Args:
        draws: 22 numbers, each uniform in [0, 1).
        height: height of the image in pixels.
        width: width of the image in pixels.
    """
    low, high = (math.log(aspect) for aspect in _ASPECT)
    *tries, y, x = draws
    for u, v in zip(tries[::2], tries[1::2], strict=True):
        area = height * width * (_AREA[0] + u * (_AREA[1] - _AREA[0]))
        aspect = math.exp(low + v * (high - low))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return Box(int(y * (height - h + 1)), int(x * (width - w + 1)), h, w)
    h, w = min(height, round(width / _ASPECT[0])), min(width, round(height * _ASPECT[1]))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def central_crops(n: int, shape: tuple[int, int], share: float) -> list[Crop]:
    """Return `n` central crops for images of `shape` (H, W); see `central_box`."""
    return [partial(central_box, shape, share)] * n


def random_crops(n: int, generator: torch.Generator) -> list[Crop]:
    """Draw `n` random crops; see `random_box`.

    The number of draws does not depend on the sizes of the images.

    Args:
        n: the number of crops.
        generator: a CPU generator.
    """
    draws = torch.rand((n, _DRAWS), generator=generator, dtype=torch.float64)
    return [partial(random_box, row) for row in draws.tolist()]


def crop_and_scale(images: Tensor, crops: Sequence[Crop]) -> Tensor:
    """Crop each image and scale the crop to the size of the image (bilinear, antialiased).

    Args:
        images: (B, C, H, W), any dtype.
        crops: B crops, one per image.

    Returns:
        (B, C, H, W), the same dtype and device.
    """
    from torchvision.transforms.v2 import functional as tvf

    size = list(images.shape[-2:])
    boxes = [crop(*size) for crop in crops]
    if len(set(boxes)) == 1:
        if boxes[0] == (0, 0, *size):
            return images
        scaled: Tensor = tvf.resized_crop(images, *boxes[0], size=size, antialias=True)
        return scaled.contiguous()
    return torch.stack(
        [
            tvf.resized_crop(image, *box, size=size, antialias=True)
            for image, box in zip(images, boxes, strict=True)
        ]
    )
