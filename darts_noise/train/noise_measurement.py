"""What every protocol of the noise measurement is told, and the record that it fills in."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from darts_noise.data.images import LabelledImages, Normalisation, channel_statistics
from darts_noise.noise.families import fingerprint
from darts_noise.space.genotype import Genotype
from darts_noise.train.networks import Factory
from darts_noise.train.noise_record import NoiseFit
from darts_noise.train.settings import TrainConfig


@dataclass(frozen=True, eq=False)
class Measurement:
    """One network, one noise set.

    Attributes:
        network: a genotype or a function that makes the module.
        images: the real ones, which the noise imitates.
        noise: the fixed set.
        family: of the noise, as a card names it.
        epochs: passes over the set; of the long protocols, at most.
        batch_size: the last batch of an epoch may be smaller.
        seed: of the noise, of the initial weights and of the order.
        recipe: of the clean run.
        trainer: arguments of Lightning's Trainer.
    """

    network: Genotype | Factory
    images: LabelledImages
    noise: LabelledImages
    family: str
    epochs: int
    batch_size: int
    seed: int
    recipe: TrainConfig
    trainer: Mapping[str, Any]

    @property
    def form(self) -> tuple[int, int]:
        """(num_classes, in_channels) of the network: those of the real images."""
        return self.images.num_classes, self.images.shape[0]

    @cached_property
    def normalisation(self) -> Normalisation:
        """That of the real images, which the noise is normalised with as well."""
        return channel_statistics(self.images.images)

    @property
    def precision(self) -> str:
        """As Lightning names it."""
        return str(self.trainer.get("precision") or "32-true")

    def about(self) -> dict[str, Any]:
        """What tells it from others with the same network: all that decides a training's result."""
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
        """The record with what all protocols say alike."""
        return NoiseFit(
            protocol=protocol,
            family=self.family,
            accuracy=accuracy,
            accuracy_largest=accuracy_largest,
            chance=int(torch.bincount(self.noise.labels).max()) / len(self.noise),
            samples=len(self.noise),
            epochs=self.epochs,
            seed=self.seed,
            fingerprint=fingerprint(self.noise),
            seconds=seconds,
            **more,
        )
