"""Critical periods: what a network cannot make up for that it has not seen in its first epochs.

A network trains for some epochs on images with a deficit, such as blur, and then on the real
images. If its final accuracy on real test images stays lower, however long the rest of the training
is, then the deficit fell into a critical period [1]. The learning rate is constant, so that a late
epoch counts as much as an early one.

Reference:
    [1] Achille, Rovere and Soatto, Critical learning periods in deep networks, ICLR 2019,
        arXiv:1711.08856, section 2.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from lightning_fabric import Fabric
from torch import nn

from darts_noise.data.batches import Batch, BatchStream
from darts_noise.data.images import LabelledImages
from darts_noise.reading import read, whole_set
from darts_noise.train.loop import Recipe, train_from_scratch


class DeficitStream(BatchStream):
    """The batches of a training in which the images have a deficit in some epochs.

    Args:
        clean: the batches of the real images.
        deficit: as many images with the deficit, of the same shape.
        epochs: the epochs whose batches have the deficit, counted from 0.

    Raises:
        ValueError: the numbers of images differ.
    """

    def __init__(self, clean: BatchStream, deficit: LabelledImages, epochs: range) -> None:
        if len(deficit) != len(clean.data):
            raise ValueError(
                f"deficit: expected as many images as the {len(clean.data)} real ones, got "
                f"{len(deficit)}"
            )
        super().__init__(
            deficit,
            clean.batch_size,
            clean.normalisation,
            seed=clean.seed,
            augmentation=clean.augmentation,
            crop_pct=clean.crop_pct,
            shuffle=clean.shuffle,
            drop_last=clean.drop_last,
            device=clean.device,
        )
        self.clean, self.epochs = clean, epochs

    def batch(self, k: int) -> Batch:
        """Return batch `k`, with the deficit in its epochs; see `BatchStream.batch`."""
        if k // self.batches_per_epoch in self.epochs:
            return super().batch(k)
        return self.clean.batch(k)


def accuracy_after_deficit(
    make: Callable[[], nn.Module],
    clean: BatchStream,
    deficit: LabelledImages,
    epochs: range,
    test: LabelledImages,
    recipe: Recipe,
    fabric: Fabric,
    *,
    seed: int = 0,
) -> float:
    """Return the accuracy on real test images after a training with a temporary deficit.

    With an empty range this is a training without a deficit, and with all epochs of the recipe it
    is a training on the images with the deficit alone, each bit for bit.

    Args:
        make: returns a new module; see `train_from_scratch`.
        clean: the batches of the real training images.
        deficit: as many images with a deficit; see `darts_noise.make_noise`.
        epochs: the epochs with the deficit, counted from 0.
        test: the real test images.
        recipe: optimiser, rate and the length of the whole training. Its learning rate is constant.
        fabric: device and precision.
        seed: seed of the initial weights and of dropout.

    Returns:
        From 0 to 1.
    """
    stream = DeficitStream(clean, deficit, epochs)
    constant = replace(recipe, final_rate=recipe.learning_rate)
    training = train_from_scratch(make, stream, constant, fabric, seed=seed)
    if training.diverged:
        return torch.nan
    return read(training.net, whole_set(test, clean.normalisation, fabric.device)).accuracy
