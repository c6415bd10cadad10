"""How well a discrete network can be trained to fit noise: the measurement behind every claim.

It stands beside the training module and not in `noise`, because it trains: always the *discrete*
network, from scratch, on a fixed noise set, read on that same set. New protocols go here.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.loggers import Logger

from darts_noise.data.batches import BatchStream, EpochLoader
from darts_noise.data.images import LabelledImages, channel_statistics
from darts_noise.data.seeds import Stream, derive_seed
from darts_noise.noise.datasets import largest_noise
from darts_noise.noise.families import describe_noise, fingerprint, make_noise
from darts_noise.noise.mixture import Mixture
from darts_noise.space.genotype import Genotype
from darts_noise.space.published import load_genotype
from darts_noise.train.module import TrainModule


@dataclass(frozen=True)
class NoiseFit:
    """What came of training on noise.

    Attributes:
        protocol: ``quick``: the recipe and the epochs of a clean run, no augmentation or mixing.
        family: of noise, with the data set where it is one; of several, with their shares.
        accuracy: on the noise set that was trained on, in eval mode after the last epoch.
        accuracy_largest: the largest of that figure over all epochs.
        chance: what the best constant answer gets on the set: the largest class's share.
        samples: N.
        epochs: passes over the noise set.
        seed: of the noise set, of the initial weights and of the order.
        fingerprint: of the noise set.
        seconds: wall time.
    """

    protocol: str
    family: str
    accuracy: float
    accuracy_largest: float
    chance: float
    samples: int
    epochs: int
    seed: int
    fingerprint: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def noise_fit(
    genotype: str | Path | Genotype,
    images: LabelledImages,
    *,
    family: Mixture = "uniform",
    samples: int | None = None,
    epochs: int = 10,
    batch_size: int = 64,
    seed: int = 0,
    recipe: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    callbacks: Sequence[pl.Callback] = (),
    root: str | Path = "data",
) -> NoiseFit:
    """Trains a network of this genotype from scratch on noise (protocol ``quick``).

    Args:
        genotype: a published name, a `Genotype`, a path to a ``.json`` or a run directory.
        images: the real training images that the noise imitates in shape, number and scale.
        family: one of `darts_noise.list_noise` or several with weights, as for
            `darts_noise.make_noise`.
        samples: N; when absent as many as there are real images, or fewer where a data set that is
            to be the noise has fewer.
        epochs: passes over the noise set.
        batch_size: the last batch of an epoch may be smaller: every sample counts.
        seed: of the noise, of the initial weights and of the order.
        recipe: arguments of `TrainModule`, those of the clean run. MixUp and CutMix are left out:
            the noise is never augmented, and mixing would pass for a failure to fit it.
        trainer: arguments of Lightning's Trainer (accelerator, devices, precision, clipping).
        callbacks: added to the Trainer, such as a progress bar.
        root: folder that holds the data sets which `family` names.

    Returns:
        A `NoiseFit`. A standard network may also be near chance after a few epochs, so read its
        accuracy beside a control's.

    Raises:
        ValueError: an unknown name or a size that does not exist.
    """
    started = time.perf_counter()
    genotype = load_genotype(genotype)
    if samples is None:
        samples = largest_noise(family, len(images), images, root)
    noise = make_noise(family, samples, images, seed, root)
    normalisation = channel_statistics(images.images)
    pl.seed_everything(derive_seed(seed, Stream.NOISE), verbose=False)
    module = TrainModule(**{**(recipe or {}), "mixup": 0.0, "cutmix": 0.0})
    module.build(genotype, images.num_classes, images.shape[0])
    history = _History()
    run = pl.Trainer(
        **{
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": any(isinstance(c, ProgressBar) for c in callbacks),
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            **dict(trainer or {}),
            "max_epochs": epochs,
            "callbacks": list(callbacks),
            "logger": history,
        }
    )
    device = run.strategy.root_device
    train = BatchStream(
        noise,
        min(batch_size, len(noise)),
        normalisation,
        seed=derive_seed(seed, Stream.NOISE),
        drop_last=False,
        device=device,
    )
    same = BatchStream(
        noise, 4 * batch_size, normalisation, shuffle=False, drop_last=False, device=device
    )
    run.fit(module, EpochLoader(train), EpochLoader(same))
    accuracies = [figures["val/accuracy"] for figures in history.rows]
    return NoiseFit(
        protocol="quick",
        family=describe_noise(family),
        accuracy=accuracies[-1],
        accuracy_largest=max(accuracies),
        chance=float(torch.bincount(noise.labels).max() / len(noise)),
        samples=len(noise),
        epochs=epochs,
        seed=seed,
        fingerprint=fingerprint(noise),
        seconds=time.perf_counter() - started,
    )


class _History(Logger):
    """Keeps the figures of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    @property
    def name(self) -> str:
        return "history"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The record that is returned says what was set."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append(metrics)
