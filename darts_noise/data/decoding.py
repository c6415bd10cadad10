"""Image files into one uint8 tensor, by Pillow in threads.

Headers are read first: they are cheap, so that a wrong file is reported at once and the tensor can
be allocated before the first image is decoded into it. Support for another kind of pixel (16 bits,
say) goes into `_EIGHT_BITS` and `_decode`.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

_GREY = frozenset({"1", "L", "LA"})
_EIGHT_BITS = _GREY | {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_TURNED = frozenset({5, 6, 7, 8})
"""Values of the EXIF orientation at which height and width change places."""

_CHUNK = 128
"""Files to a task: a small image decodes in less time than a task takes to hand out."""


@dataclass(frozen=True)
class Header:
    """Size in pixels, as the image is to be viewed, and whether it has a single channel."""

    height: int
    width: int
    grey: bool


def read_headers(files: Sequence[Path]) -> list[Header]:
    """The header of each file.

    Raises:
        ValueError: a file that is not an image, or has more than 8 bits to a channel; names it.
    """
    return [_read_header(file) for file in files]


def decode_images(files: Sequence[Path], shape: tuple[int, int], grey: bool) -> Tensor:
    """Decode the files, turned as their EXIF orientation says and without their transparency.

    Args:
        files: N paths.
        shape: (H, W); of an image of another size, the central square is scaled to it, bilinear
            with antialiasing, as `conversion.resize` does.
        grey: one channel, else three.

    Returns:
        (N, 1 or 3, H, W), uint8.

    Raises:
        ValueError: a file that is truncated or damaged; names it.
    """
    images = torch.empty((len(files), 1 if grey else 3, *shape), dtype=torch.uint8)
    pixels = images.numpy()  # the same memory

    def decode(start: int) -> None:
        for index, file in enumerate(files[start : start + _CHUNK], start):
            pixels[index] = _decode(file, shape, grey)

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        try:
            for _ in pool.map(decode, range(0, len(files), _CHUNK)):
                pass  # in order, so that the error raised is that of the first bad file
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return images


def _read_header(file: Path) -> Header:
    with _opened(file) as image:
        if image.mode not in _EIGHT_BITS:
            raise ValueError(f"expected 8 bits to a channel, got Pillow's mode {image.mode!r}")
        turned = image.getexif().get(ExifTags.Base.Orientation) in _TURNED
        width, height = reversed(image.size) if turned else image.size
        return Header(height, width, image.mode in _GREY)


def _decode(file: Path, shape: tuple[int, int], grey: bool) -> NDArray[np.uint8]:
    """uint8 (1 or 3, H, W)."""
    height, width = shape
    with _opened(file) as image:
        ImageOps.exif_transpose(image, in_place=True)
        converted: Image.Image = image
        if converted.mode == "P":  # whose transparency would otherwise draw a warning
            converted = converted.convert("RGBA")
        converted = converted.convert("L" if grey else "RGB")
        if converted.size != (width, height):
            side = min(converted.size)
            left, top = (converted.width - side) // 2, (converted.height - side) // 2
            square = converted.crop((left, top, left + side, top + side))
            converted = square.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(converted).reshape(height, width, -1).transpose(2, 0, 1)


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """The opened image; whatever goes wrong with it becomes a ValueError that names the file."""
    try:
        with Image.open(file) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow names the path in some messages and a buffer's address in others.
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{file}: cannot read the image ({reason})") from error
