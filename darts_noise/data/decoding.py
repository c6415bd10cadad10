"""Image files into one uint8 tensor, by Pillow in threads.

Pillow holds no lock while it decodes, so that threads are enough. One pool serves the whole
process: any number of data sets and streams decode on as many threads as there are cores. Support
for another kind of pixel (16 bits, say) goes into `_EIGHT_BITS` and `_decode`.
"""

import functools
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
from torchvision.transforms.v2 import functional as tvf

from darts_noise.data.crops import Crop, central_crops

_GREY = frozenset({"1", "L", "LA"})
_EIGHT_BITS = _GREY | {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_TURNED = frozenset({5, 6, 7, 8})
"""Values of the EXIF orientation at which height and width change places."""

_THREADS = min(16, os.cpu_count() or 1)
_CHUNK = 128
"""Files to a task, at most: a small image decodes in less time than a task takes to hand out."""


@dataclass(frozen=True)
class Header:
    """Size in pixels, as the image is to be viewed, and whether it has a single channel."""

    height: int
    width: int
    grey: bool


def read_headers(files: Sequence[str | Path]) -> list[Header]:
    """The header of each file.

    Raises:
        ValueError: a file that is not an image, or has more than 8 bits to a channel; names it.
    """
    return [_read_header(file) for file in files]


class Decoding:
    """Files that the threads are decoding; it starts at once.

    Images are turned as their EXIF orientation says and lose their transparency. The result does
    not depend on the number of threads.

    Args:
        files: N paths.
        shape: (H, W) of the result.
        grey: one channel, else three.
        crops: the part of each image that is scaled to `shape`, bilinear with antialiasing; None
            for the central part with the proportions of `shape`, as `conversion.resize` does.
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
        # Some tasks to a thread, so that none of them is still busy while the others are done.
        chunk = min(_CHUNK, len(files) // (8 * _THREADS) + 1)

        def decode(start: int) -> None:
            part = slice(start, start + chunk)
            for index, (file, crop) in enumerate(zip(files[part], crops[part], strict=True), start):
                pixels[index] = _decode(file, shape, grey, crop)

        pool = _pool(os.getpid())
        self._pixels = pixels
        self._tasks = [pool.submit(decode, start) for start in range(0, len(files), chunk)]

    def result(self) -> Tensor:
        """Wait for the images: (N, 1 or 3, H, W), uint8.

        Raises:
            ValueError: a file that is missing, truncated or damaged; names the first.
        """
        try:
            for task in self._tasks:
                task.result()  # in order, so that the error raised is that of the first bad file
        except BaseException:
            self.cancel()
            raise
        return torch.from_numpy(self._pixels)

    def cancel(self) -> None:
        """Decode no more than what has begun."""
        for task in self._tasks:
            task.cancel()


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of this process: a process that was forked has none of its parent's."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="decoding")


def _read_header(file: str | Path) -> Header:
    with _opened(file) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation) in _TURNED
        width, height = reversed(image.size) if turned else image.size
        return Header(height, width, image.mode in _GREY)


def _decode(file: str | Path, shape: tuple[int, int], grey: bool, crop: Crop) -> NDArray[np.uint8]:
    """uint8 (1 or 3, H, W)."""
    with _opened(file) as image:
        ImageOps.exif_transpose(image, in_place=True)
        converted: Image.Image = image
        if converted.mode == "P":  # whose transparency would otherwise draw a warning
            converted = converted.convert("RGBA")
        converted = converted.convert("L" if grey else "RGB")
        whole = (0, 0, converted.height, converted.width)
        box = crop(converted.height, converted.width)
        if box != whole or box[2:] != shape:
            converted = tvf.resized_crop(converted, *box, size=list(shape), antialias=True)
        return np.asarray(converted).reshape(*shape, -1).transpose(2, 0, 1)


@contextmanager
def _opened(file: str | Path) -> Iterator[Image.Image]:
    """The opened image; whatever goes wrong with it becomes a ValueError that names the file."""
    try:
        with Image.open(file) as image:
            if image.mode not in _EIGHT_BITS:
                raise ValueError(f"expected 8 bits to a channel, got Pillow's mode {image.mode!r}")
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow names the path in some messages and a buffer's address in others.
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{file}: cannot read the image ({reason})") from error
