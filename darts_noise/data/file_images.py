"""Keep images in their files until a batch needs them.

`FileImages` replaces a tensor of all images and decodes any selection of them. `ReadAhead` decodes
the next batch while the current batch is used. To store images in another way (one large file, a
memory map), write another class with the interface of `FileImages`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from darts_noise.data import memory
from darts_noise.data.crops import Crop
from darts_noise.data.decoding import Decoding


class FileImages:
    """Image files that can be indexed like a uint8 tensor (N, C, H, W).

    `images[indices]` decodes these files in threads. If an image has another size, its largest
    central part with the proportions of H × W is scaled to H × W. Nothing is cached and nothing is
    random: the same indices give the same pixels.

    Args:
        files: N paths.
        shape: (C, H, W) of each image, C = 1 or 3, in pixels.
    """

    dtype = torch.uint8
    ndim = 4
    device = torch.device("cpu")

    def __init__(self, files: Sequence[str | Path], shape: tuple[int, int, int]) -> None:
        self.files = [str(file) for file in files]
        self._shape = shape

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        return torch.Size((len(self.files), *self._shape))

    @property
    def nbytes(self) -> int:
        """Bytes that all images would take in memory."""
        return self.shape.numel()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Decode the images at `indices` (K,): uint8 (K, C, H, W).

        Raises:
            ValueError: a file cannot be read, or the images do not fit into the available memory.
        """
        needed = len(indices) * self._shape[0] * self._shape[1] * self._shape[2]
        if needed > (available := memory.available_memory()):
            raise ValueError(
                f"images on disk: expected a selection that fits into the available memory of "
                f"{memory.describe(available)}, got {len(indices):,} images of "
                f"{memory.describe(needed)}; select fewer images, or reduce data.image_size"
            )
        return self.begin(indices).result()

    def begin(self, indices: Tensor, crops: Sequence[Crop] | None = None) -> Decoding:
        """Start to decode the images at `indices` (K,), and return without waiting.

        Args:
            indices: (K,), int64.
            crops: the part of each file's image that is scaled to H × W. None: the central part.
        """
        channels, height, width = self._shape
        files = [self.files[index] for index in indices.tolist()]
        return Decoding(files, (height, width), channels == 1, crops)

    def subset(self, indices: Tensor) -> "FileImages":
        """Select the images at `indices` (K,), in that order, without decoding them."""
        return FileImages([self.files[index] for index in indices.tolist()], self._shape)

    def cpu(self) -> "FileImages":
        return self

    def contiguous(self) -> Tensor:
        """Decode all images into memory: uint8 (N, C, H, W)."""
        return self[torch.arange(len(self))]


class ReadAhead:
    """A reader of numbered batches that decodes the next batch while the current batch is used.

    At most two batches are in memory: the current batch and the next. A caller may ask for any
    batch; the images are the same, but the caller waits longer.
    """

    def __init__(self) -> None:
        self._ahead: tuple[int, Decoding] | None = None

    def __call__(self, begin: Callable[[int], Decoding], k: int, following: int | None) -> Tensor:
        """Return batch `k`, and start to decode the batch `following`.

        Args:
            begin: starts to decode a batch, given its number.
            k: the batch to return.
            following: the batch to decode next. None: no batch.

        Returns:
            uint8 (B, C, H, W).

        Raises:
            ValueError: a file of batch `k` cannot be read. The message names the file.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == k:
            decoding = ahead[1]
        else:
            if ahead is not None:
                ahead[1].cancel()
            decoding = begin(k)
        if following is not None:
            self._ahead = following, begin(following)
        return decoding.result()
