"""Convert whole data sets to another size or number of channels, with the arithmetic of Pillow.

`load_dataset` calls `convert` on the result of a loader. Conversions of single batches belong in
`augment.py`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_noise.data import memory
from darts_noise.data.file_images import FileImages
from darts_noise.data.images import LabelledImages
from darts_noise.errors import SettingError

_CHUNK = 4096
"""Images converted at once. It limits the memory for intermediate results."""


def resize(images: Tensor, size: int) -> Tensor:
    """Cut out the central square and scale it (bilinear, antialiased).

    Args:
        images: (N, C, H, W), uint8.
        size: the new height and width in pixels.

    Returns:
        (N, C, size, size), uint8.

    Raises:
        ValueError: the result does not fit into the available memory.
    """
    N, C, H, W = images.shape
    if H == W == size:
        return images
    needed = N * C * size * size
    if needed > (available := memory.available_memory()):
        raise SettingError(
            "image_size",
            f"expected images that fit into the available memory of {memory.describe(available)}, "
            f"got {size}, which needs {memory.describe(needed)}",
        )
    side = min(H, W)
    top, left = (H - side) // 2, (W - side) // 2
    square = images[:, :, top : top + side, left : left + side]
    resized = torch.empty((N, C, size, size), dtype=torch.uint8)
    for start in range(0, N, _CHUNK):
        part = square[start : start + _CHUNK]
        resized[start : start + _CHUNK] = F.interpolate(
            part, (size, size), mode="bilinear", antialias=True
        )
    return resized


def recolour(images: Tensor, grey: bool | None) -> Tensor:
    """Convert colour to grey (luma of ITU-R BT.601), or repeat a grey channel three times.

    Args:
        images: (N, C, H, W), uint8, C = 1 or 3.
        grey: True: one channel. False: three channels. None: leave the images unchanged.

    Returns:
        (N, 1 or 3, H, W), uint8.
    """
    N, C, H, W = images.shape
    if grey is None or (C == 1) == grey:
        return images
    if not grey:
        return images.expand(N, 3, H, W).contiguous()
    luma = torch.empty((N, 1, H, W), dtype=torch.uint8)
    for start in range(0, N, _CHUNK):
        red, green, blue = images[start : start + _CHUNK].int().unbind(1)
        # Pillow's integer form of 0.299 R + 0.587 G + 0.114 B, rounded.
        grey_levels = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
        luma[start : start + _CHUNK, 0] = grey_levels
    return luma


def convert(data: LabelledImages, image_size: int | None, grey: bool | None) -> LabelledImages:
    """Convert the images to another size and number of channels. None leaves either unchanged.

    Images in files are returned unchanged, because the decoder gives them the requested size.
    """
    if isinstance(data.images, FileImages):
        return data
    images = recolour(data.images, grey)
    if image_size is not None:
        images = resize(images, image_size)
    return LabelledImages(images, data.labels, data.classes)
