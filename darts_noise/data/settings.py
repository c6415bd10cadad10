"""Settings of the data. The module imports neither torch nor Lightning."""

from dataclasses import dataclass

from darts_noise.configured import naming_arguments, require_fields
from darts_noise.errors import SettingError, unknown

WRONG_LABELS = ("symmetric", "pairwise")
"""The kinds of planted wrong labels."""


@naming_arguments
@dataclass(frozen=True)
class DataConfig:
    """Settings that choose, split and augment the images of a run.

    Args:
        name: the data set; see darts_noise.list_datasets().
        root: folder that holds the data.
        image_size: side in pixels to which the central square of each image is scaled. null: keep
            the size; own images that differ in size are scaled to 32 pixels.
        grey: true: one channel. false: three channels. null: keep the channels.
        batch_size: images in a training batch, over all processes.
        validation_fraction: share of the training images that is held out. The search learns α on
            these images.
        train_samples: number of training images to use, before the split. null: all.
        crop_padding: black pixels added on each side before a random crop. 0: no crop.
        flip: mirror each image with probability 1/2. null: the data set decides.
        cutout: side in pixels of the square that is blanked in each image. 0: no cutout.
        seed: seed of the subset, the split, the wrong labels, the order, the augmentation and the
            bootstrap sample.
        split_seed: another seed for the subset, the split and the wrong labels, so that trainings
            with different seeds have the same images. null: seed.
        bootstrap: train on a bootstrap sample: as many draws from the training images, with
            replacement. It has about 63% of the images, some of them several times.
        random_resized_crop: train on a random 8% to 100% of the area, scaled to the image size.
            Requires crop_padding 0.
        color_jitter: strength of random brightness, contrast and saturation, 0 to 1. The hue
            changes by half of it.
        crop_pct: evaluate on a central square, scaled to the image size. This is its side as a
            share of the shorter side of the image.
        in_memory: true: decode all image files at the start. false: decode them batch by batch.
            null: batch by batch if they take more than half of the available memory.
        test_fraction: share of each class that is held out as test images, for own images in
            ROOT/<class>/ without test images. null: the test images are in ROOT/test/<class>/.
        shared_statistics: normalise all channels by one mean and one standard deviation, so that
            the channels of a grey image stay equal.
        wrong_labels: share of the training images that get a wrong label, to study how networks
            learn in spite of it. Validation and test images keep their labels.
        wrong_labels_kind: symmetric (each other class is equally likely) or pairwise (the next
            class).

    Raises:
        SettingError: a value is out of range.
    """

    name: str = "digits"
    root: str = "data"
    image_size: int | None = None
    grey: bool | None = None
    batch_size: int = 64
    validation_fraction: float = 0.5
    train_samples: int | None = None
    crop_padding: int = 0
    flip: bool | None = None
    cutout: int = 0
    seed: int = 0
    split_seed: int | None = None
    bootstrap: bool = False
    random_resized_crop: bool = False
    color_jitter: float = 0.0
    crop_pct: float = 1.0
    in_memory: bool | None = None
    test_fraction: float | None = None
    shared_statistics: bool = False
    wrong_labels: float = 0.0
    wrong_labels_kind: str = "symmetric"

    def __post_init__(self) -> None:
        require_fields(self, image_size=1, batch_size=1, train_samples=1)
        require_fields(self, crop_padding=0, cutout=0, seed=0, split_seed=0)
        for key in ("validation_fraction", "wrong_labels"):
            share = getattr(self, key)
            if not 0 <= share < 1:
                raise SettingError(key, f"expected 0 or more and less than 1, got {share}")
        if self.wrong_labels_kind not in WRONG_LABELS:
            raise SettingError(
                "wrong_labels_kind", unknown("kind", self.wrong_labels_kind, WRONG_LABELS)
            )
        if self.test_fraction is not None and not 0 < self.test_fraction < 1:
            raise SettingError(
                "test_fraction", f"expected more than 0 and less than 1, got {self.test_fraction}"
            )
        if not 0 <= self.color_jitter <= 1:
            raise SettingError("color_jitter", f"expected 0 to 1, got {self.color_jitter}")
        if not 0 < self.crop_pct <= 1:
            raise SettingError(
                "crop_pct", f"expected more than 0 and at most 1, got {self.crop_pct}"
            )
        if self.random_resized_crop and self.crop_padding:
            raise SettingError(
                "crop_padding",
                "expected 0 with random_resized_crop, which takes its place, "
                f"got {self.crop_padding}",
            )
