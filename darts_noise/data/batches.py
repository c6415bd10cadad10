"""Compute batch k of a data set as a pure function of a seed and k.

Batch k of a stream depends only on (seed, k), so a resumed run needs only k to continue exactly.
There are no worker processes, no iterators to restart and no hidden state.

Images in memory are already on the device. For images in files, threads decode the next batch while
the current batch is used; this does not change the pixels.

To add another order of the samples (class-balanced, curriculum), change `_order`. It must draw only
from (seed, epoch).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from darts_noise.data.augment import Augmentation
from darts_noise.data.crops import Crop, central_crops, crop_and_scale
from darts_noise.data.decoding import Decoding
from darts_noise.data.file_images import FileImages, ReadAhead
from darts_noise.data.images import LabelledImages, Normalisation
from darts_noise.data.seeds import Stream, generator
from darts_noise.errors import SettingError

Batch = tuple[Tensor, Tensor]
"""Normalised images, float32 (B, C, H, W), and labels, int64 (B,)."""


def leaves_one(count: int, batch_size: int, world_size: int = 1) -> bool:
    """Return whether the last batch of an epoch gives a process one image, which others do not get.

    A batch norm cannot train on one image with a map of 1×1: such an image has no variance.

    >>> leaves_one(18, 17), leaves_one(18, 16), leaves_one(18, 1), leaves_one(19, 16, world_size=2)
    (True, False, False, True)
    """
    if count <= batch_size or batch_size < 2 * world_size:
        return False
    return world_size <= count % batch_size < 2 * world_size


class BatchStream:
    """An endless stream of normalised batches, each computed from its number.

    Epoch e holds the batches e·n to (e+1)·n - 1, where n is `batches_per_epoch`. The order of its
    samples is drawn from (seed, e). The augmentation of batch k is drawn from (seed, k, rank).

    With more than one process, `batch_size` counts the samples of all processes. Process `rank`
    computes the samples rank, rank + world_size, ... of each batch, so no sample occurs twice. If
    the last batch of an epoch is smaller (drop_last=False), the parts of the processes differ by at
    most one sample. A remainder smaller than the number of processes joins the batch before it.
    Therefore no process gets an empty batch, and all processes make the same number of steps.

    Args:
        data: the images. Images in memory are moved to `device` once, as uint8; images in files are
            moved batch by batch.
        batch_size: samples in a batch, over all processes.
        normalisation: applied to every batch.
        seed: seed of the order and of the augmentation. Default: 0.
        augmentation: None: no augmentation. A random resized crop is taken from the stored image;
            for images in files, from the whole image in the file.
        crop_pct: share of height and width, for evaluation. The central part with this share is
            scaled to the size of the images. For images in files, the share refers to the largest
            central part of the file's image that has the proportions of H × W. It is ignored when
            a random crop is on. Default: 1, the whole image.
        shuffle: draw a new random order in each epoch (default). False: keep the order of `data`.
        drop_last: skip the samples of an epoch that do not fill a batch (default).
        device: device of the batches.
        rank: the number of this process.
        world_size: the number of processes.

    Raises:
        ValueError: the data cannot fill the batch size, the processes cannot share it equally, or
            `crop_pct` is not more than 0 and at most 1.
    """

    def __init__(
        self,
        data: LabelledImages,
        batch_size: int,
        normalisation: Normalisation,
        *,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        crop_pct: float = 1.0,
        shuffle: bool = True,
        drop_last: bool = True,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise SettingError("rank", f"expected 0 to {world_size - 1}, got {rank}")
        if batch_size < 1 or batch_size % world_size:
            raise SettingError(
                "batch_size",
                f"expected a positive multiple of the {world_size} processes, got {batch_size}",
            )
        needed = batch_size if drop_last else world_size
        if len(data) < needed:
            raise SettingError(
                "batch_size",
                f"expected at least {needed} images for batches of {batch_size}, got {len(data)}",
            )
        if seed < 0:
            raise SettingError("seed", f"expected 0 or more, got {seed}")
        if not 0 < crop_pct <= 1:
            raise SettingError("crop_pct", f"expected more than 0 and at most 1, got {crop_pct}")
        self.data = data.to(device)
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.normalisation = normalisation
        self.seed = seed
        self.augmentation = augmentation
        self.crop_pct = crop_pct
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.rank = rank
        self.world_size = world_size
        self._cached_order: tuple[int, Tensor] | None = None
        self._read_ahead = ReadAhead()

    @property
    def batches_per_epoch(self) -> int:
        full, remainder = divmod(len(self.data), self.batch_size)
        if self.drop_last or (full and remainder < self.world_size):
            return full
        return full + (remainder > 0)

    def batch(self, k: int) -> Batch:
        """Return batch number `k`, or this process's part of it.

        Args:
            k: 0 or more.

        Returns:
            Images, float32 (B, C, H, W), and labels, int64 (B,), on the stream's device.

        Raises:
            ValueError: `k` is negative, or a file cannot be read.
        """
        if k < 0:
            raise ValueError(f"batch number: expected 0 or more, got {k}")
        indices = self._indices(k)
        labels = self.data.labels[indices].to(self.device, non_blocking=True)
        random = generator(self.seed, Stream.AUGMENTATION, k, self.rank)
        crops = self._crops(len(indices), random)  # draw first, even if the batch was read ahead
        if isinstance(self.data.images, FileImages):
            images = self._read_ahead(self._begin, k, self._following(k))
            images = images.to(self.device, non_blocking=True)
        else:
            images = self.data.images[indices]
            images = images if crops is None else crop_and_scale(images, crops)
        if self.augmentation is None:
            return self.normalisation(images), labels
        images = self.normalisation(self.augmentation.on_pixels(images, random))
        return self.augmentation(images, random, self.normalisation.black(self.device)), labels

    def true_labels(self, k: int) -> Tensor | None:
        """Return the true labels (B,) of batch `k`, or None if the data have no wrong labels."""
        true = self.data.true_labels
        return None if true is None else true[self._indices(k)].to(self.device, non_blocking=True)

    def _begin(self, k: int) -> Decoding:
        """Start to decode batch `k`."""
        assert isinstance(self.data.images, FileImages)
        indices = self._indices(k)
        random = generator(self.seed, Stream.AUGMENTATION, k, self.rank)
        return self.data.images.begin(indices, self._crops(len(indices), random))

    def _following(self, k: int) -> int | None:
        """Return the batch to read ahead; None after the last batch of an unshuffled pass."""
        last = (k + 1) % self.batches_per_epoch == 0
        return None if last and not self.shuffle else k + 1

    def _crops(self, n: int, random: torch.Generator) -> list[Crop] | None:
        """Return the crop of each image; None: the whole stored image."""
        crops = None if self.augmentation is None else self.augmentation.crops(n, random)
        if crops is None and self.crop_pct < 1:
            return central_crops(n, self.data.shape[1:], self.crop_pct)
        return crops

    def _indices(self, k: int) -> Tensor:
        """Return the indices (B,) of this process's samples in batch `k`."""
        epoch, step = divmod(k, self.batches_per_epoch)
        start, stop = step * self.batch_size, (step + 1) * self.batch_size
        if step == self.batches_per_epoch - 1 and not self.drop_last:
            stop = len(self.data)
        return self._order(epoch)[start + self.rank : stop : self.world_size]

    def _order(self, epoch: int) -> Tensor:
        """Return the indices of all samples (N,) in the order of `epoch`, on the labels' device."""
        if not self.shuffle:
            epoch = 0
        if self._cached_order is None or self._cached_order[0] != epoch:
            if self.shuffle:
                random = generator(self.seed, Stream.ORDER, epoch)
                order = torch.randperm(len(self.data), generator=random)
            else:
                order = torch.arange(len(self.data))
            self._cached_order = epoch, order.to(self.data.labels.device, non_blocking=True)
        return self._cached_order[1]


class EpochLoader:
    """The loader that Lightning expects: each pass gives the next epoch of a stream.

    Lightning stores the result of `state_dict` in the checkpoint. It passes it to `load_state_dict`
    before the first batch of a resumed run.

    If the data have wrong labels, a third tensor follows the images and the labels: the true labels
    (B,), for figures about the training.

    If the caller leaves a pass early (as Lightning's sanity check of the validation set does), the
    next pass starts the next epoch. After `load_state_dict`, the first pass gives the rest of the
    epoch in which the state was taken. All later batches equal the batches of an uninterrupted run.

    Args:
        stream: the source of the batches.
        limit: end each pass after this many batches. None: the whole epoch. Pass Lightning's
            `limit_train_batches` here if it is a number of batches: a checkpoint then states
            clearly whether the pass was over.
        given: batches that an earlier run has used. The first pass is the epoch after them.
            Default: 0.
        repeat: give the batches of the first epoch in every pass, as Lightning's `overfit_batches`
            wants. Default: False.

    Raises:
        ValueError: the limit is below 1.
    """

    def __init__(
        self, stream: BatchStream, limit: int | None = None, given: int = 0, repeat: bool = False
    ) -> None:
        if limit is not None and limit < 1:
            raise SettingError("limit", f"expected 1 batch or more, got {limit}")
        self.stream, self._repeat = stream, repeat
        self._length = min(stream.batches_per_epoch, limit or stream.batches_per_epoch)
        self._position = given  # batches given so far; a pass that was left early counts as whole
        self._resuming = False

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        epoch, given = divmod(self._position, self._length)
        if not self._resuming:
            epoch, given = epoch + (given > 0), 0
        self._resuming = False
        for step in range(given, self._length):
            k = (0 if self._repeat else epoch) * self.stream.batches_per_epoch + step
            batch, true = self.stream.batch(k), self.stream.true_labels(k)
            # Count before the yield: a checkpoint that is made while the caller works on this
            # batch must continue with the next batch.
            self._position = epoch * self._length + step + 1
            yield batch if true is None else (*batch, true)

    def state_dict(self) -> dict[str, int]:
        return {"position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._position = state["position"]
        self._resuming = True
