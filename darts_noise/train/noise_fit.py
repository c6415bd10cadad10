"""How well a network can be trained to fit noise: the measurement behind every claim.

It stands beside the training module and not in `noise`, because it trains: always the *discrete*
network, from scratch, on a fixed noise set, read on that same set. A protocol is a function in a
file of its own, with an entry in `PROTOCOLS` and one in `noise_fit`.
"""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from darts_noise.configured import config_of
from darts_noise.data.images import LabelledImages
from darts_noise.errors import SettingError, unknown, within
from darts_noise.noise.datasets import largest_noise
from darts_noise.noise.families import describe_noise, make_noise
from darts_noise.noise.mixture import Mixture
from darts_noise.train.converged import converged_fit
from darts_noise.train.networks import NetworkLike, loaded
from darts_noise.train.noise_measurement import Measurement
from darts_noise.train.noise_record import NoiseFit
from darts_noise.train.quick import quick_fit
from darts_noise.train.selectivity import selectivity_fit
from darts_noise.train.settings import PROTOCOLS, NoiseGrid, TrainConfig, require_protocol


def default_samples(
    protocol: str, family: Mixture, images: LabelledImages, root: str | Path = "data"
) -> int:
    """N of a protocol where nothing is said, or fewer where images or noise are fewer.

    Raises:
        ValueError: a protocol or a family that does not exist.
    """
    require_protocol(protocol)
    wanted = PROTOCOLS[protocol].samples or len(images)
    return largest_noise(family, min(wanted, len(images)), images, root)


def require_samples(protocol: str, samples: int, images: LabelledImages) -> None:
    """Raises the ``ValueError`` that says how many samples a protocol can take of these images."""
    if samples < 1:
        raise SettingError("samples", f"expected 1 or more, got {samples}")
    if protocol == "selectivity" and samples > len(images):
        raise SettingError(
            "samples",
            f"expected at most the {len(images)} real images that selectivity "
            f"compares with, got {samples}",
        )


def noise_fit(
    network: NetworkLike,
    images: LabelledImages,
    *,
    protocol: str = "quick",
    family: Mixture = "uniform",
    samples: int | None = None,
    epochs: int | None = None,
    batch_size: int = 64,
    seed: int = 0,
    recipe: TrainConfig | Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    callbacks: Sequence[pl.Callback] | None = None,
    grid: NoiseGrid | None = None,
    controls: Mapping[str, NetworkLike] | None = None,
    path: str | Path | None = None,
    progress: Console | bool | None = None,
    root: str | Path = "data",
) -> NoiseFit:
    """Trains a network from scratch on noise.

    ``quick`` is one training with the recipe of the clean run. ``converged`` is the largest
    accuracy on 1,000 samples over the trainings of a grid, with positive controls beside it.
    ``selectivity`` divides the steps to half of the noise by those to half of the real images. The
    last two take neither mixing nor drop path nor, unless the grid says so, weight decay.

    Several processes that have joined call it together: with ``quick`` they share every batch, as
    ``trainer`` says; of a grid each makes some of the trainings, and all return the same record.

    Args:
        network: a published name, a `Genotype`, a path to a ``.json``, a run directory, or any
            function (num_classes, in_channels) → a fresh module that maps images (B, in_channels,
            H, W) to logits (B, num_classes).
        images: the real training images that the noise imitates in shape, number and scale.
        protocol: ``quick``, ``converged`` or ``selectivity``.
        family: one of `darts_noise.list_noise` or several with weights, as for
            `darts_noise.make_noise`.
        samples: N; when absent as many as there are real images (``quick``) or 1,000, or fewer
            where a data set that is to be the noise has fewer.
        epochs: passes over the noise set; at most, but for ``quick``. 10 (``quick``) or 100.
        batch_size: the last batch of an epoch may be smaller.
        seed: of the noise, of the initial weights and of the order.
        recipe: the `TrainConfig` of the clean run, or some fields of one; the long protocols use
            only the form of the network. MixUp and CutMix are left out.
        trainer: arguments of Lightning's Trainer; the long protocols use its accelerator, its first
            device and its precision.
        callbacks: added to the Trainer, such as a progress bar (``quick``).
        grid: optimisers, learning rates, seeds and weight decay of the long protocols.
        controls: positive controls by name (``converged``); when absent torchvision's resnet18,
            ``{}`` for none. That of a search is its cell for λ = 0.
        path: from which a second call goes on: a JSON file of finished trainings (long protocols),
            or a folder that holds the last whole epoch until the end (``quick``).
        progress: whether, or on which console, to show the trainings (long protocols); when absent
            on standard error if that is a terminal.
        root: folder that holds the data sets which `family` names.

    Returns:
        A `NoiseFit`. A standard network may also be near chance after a few epochs, so read its
        accuracy beside a control's.

    Raises:
        ValueError: an unknown name, a size that does not exist, an argument that the protocol has
            no use for, or a file of another measurement.
    """
    require_protocol(protocol)
    given = {"grid": grid, "controls": controls, "path": path, "progress": progress}
    for key, value in {"callbacks": callbacks, **given}.items():
        if value is not None and key in PROTOCOLS[protocol].unused:
            raise SettingError(key, f"expected none with the protocol {protocol!r}, got {value!r}")
    _require_numbers(samples=samples, epochs=epochs, batch_size=batch_size, seed=seed)
    _require_kinds(
        images=(images, LabelledImages),
        grid=(grid, NoiseGrid),
        controls=(controls, Mapping),
        recipe=(recipe, TrainConfig | Mapping),
        trainer=(trainer, Mapping),
    )
    with within("recipe"):
        if not isinstance(recipe, TrainConfig):
            recipe = config_of(TrainConfig, None, recipe or {})
    _require_keys("trainer", trainer or {}, pl.Trainer)
    if samples is None:
        samples = default_samples(protocol, family, images, root)
    require_samples(protocol, samples, images)
    measurement = Measurement(
        network=loaded(network),
        images=images,
        noise=make_noise(family, samples, images, seed, root),
        family=describe_noise(family),
        epochs=PROTOCOLS[protocol].epochs if epochs is None else epochs,
        batch_size=batch_size,
        seed=seed,
        recipe=recipe,
        trainer=trainer or {},
    )
    if protocol == "quick":
        return quick_fit(measurement, callbacks or (), path)
    if protocol == "selectivity":
        return selectivity_fit(measurement, grid, path, progress)
    return converged_fit(measurement, grid, controls, path, progress)


def _require_numbers(**numbers: object) -> None:
    """Each a whole number, or None for the protocol's own."""
    for key, value in numbers.items():
        lowest = 0 if key == "seed" else 1
        if value is not None and (type(value) is not int or value < lowest):
            raise SettingError(key, f"expected a whole number from {lowest}, got {value!r}")


def _require_kinds(**values: tuple[object, type | UnionType]) -> None:
    for key, (value, kind) in values.items():
        if value is not None and not isinstance(value, kind):
            name = getattr(kind, "__name__", str(kind))
            raise SettingError(key, f"expected {name}, got {type(value).__name__}")


def _require_keys(name: str, given: Mapping[str, Any], taker: type) -> None:
    """Raises the ``ValueError`` of the first key that is no argument of a class."""
    valid = inspect.signature(taker).parameters
    for key in given:
        if key not in valid:
            raise SettingError(name, unknown(f"argument of {taker.__name__}", key, valid))
