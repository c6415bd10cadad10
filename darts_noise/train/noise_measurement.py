"""The input of each protocol of the noise measurement, and the common part of its record."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from darts_noise.data.images import LabelledImages, Normalisation
from darts_noise.data.splits import stratified_subset
from darts_noise.noise.families import fingerprint
from darts_noise.space.genotype import Genotype
from darts_noise.train.factories import Factory
from darts_noise.train.noise_record import NoiseFit
from darts_noise.train.settings import TrainConfig


@dataclass(frozen=True, eq=False)
class Measurement:
    """One network and one noise set.

    Attributes:
        network: a genotype, or a function that makes the module.
        images: the real training images, which the noise imitates.
        normalisation: normalisation of the real images. It is used for the noise too.
        noise: the noise set.
        family: name of the noise family, as a card shows it.
        epochs: passes over the noise set. The long protocols may stop earlier.
        batch_size: images in a batch. The last batch of an epoch may be smaller.
        seed: seed of the noise, the initial weights and the order of the images.
        recipe: settings of the clean run.
        trainer: arguments of Lightning's Trainer.
    """

    network: Genotype | Factory
    images: LabelledImages
    normalisation: Normalisation
    noise: LabelledImages
    family: str
    epochs: int
    batch_size: int
    seed: int
    recipe: TrainConfig
    trainer: Mapping[str, Any]

    @property
    def num_classes(self) -> int:
        """Number of classes of the real images."""
        return self.images.num_classes

    @property
    def in_channels(self) -> int:
        """Channels of the real images."""
        return self.images.shape[0]

    @cached_property
    def real(self) -> LabelledImages:
        """Real images: as many as there are noise images, or all of them if they are fewer."""
        count = min(len(self.noise), len(self.images))
        return self.images.subset(stratified_subset(self.images.labels, count, self.seed))

    @property
    def precision(self) -> str:
        """Precision by Lightning's name."""
        return str(self.trainer.get("precision") or "32-true")

    def about(self) -> dict[str, Any]:
        """Return all values that decide the result of a training, except the network."""
        return {
            "seed": self.seed,
            "family": self.family,
            "samples": len(self.noise),
            "fingerprint": fingerprint(self.noise),
            "mean": self.normalisation.mean,
            "std": self.normalisation.std,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "precision": self.precision,
        }

    def record(
        self, protocol: str, accuracy: float, accuracy_largest: float, seconds: float, **more: Any
    ) -> NoiseFit:
        """Return the record, with the values that all protocols fill in alike."""
        return NoiseFit(
            protocol=protocol,
            family=self.family,
            accuracy=accuracy,
            accuracy_largest=accuracy_largest,
            chance=self.noise.chance,
            samples=len(self.noise),
            epochs=self.epochs,
            seed=self.seed,
            fingerprint=fingerprint(self.noise),
            seconds=seconds,
            **more,
        )
