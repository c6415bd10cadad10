"""Images that stay in their files until a batch asks for them.

`FileImages` stands where a tensor of all images would and gives the pixels of any selection;
`ReadAhead` has the next batch decoded while one is used. Images kept in another way (one large
file, a memory map) are another class with the interface of `FileImages`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from darts_noise.data import memory
from darts_noise.data.crops import Crop
from darts_noise.data.decoding import Decoding


class FileImages:
    """Files in place of a uint8 tensor (N, C, H, W), with the part of its interface that is used.

    `images[indices]` decodes those files, in threads, and is what the tensor of all images would
    give: of an image of another size, the central part scaled to H × W. Nothing is kept, and
    nothing is random, so the same indices give the same pixels.

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
        """What all images take in memory."""
        return self.shape.numel()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Decode the images at `indices` (K,): uint8 (K, C, H, W).

        Raises:
            ValueError: a file that cannot be read, or more images than there is memory for.
        """
        needed = len(indices) * self._shape[0] * self._shape[1] * self._shape[2]
        if needed > (available := memory.available_memory()):
            raise ValueError(
                f"images on disk: expected a selection that fits into the "
                f"{memory.describe(available)} of memory available, got {len(indices):,} images of "
                f"{memory.describe(needed)}; ask for fewer, or set data.image_size to a smaller one"
            )
        return self.begin(indices).result()

    def begin(self, indices: Tensor, crops: Sequence[Crop] | None = None) -> Decoding:
        """Begin to decode the images at `indices` (K,), and return without waiting.

        Args:
            indices: (K,), int64.
            crops: the part of each file's image that is scaled to H × W; None for the central one.
        """
        channels, height, width = self._shape
        files = [self.files[index] for index in indices.tolist()]
        return Decoding(files, (height, width), channels == 1, crops)

    def subset(self, indices: Tensor) -> "FileImages":
        """The images at `indices` (K,), in that order, without decoding any."""
        return FileImages([self.files[index] for index in indices.tolist()], self._shape)

    def cpu(self) -> "FileImages":
        return self

    def contiguous(self) -> Tensor:
        """All images in memory: uint8 (N, C, H, W)."""
        return self[torch.arange(len(self))]


class ReadAhead:
    """Numbered batches of images, of which the next is decoded while one is used.

    At most two batches are in memory: the one asked for and the next. Asking for another than the
    next is allowed, and gives the same images later.
    """

    def __init__(self) -> None:
        self._ahead: tuple[int, Decoding] | None = None

    def __call__(self, begin: Callable[[int], Decoding], k: int, following: int | None) -> Tensor:
        """Batch `k`; and begin with the batch that will be asked for next.

        Args:
            begin: starts to decode a batch, given its number.
            k: the batch to wait for.
            following: the next; None for none.

        Returns:
            uint8 (B, C, H, W).

        Raises:
            ValueError: a file of batch `k` that cannot be read; names it.
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
