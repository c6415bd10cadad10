"""The data of a run as a LightningDataModule: name → data set → splits → streams and loaders.

To add a setting, add a field to `DataConfig`, document and check it there, and use it here in
`setup` or `_stream`.
"""

import warnings
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
from darts_noise.data.splits import bootstrap, stratified_split, stratified_subset
from darts_noise.data.wrong_labels import with_wrong_labels
from darts_noise.errors import SettingError, within

EVALUATION_FACTOR = 4
"""Evaluation batches are 4 times larger than training batches: they need no gradients."""


class ImageDataModule(pl.LightningDataModule):
    """The images for training, for the architecture (validation) and for the final test.

    The constructor only checks its arguments. `setup` sets `dataset`, `train`, `validation`,
    `test`, `normalisation` (the statistics of `train`), `num_classes`, `in_channels` and
    `image_shape` (C, H, W). Only `train` has planted wrong labels, if any.

    Images in memory are already squares of `image_size`; the random resized crop and `crop_pct`
    crop these squares. For images on disk, both crop the whole image in the file, as is usual on
    ImageNet. If you use one of the two, set `in_memory`. Otherwise a run on a machine with more or
    less memory may give other images.

    Args:
        config: a `DataConfig`, or the name of a data set.
        settings: fields of `DataConfig` by name, such as ``batch_size=16``.

    Raises:
        SettingError: a value is out of range or a name is unknown. The methods below raise it too.
            Its key begins with ``data.``.
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

    def __getattr__(self, name: str) -> Any:
        """Say that `setup` is missing, which sets these attributes."""
        problem = f"{type(self).__name__!r} object has no attribute {name!r}"
        if name in (*ImageDataModule.__annotations__, "num_classes", "in_channels", "image_shape"):
            problem += " before setup(): call data.setup() first"
        raise AttributeError(problem)

    def prepare_data(self) -> None:
        """Load on the first process of each node, so that only this process downloads."""
        self.setup("prepare")

    @within("data")
    def setup(self, stage: str | None = None) -> None:
        """Load and split the data. Later calls do nothing.

        Raises:
            ValueError: the data are missing or unreadable, there are fewer than two classes, or a
                setting does not suit the data. The message names the key or the file.
        """
        if self._is_set_up:
            return
        c = self.config
        self.dataset = load_dataset(
            c.name, c.root, c.image_size, c.grey, c.in_memory, c.test_fraction
        )
        self.train, self.validation = self._split(self.dataset.train)
        if c.wrong_labels:
            kind, seed = c.wrong_labels_kind, self._split_seed
            self.train = with_wrong_labels(self.train, c.wrong_labels, kind, seed)
        if c.bootstrap:
            self.train = self.train.subset(bootstrap(len(self.train), c.seed))
        self.test = self.dataset.test
        self.augmentation = self._augmentation()
        self.normalisation = channel_statistics(self.train.images, c.shared_statistics)
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
        """Return the augmented, shuffled batches of the training split."""
        return self._shuffled(self.train, Stream.TRAIN)

    @within("data")
    def validation_stream(self, shuffle: bool) -> BatchStream:
        """Return the batches of the validation split.

        Args:
            shuffle: True: batches to learn α, with the size and the augmentation of training
                batches, as in DARTS. False: batches to evaluate, in order, 4 times larger and not
                augmented.

        Raises:
            ValueError: there is no validation split.
        """
        if shuffle and (present := int((_class_counts(self.validation) > 0).sum())) == 1:
            raise SettingError(
                "validation_fraction",
                f"expected images of 2 classes or more to learn α, got {present} class; each class "
                "needs 2 training images or more",
            )
        if not len(self.validation):
            if not self.config.validation_fraction:
                raise SettingError("validation_fraction", "expected more than 0 to validate, got 0")
            raise SettingError(
                "train_samples",
                "expected a class with 2 images or more, so that one can be held out, "
                f"got {len(self.train)} in all",
            )
        if shuffle:
            return self._shuffled(self.validation, Stream.VALIDATION)
        return self._in_order(self.validation)

    def train_dataloader(self) -> EpochLoader:
        limit = self.trainer.limit_train_batches if self.trainer else None
        overfit = bool(self.trainer and getattr(self.trainer, "overfit_batches", 0))
        limit = limit if isinstance(limit, int) and limit else None
        self._train_loader = EpochLoader(self.train_stream(), limit, self._given, overfit)
        self._given = 0
        return self._train_loader

    def state_dict(self) -> dict[str, int]:
        """Return the number of used training batches, for a run that resumes between two epochs.

        Lightning itself resumes a loader only within an epoch.
        """
        return {} if self._train_loader is None else self._train_loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Make the next training loader continue after the batches that were used."""
        self._given = state_dict["position"]

    def val_dataloader(self) -> EpochLoader | list[EpochLoader]:
        """Return the validation split in order; an empty list if there is no validation split."""
        return EpochLoader(self.validation_stream(shuffle=False)) if len(self.validation) else []

    @within("data")
    def test_dataloader(self) -> EpochLoader:
        return EpochLoader(self._in_order(self.test))

    @property
    def _split_seed(self) -> int:
        return self.config.seed if self.config.split_seed is None else self.config.split_seed

    def _split(self, data: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
        c = self.config
        if c.train_samples is not None:
            if c.train_samples > len(data):
                raise SettingError(
                    "train_samples", f"expected 1 to {len(data)}, got {c.train_samples}"
                )
            data = data.subset(stratified_subset(data.labels, c.train_samples, self._split_seed))
        if c.validation_fraction:
            fraction, seed = c.validation_fraction, self._split_seed
            rest, held_out = stratified_split(data.labels, fraction, seed)
            train, validation = data.subset(rest), data.subset(held_out)
        else:
            train, validation = data, data.subset([])
        if (present := int((_class_counts(train) > 0).sum())) < 2:
            raise SettingError(
                "train_samples",
                "expected training images of 2 classes or more, "
                f"got {len(train)} of {present} class in {c.name!r}",
            )
        for part, half in (("training", train), ("validation", validation)):
            absent = (_class_counts(half) == 0).nonzero().flatten().tolist()
            if absent and len(half):
                names = ", ".join(half.classes[label] for label in absent[:3])
                warnings.warn(
                    f"classes without a {part} image: {len(absent)} of {half.num_classes} "
                    f"({names}{', …' if len(absent) > 3 else ''}); each class needs 2 images or "
                    "more (data.train_samples, data.validation_fraction)",
                    stacklevel=2,
                )
        return train, validation

    def _augmentation(self) -> Augmentation:
        c = self.config
        side = min(self.image_shape[1:])
        for key in ("crop_padding", "cutout"):
            if (pixels := getattr(c, key)) > side:
                raise SettingError(
                    key, f"expected at most the {side} pixels of an image, got {pixels}"
                )
        if c.color_jitter and self.in_channels != 3:
            raise SettingError(
                "color_jitter",
                f"expected 0 for grey images, which have no colours, got {c.color_jitter}",
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
            crop_pct=self.config.crop_pct,
            shuffle=False,
            drop_last=False,
        )

    def _stream(self, data: LabelledImages, batch_size: int, **order: Any) -> BatchStream:
        """Make a stream for the trainer's device and rank; without a trainer, one for the CPU."""
        place = place_of(self.trainer) if self.trainer else {}
        return BatchStream(data, batch_size, self.normalisation, **order, **place)


def place_of(trainer: pl.Trainer) -> dict[str, Any]:
    """Return the arguments of a `BatchStream` for this process of a Trainer."""
    return {
        "device": trainer.strategy.root_device,
        "rank": trainer.global_rank,
        "world_size": trainer.world_size,
    }


def _class_counts(data: LabelledImages) -> torch.Tensor:
    """Return the number of images of each class (C,)."""
    return torch.bincount(data.labels, minlength=data.num_classes)
