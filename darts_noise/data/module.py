"""The data of a run as a LightningDataModule: name → data set → splits → streams and loaders.

A new setting is a field of `DataConfig`, which documents and checks it, and is used here in `setup`
or `_stream`.
"""

from typing import Any

import pytorch_lightning as pl
import torch

from darts_noise.configured import config_of
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
from darts_noise.data.settings import DataConfig
from darts_noise.data.splits import stratified_split, stratified_subset
from darts_noise.errors import SettingError, within

EVALUATION_FACTOR = 4
"""Evaluation batches are this many times larger: without gradients they fit."""


class ImageDataModule(pl.LightningDataModule):
    """Images for training, for the architecture (validation) and for the final test.

    After `setup`: `dataset`, `train`, `validation`, `test`, `normalisation` (the statistics of
    `train` alone), `num_classes`, `in_channels` and `image_shape` (C, H, W). The constructor checks
    its arguments and does nothing else.

    Images in memory are squares of `image_size` already, and the random resized crop and `crop_pct`
    take their part of that. Of images on disk they take it from the whole image in the file, as is
    usual on ImageNet. Set `in_memory` where these keys are on, so that a run repeats exactly on a
    machine with another amount of memory.

    Args:
        config: a `DataConfig`, whose fields are the settings; or the name of a data set.
        settings: fields of `DataConfig` by name, such as ``batch_size=16``.

    Raises:
        SettingError: a value out of range, or an unknown name; here and in the methods below. Its
            key begins with ``data.``.
    """

    name: str
    dataset: ImageDataset
    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    normalisation: Normalisation
    augmentation: Augmentation

    @within("data")
    def __init__(self, config: DataConfig | str | None = None, **settings: Any) -> None:
        super().__init__()
        self.config = config_of(DataConfig, config, settings)
        self.name = self.config.name
        require_dataset(self.name)
        self._is_set_up = False
        self._train_loader: EpochLoader | None = None
        self._given = 0

    def prepare_data(self) -> None:
        """Load once on the first process of each node, so that only that one downloads."""
        self.setup("prepare")

    @within("data")
    def setup(self, stage: str | None = None) -> None:
        """Load and split the data; the second call and later ones do nothing.

        Raises:
            ValueError: data that are missing or unreadable, fewer than two classes, or a setting
                that does not suit the data; the message names the key or the file.
        """
        if self._is_set_up:
            return
        c = self.config
        self.dataset = load_dataset(c.name, c.root, c.image_size, c.grey, c.in_memory)
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

    @within("data")
    def train_stream(self) -> BatchStream:
        """Augmented, shuffled batches of the training split."""
        return self._shuffled(self.train, Stream.TRAIN)

    @within("data")
    def validation_stream(self, shuffle: bool) -> BatchStream:
        """Batches of the validation split.

        Shuffled, they are what α learns from: as large as training batches and augmented alike, as
        in DARTS. Otherwise they are for evaluation: in order, whole, larger, not augmented.

        Raises:
            ValueError: there is no validation split.
        """
        if not len(self.validation):
            if not self.config.validation_fraction:
                raise SettingError("validation_fraction", "expected more than 0 to validate, got 0")
            raise SettingError(
                "train_samples",
                "expected 2 images of a class or more to hold one out, "
                f"got {len(self.train)} in all",
            )
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

    @within("data")
    def test_dataloader(self) -> EpochLoader:
        return EpochLoader(self._in_order(self.test))

    def _split(self, data: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
        c = self.config
        if c.train_samples is not None:
            if c.train_samples > len(data):
                raise SettingError(
                    "train_samples", f"expected 1 to {len(data)}, got {c.train_samples}"
                )
            data = data.subset(stratified_subset(data.labels, c.train_samples, c.seed))
        if c.validation_fraction:
            rest, held_out = stratified_split(data.labels, c.validation_fraction, c.seed)
            train, validation = data.subset(rest), data.subset(held_out)
        else:
            train, validation = data, data.subset([])
        class_counts = torch.bincount(train.labels, minlength=train.num_classes)
        if (present := int((class_counts > 0).sum())) < 2:
            raise SettingError(
                "train_samples",
                "expected training images of 2 classes or more, "
                f"got {len(train)} of {present} class in {c.name!r}",
            )
        return train, validation

    def _augmentation(self) -> Augmentation:
        c = self.config
        side = min(self.image_shape[1:])
        for key, pixels in (
            ("crop_padding", c.crop_padding),
            ("cutout", c.cutout),
        ):
            if pixels > side:
                raise SettingError(
                    key, f"expected at most the {side} pixels of an image, got {pixels}"
                )
        if c.color_jitter and self.in_channels != 3:
            raise SettingError(
                "color_jitter",
                "expected 0 for grey images, which have no colours to change, "
                f"got {c.color_jitter}",
            )
        return Augmentation(
            c.crop_padding,
            self.dataset.flip if c.flip is None else c.flip,
            c.cutout,
            c.random_resized_crop,
            c.color_jitter,
        )

    def _shuffled(self, data: LabelledImages, use: Stream) -> BatchStream:
        return self._stream(
            data,
            self.config.batch_size,
            seed=derive_seed(self.config.seed, use),
            augmentation=self.augmentation,
        )

    def _in_order(self, data: LabelledImages) -> BatchStream:
        return self._stream(
            data,
            EVALUATION_FACTOR * self.config.batch_size,
            shuffle=False,
            crop_pct=self.config.crop_pct,
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
