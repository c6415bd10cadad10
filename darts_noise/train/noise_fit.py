"""Measure how well a network can be trained to fit noise.

The *discrete* network is always trained from scratch on a fixed noise set, and its accuracy is read
on the same set. To add a protocol, write a function in a file of its own and add it to `PROTOCOLS`
and to `noise_fit`.
"""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.seed import isolate_rng
from rich.console import Console

from darts_noise.configured import config_of, naming_arguments, require_at_least
from darts_noise.data.images import LabelledImages, Normalisation, channel_statistics
from darts_noise.errors import SettingError, unknown, within
from darts_noise.noise.datasets import largest_noise
from darts_noise.noise.families import describe_noise, make_noise
from darts_noise.noise.mixture import Mixture
from darts_noise.train.converged import converged_fit
from darts_noise.train.factories import NetworkLike, loaded
from darts_noise.train.noise_measurement import Measurement
from darts_noise.train.noise_record import NoiseFit
from darts_noise.train.progress import quiet_lightning
from darts_noise.train.quick import quick_fit
from darts_noise.train.selectivity import selectivity_fit
from darts_noise.train.settings import PROTOCOLS, NoiseGrid, TrainConfig, require_protocol


def default_samples(
    protocol: str, family: Mixture, images: LabelledImages, root: str | Path = "data"
) -> int:
    """Return the default number of samples of a protocol, or fewer if the noise has fewer images.

    Raises:
        ValueError: a protocol or a family that does not exist.
    """
    require_protocol(protocol)
    wanted = PROTOCOLS[protocol].samples or len(images)
    return largest_noise(family, min(wanted, len(images)), images, root)


def require_samples(protocol: str, samples: int, images: LabelledImages) -> None:
    """Raise a `SettingError` if a protocol cannot use this number of samples with these images."""
    require_at_least(1, samples=samples)
    if protocol == "selectivity" and samples > len(images):
        raise SettingError(
            "samples",
            f"expected at most the {len(images)} real images that selectivity "
            f"compares with, got {samples}",
        )


@naming_arguments
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
    normalisation: Normalisation | None = None,
) -> NoiseFit:
    """Train a network from scratch on noise, and return how well it fits the noise.

    ``quick`` is one training with the recipe of the clean run. ``converged`` is the largest
    accuracy on 1,000 samples over the trainings of a grid. It also trains positive controls on the
    noise, and the network on real images. ``selectivity`` is the number of steps to fit half of the
    noise, divided by the steps to fit half of the real images. The last two use no mixing, no drop
    path and, by default, no weight decay.

    Several processes must call this function together. With ``quick`` they share each batch, as
    ``trainer`` says. With a grid each of them makes some of the trainings. All return the same
    record.

    Args:
        network: a published name, a `Genotype`, a path to a ``.json``, a run directory, or a
            function (num_classes, in_channels) that returns a new module. The module maps images
            (B, in_channels, H, W) to logits (B, num_classes).
        images: the real training images. The noise has their shape and classes. Planted wrong
            labels count for nothing: the true labels are used.
        protocol: ``quick``, ``converged`` or ``selectivity``.
        family: one of `darts_noise.list_noise` or several with weights, as for
            `darts_noise.make_noise`.
        samples: number of noise images. Default: the number of real images (``quick``) or 1,000,
            or fewer if the noise is a data set with fewer images.
        epochs: passes over the noise set; a training of a grid may stop earlier. Default: 10
            (``quick``) or 100.
        batch_size: images in a batch. The last batch of an epoch may be smaller.
        seed: seed of the noise, the initial weights and the order of the images.
        recipe: the `TrainConfig` of the clean run, or some of its fields. A grid uses only the
            settings of the network: channels, cells, stem. MixUp, CutMix, the selection of
            samples (``noisy_labels``) and adversarial training are left out.
        trainer: arguments of Lightning's Trainer, without the three that this function sets:
            ``max_epochs``, ``callbacks`` and ``logger``. A grid uses only the accelerator, the
            first device and the precision.
        callbacks: callbacks for the Trainer, such as a progress bar (``quick``).
        grid: the trainings of ``converged`` and ``selectivity``.
        controls: positive controls by name (``converged``). Default: torchvision's resnet18.
            ``{}``: no control. The cell of a search with λ = 0 is a good control.
        path: a JSON file of the finished trainings (grid), or a folder of the last complete epoch
            (``quick``). A second call continues from it. The trainings on real images are also
            taken from files in its folder that measured the same network with other noise.
        progress: whether, or on which console, to show the trainings of a grid. Default: on
            standard error if that is a terminal.
        root: folder of the data sets that `family` names.
        normalisation: normalisation of the images and the noise. Default: by the mean and the
            standard deviation of each channel of `images`.

    Returns:
        The record. A standard network, too, may be near chance after a few epochs, so compare the
        accuracy with the accuracy of a control.

    Raises:
        ValueError: an unknown name, a size that does not exist, an argument that the protocol does
            not use, or a file of another measurement.
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
        normalisation=(normalisation, Normalisation),
    )
    images = images.with_true_labels()
    with within("recipe"):
        if not isinstance(recipe, TrainConfig):
            recipe = config_of(TrainConfig, None, recipe or {})
    _require_keys("trainer", trainer or {}, pl.Trainer)
    for key in ("max_epochs", "callbacks", "logger"):
        if key in (trainer or {}):
            raise SettingError("trainer", f"expected no {key!r}, which noise_fit sets itself")
    if samples is None:
        samples = default_samples(protocol, family, images, root)
    require_samples(protocol, samples, images)
    measurement = Measurement(
        network=loaded(network),
        images=images,
        normalisation=normalisation or channel_statistics(images.images),
        noise=make_noise(family, samples, images, seed, root),
        family=describe_noise(family),
        epochs=PROTOCOLS[protocol].epochs if epochs is None else epochs,
        batch_size=batch_size,
        seed=seed,
        recipe=recipe,
        trainer=trainer or {},
    )
    with quiet_lightning():
        if protocol == "quick":
            with isolate_rng():
                return quick_fit(measurement, callbacks or (), path)
        if protocol == "selectivity":
            return selectivity_fit(measurement, grid, path, progress)
        return converged_fit(measurement, grid, controls, path, progress)


def _require_numbers(**numbers: object) -> None:
    """Raise a `SettingError` if a number is not None and not a whole number in its range."""
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
    """Raise a `SettingError` if a key is not an argument of the class."""
    valid = inspect.signature(taker).parameters
    for key in given:
        if key not in valid:
            raise SettingError(name, unknown(f"argument of {taker.__name__}", key, valid))
