"""Decode image files into one uint8 tensor, with Pillow in threads.

Threads are enough, because Pillow releases the interpreter lock while it decodes. All data sets and
streams of a process share one pool, with one thread per core and at most 16. To support another
kind of pixel (such as floats), add its mode here and convert it in `_eight_bits`.
"""

import functools
import os
import struct
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

from darts_noise.data.crops import Crop, central_crops

_SIXTEEN_BITS = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_GREY = _SIXTEEN_BITS | {"1", "L", "LA"}
_KNOWN = _GREY | {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_TURNED = frozenset({5, 6, 7, 8})
"""Values of the EXIF orientation that swap height and width."""

_THREADS = min(16, os.cpu_count() or 1)
_CHUNK = 128
"""Largest number of files in a task. Starting a task takes longer than decoding a small image."""


@dataclass(frozen=True)
class Header:
    """Size of an image in pixels, after its EXIF rotation, and whether it has one channel."""

    height: int
    width: int
    grey: bool


def read_header(file: str | Path) -> Header:
    """Read the header of a file.

    Raises:
        ValueError: the file is not an image, or its pixels have neither 8 nor 16 bits per channel.
            The message names the file.
    """
    with _opened(file) as image:
        width, height = image.size
        if image.format == "TIFF":  # some versions of Pillow give the size after the rotation
            tags = image.tag_v2  # type: ignore[attr-defined]
            width, height = tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]
        if orientation(image) in _TURNED:
            width, height = height, width
        return Header(height, width, image.mode in _GREY)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, or 1 if its EXIF data cannot be read."""
    if image.format == "PNG":
        image.load()  # its EXIF data may follow the pixels, whose errors are not ignored
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, SyntaxError, TypeError, ValueError, struct.error):
        return 1


class Decoding:
    """Image files that threads are decoding. Decoding starts in the constructor.

    Images are rotated by their EXIF orientation and lose their transparency. Grey levels of
    16 bits are scaled to 8 bits. The result does not depend on the number of threads.

    Args:
        files: N paths.
        shape: (H, W) of the result.
        grey: True: one channel. False: three channels.
        crops: the part of each image that is scaled to `shape` (bilinear, antialiased). None: the
            largest central part with the proportions of `shape`, as in `conversion.resize`.
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        shape: tuple[int, int],
        grey: bool,
        crops: Sequence[Crop] | None = None,
    ) -> None:
        crops = central_crops(len(files), shape, 1.0) if crops is None else crops
        pixels = np.empty((len(files), 1 if grey else 3, *shape), np.uint8)
        # Several tasks per thread, so that no thread is still busy when the others have finished.
        chunk = min(_CHUNK, len(files) // (8 * _THREADS) + 1)

        def decode(start: int) -> None:
            part = slice(start, start + chunk)
            for index, (file, crop) in enumerate(zip(files[part], crops[part], strict=True), start):
                pixels[index] = _decode(file, shape, grey, crop)

        pool = _pool(os.getpid())
        self._pixels = pixels
        self._tasks = [pool.submit(decode, start) for start in range(0, len(files), chunk)]

    def result(self) -> Tensor:
        """Wait for the images and return them: uint8 (N, 1 or 3, H, W).

        Raises:
            ValueError: a file is missing, truncated or damaged. The message names the first such
                file.
        """
        try:
            for task in self._tasks:
                task.result()  # in order, so that the error names the first bad file
        except BaseException:
            self.cancel()
            raise
        return torch.from_numpy(self._pixels)

    def cancel(self) -> None:
        """Cancel the tasks that have not started."""
        for task in self._tasks:
            task.cancel()


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the threads of this process. A forked process has none of its parent's threads."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="decoding")


def _decode(file: str | Path, shape: tuple[int, int], grey: bool, crop: Crop) -> NDArray[np.uint8]:
    """Decode one file: uint8 (1 or 3, H, W)."""
    with _opened(file) as image:
        if orientation(image) != 1:
            ImageOps.exif_transpose(image, in_place=True)
        return pixels_of(image, shape, grey, crop)


def pixels_of(
    image: Image.Image, shape: tuple[int, int], grey: bool, crop: Crop
) -> NDArray[np.uint8]:
    """Convert an image in memory, scaled to `shape`: uint8 (1 or 3, H, W)."""
    converted = image
    if converted.mode in _SIXTEEN_BITS:
        converted = _eight_bits(converted)
    if converted.mode == "P":  # Pillow warns about a palette with transparency
        converted = converted.convert("RGBA")
    converted = converted.convert("L" if grey else "RGB")
    whole = (0, 0, converted.height, converted.width)
    box = crop(converted.height, converted.width)
    if box != whole or box[2:] != shape:
        from torchvision.transforms.v2 import functional as tvf

        converted = tvf.resized_crop(converted, *box, size=list(shape), antialias=True)
    return np.asarray(converted).reshape(*shape, -1).transpose(2, 0, 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale grey levels from 0 … 65,535 to 0 … 255."""
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 0xFFFF:
        raise ValueError(
            f"expected grey levels from 0 to 65535, got {levels.min()} to {levels.max()}"
        )
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


@contextmanager
def _opened(file: str | Path) -> Iterator[Image.Image]:
    """Open an image. Any error with it becomes a ValueError that names the file."""
    try:
        with Image.open(file) as image:
            if image.mode not in _KNOWN:
                raise ValueError(
                    f"expected 8 or 16 bits to a channel, got Pillow's mode {image.mode!r}"
                )
            yield image
    except (
        OSError,
        RuntimeError,
        SyntaxError,
        ValueError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        # Pillow names the path in some messages and a buffer's address in others.
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{file}: cannot read the image ({reason})") from error
