"""The data of a run as a LightningDataModule: name → data set → splits → streams and loaders.

Its arguments are the keys under `data:` in a config. A new key is an argument here, documented in
one line, checked in the constructor if it is a number, and used in `setup` or `_stream`.
"""

import pytorch_lightning as pl
import torch

from darts_noise.data.augment import Augmentation
from darts_noise.data.batches import BatchStream, EpochLoader
from darts_noise.data.datasets import load_dataset, require_dataset
from darts_noise.data.images import (
    ImageDataset,
    LabelledImages,
    Normalisation,
    channel_statistics,
)
from darts_noise.data.seeds import Stream, derive_seed
from darts_noise.data.splits import stratified_split, stratified_subset

EVALUATION_FACTOR = 4
"""Evaluation batches are this many times larger: without gradients they fit."""


class ImageDataModule(pl.LightningDataModule):
    """Images for training, for the architecture (validation) and for the final test.

    After `setup`: `dataset`, `train`, `validation`, `test`, `normalisation` (the statistics of
    `train` alone), `num_classes`, `in_channels` and `image_shape` (C, H, W). The constructor checks
    its arguments and does nothing else.

    Args:
        name: the data set; an unknown name lists the valid ones.
        root: folder that holds the data.
        image_size: scale all images to this many pixels square; null keeps their size.
        grey: true for one channel, false for three; null keeps the images' own.
        batch_size: images in a training batch, over all processes.
        validation_fraction: share of the training images held out; DARTS learns α on it.
        train_samples: use only so many training images, before the split; null for all.
        crop_padding: black pixels added on each side before a random crop.
        flip: mirror half of the images; null lets the data set decide.
        cutout: side of the square that is blanked in each image; 0 for none.
        seed: of the subset, the split, the order and the augmentation.
        random_resized_crop: train on 8 % to 100 % of the area, scaled, in place of the padded crop.
        color_jitter: strength of random brightness, contrast, saturation; half of it for the hue.
        crop_pct: evaluate on the central square of this share of the shorter side, scaled.
        in_memory: decode image files once (true) or by the batch (false); null decides by memory.

    Images in memory are squares of `image_size` already, and the random resized crop and `crop_pct`
    take their part of that. Of images on disk they take it from the whole image in the file, as is
    usual on ImageNet. Set `in_memory` where these keys are on, so that a run repeats exactly on a
    machine with another amount of memory.

    Raises:
        ValueError: a value out of range, or an unknown name; the message names the key.
    """

    name: str
    dataset: ImageDataset
    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    normalisation: Normalisation
    augmentation: Augmentation

    def __init__(
        self,
        name: str = "digits",
        root: str = "data",
        image_size: int | None = None,
        grey: bool | None = None,
        batch_size: int = 64,
        validation_fraction: float = 0.5,
        train_samples: int | None = None,
        crop_padding: int = 0,
        flip: bool | None = None,
        cutout: int = 0,
        seed: int = 0,
        random_resized_crop: bool = False,
        color_jitter: float = 0.0,
        crop_pct: float = 1.0,
        in_memory: bool | None = None,
    ) -> None:
        super().__init__()
        require_dataset(name)
        _require_at_least(1, image_size=image_size, batch_size=batch_size)
        _require_at_least(1, train_samples=train_samples)
        _require_at_least(0, crop_padding=crop_padding, cutout=cutout, seed=seed)
        if not 0 <= validation_fraction < 1:
            raise ValueError(
                f"data.validation_fraction: expected 0 or more and less than 1, "
                f"got {validation_fraction}"
            )
        if not 0 <= color_jitter <= 1:
            raise ValueError(f"data.color_jitter: expected 0 to 1, got {color_jitter}")
        if not 0 < crop_pct <= 1:
            raise ValueError(f"data.crop_pct: expected more than 0 and at most 1, got {crop_pct}")
        if random_resized_crop and crop_padding:
            raise ValueError(
                "data.crop_padding: expected 0 with data.random_resized_crop, which takes its "
                f"place, got {crop_padding}"
            )
        self.name = name
        self.root = root
        self.image_size = image_size
        self.grey = grey
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.train_samples = train_samples
        self.crop_padding = crop_padding
        self.flip = flip
        self.cutout = cutout
        self.seed = seed
        self.random_resized_crop = random_resized_crop
        self.color_jitter = color_jitter
        self.crop_pct = crop_pct
        self.in_memory = in_memory
        self._is_set_up = False
        self._train_loader: EpochLoader | None = None
        self._given = 0

    def prepare_data(self) -> None:
        """Load once on the first process of each node, so that only that one downloads."""
        self.setup("prepare")

    def setup(self, stage: str | None = None) -> None:
        """Load and split the data; the second call and later ones do nothing.

        Raises:
            ValueError: data that are missing or unreadable, fewer than two classes, or a setting
                that does not suit the data; the message names the key or the file.
        """
        if self._is_set_up:
            return
        self.dataset = load_dataset(
            self.name, self.root, self.image_size, self.grey, self.in_memory
        )
        self.train, self.validation = self._split(self.dataset.train)
        self.test = self.dataset.test
        self.augmentation = self._augmentation()
        self.normalisation = channel_statistics(self.train.images)
        self._is_set_up = True

    @property
    def num_classes(self) -> int:
        return self.dataset.train.num_classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.dataset.train.shape

    @property
    def in_channels(self) -> int:
        return self.image_shape[0]

    def train_stream(self) -> BatchStream:
        """Augmented, shuffled batches of the training split."""
        return self._shuffled(self.train, Stream.TRAIN)

    def validation_stream(self, shuffle: bool) -> BatchStream:
        """Batches of the validation split.

        Shuffled, they are what α learns from: as large as training batches and augmented alike, as
        in DARTS. Otherwise they are for evaluation: in order, whole, larger, not augmented.

        Raises:
            ValueError: there is no validation split.
        """
        if not len(self.validation):
            if not self.validation_fraction:
                problem = "data.validation_fraction: expected more than 0 to validate, got 0"
            else:
                problem = (
                    f"data.train_samples: expected 2 images of a class or more to hold one out, "
                    f"got {len(self.train)} in all"
                )
            raise ValueError(problem)
        if shuffle:
            return self._shuffled(self.validation, Stream.VALIDATION)
        return self._in_order(self.validation)

    def train_dataloader(self) -> EpochLoader:
        limit = self.trainer.limit_train_batches if self.trainer else None
        self._train_loader = EpochLoader(
            self.train_stream(), limit if isinstance(limit, int) and limit else None, self._given
        )
        self._given = 0
        return self._train_loader

    def state_dict(self) -> dict[str, int]:
        """How many training batches were given, for a run that resumes between two epochs.

        Lightning resumes a loader by itself within an epoch only.
        """
        return {} if self._train_loader is None else self._train_loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Makes the next training loader go on behind the batches that were given."""
        self._given = state_dict["position"]

    def val_dataloader(self) -> EpochLoader | list[EpochLoader]:
        """The validation split in order; an empty list where there is none."""
        return EpochLoader(self.validation_stream(shuffle=False)) if len(self.validation) else []

    def test_dataloader(self) -> EpochLoader:
        return EpochLoader(self._in_order(self.test))

    def _split(self, data: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
        if self.train_samples is not None:
            if self.train_samples > len(data):
                raise ValueError(
                    f"data.train_samples: expected 1 to {len(data)}, got {self.train_samples}"
                )
            data = data.subset(stratified_subset(data.labels, self.train_samples, self.seed))
        if self.validation_fraction:
            rest, held_out = stratified_split(data.labels, self.validation_fraction, self.seed)
            train, validation = data.subset(rest), data.subset(held_out)
        else:
            train, validation = data, data.subset([])
        class_counts = torch.bincount(train.labels, minlength=train.num_classes)
        if (present := int((class_counts > 0).sum())) < 2:
            raise ValueError(
                f"data.name, data.train_samples: expected training images of 2 classes or more, "
                f"got {len(train)} of {present} class in {self.name!r}"
            )
        return train, validation

    def _augmentation(self) -> Augmentation:
        side = min(self.image_shape[1:])
        for key, pixels in (("crop_padding", self.crop_padding), ("cutout", self.cutout)):
            if pixels > side:
                raise ValueError(
                    f"data.{key}: expected at most the {side} pixels of an image, got {pixels}"
                )
        if self.color_jitter and self.in_channels != 3:
            raise ValueError(
                "data.color_jitter: expected 0 for grey images, which have no colours to change, "
                f"got {self.color_jitter}"
            )
        return Augmentation(
            self.crop_padding,
            self.dataset.flip if self.flip is None else self.flip,
            self.cutout,
            self.random_resized_crop,
            self.color_jitter,
        )

    def _shuffled(self, data: LabelledImages, use: Stream) -> BatchStream:
        return self._stream(
            data, self.batch_size, seed=derive_seed(self.seed, use), augmentation=self.augmentation
        )

    def _in_order(self, data: LabelledImages) -> BatchStream:
        return self._stream(
            data, EVALUATION_FACTOR * self.batch_size, shuffle=False, crop_pct=self.crop_pct
        )

    def _stream(
        self,
        data: LabelledImages,
        batch_size: int,
        *,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        crop_pct: float = 1.0,
        shuffle: bool = True,
    ) -> BatchStream:
        """A stream on the trainer's device, for its rank; on the CPU, for one process, without."""
        trainer = self.trainer
        return BatchStream(
            data,
            batch_size,
            self.normalisation,
            seed=seed,
            augmentation=augmentation,
            crop_pct=crop_pct,
            shuffle=shuffle,
            drop_last=shuffle,
            device=trainer.strategy.root_device if trainer else "cpu",
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )


def _require_at_least(least: int, **values: int | None) -> None:
    for key, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"data.{key}: expected {least} or more, got {value}")
