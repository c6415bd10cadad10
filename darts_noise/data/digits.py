"""The digits of scikit-learn: the default data set, small and installed with the package.

Do not change this split: published figures on `digits` were measured on it.
"""

from pathlib import Path

import numpy as np
import torch

from darts_noise.data.datasets import register_dataset
from darts_noise.data.images import ImageDataset, LabelledImages
from darts_noise.data.splits import stratified_split

_TEST_FRACTION = 0.2
_SPLIT_SEED = 0
"""Fixed and independent of the seed of a run, so that all runs have the same test set."""


@register_dataset
def digits(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
    """1,797 handwritten digits, 8 × 8, grey (UCI); 80% train and 20% test, a fixed split."""
    from sklearn.datasets import load_digits  # imported here because the import takes a second

    source = load_digits()
    levels = np.rint(source.images * (255 / 16)).astype(np.uint8)  # 0..16 → 0..255
    data = LabelledImages(
        torch.from_numpy(levels)[:, None],
        torch.from_numpy(source.target).long(),
        tuple(str(digit) for digit in range(10)),
    )
    train, test = stratified_split(data.labels, _TEST_FRACTION, _SPLIT_SEED)
    return ImageDataset("digits", data.subset(train), data.subset(test), flip=False)
