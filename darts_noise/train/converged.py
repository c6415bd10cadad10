"""The protocol ``converged``: the largest accuracy on noise of all trainings of a grid."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from darts_noise.errors import SettingError
from darts_noise.train.control_networks import resnet18
from darts_noise.train.factories import NetworkLike
from darts_noise.train.loop import each_epoch
from darts_noise.train.noise_measurement import Measurement
from darts_noise.train.noise_record import (
    CONTROL_ACCURACY,
    REAL,
    REAL_ACCURACY,
    NoiseFit,
    largest_accuracy,
)
from darts_noise.train.noise_runs import MEASURED, NoiseRuns
from darts_noise.train.noise_training import TrainingSet
from darts_noise.train.settings import NoiseGrid

CONTROLS: Mapping[str, NetworkLike] = {"resnet18": resnet18}


def converged_fit(
    measurement: Measurement,
    grid: NoiseGrid | None = None,
    controls: Mapping[str, NetworkLike] | None = None,
    path: str | Path | None = None,
    progress: Console | bool | None = None,
) -> NoiseFit:
    """Return the largest accuracy on noise over optimisers, rates, initial scales and seeds.

    A training stops when it fits all samples. Two checks show whether these trainings are strong
    enough. Positive controls are trained on the same noise with the same grid, each until one of
    its trainings reaches 99%. The network itself is trained on as many real images with the same
    grid, until one training reaches 90%; the trainings that fitted most of the noise come first.

    See `darts_noise.noise_fit` for the arguments.

    Raises:
        ValueError: a name that a control cannot have, or a file of another measurement.
    """
    m = measurement
    controls = CONTROLS if controls is None else controls
    if MEASURED in controls:
        raise SettingError("controls", f"expected a name other than {MEASURED!r}, got {MEASURED!r}")
    noise = TrainingSet("noise", m.noise, m.normalisation, m.batch_size, 1.0, each_epoch)
    real = replace(noise, name=REAL, data=m.real, target=CONTROL_ACCURACY)
    for_controls = replace(noise, target=CONTROL_ACCURACY)
    runs = NoiseRuns("converged", m, grid, controls, path, progress)
    with runs.progress:
        on_noise = runs.on(noise)
        on_real = runs.on(real, enough=REAL_ACCURACY, after=noise.name)
        of_controls = {
            name: runs.on(for_controls, name, enough=CONTROL_ACCURACY) for name in controls
        }
    everything = on_noise + on_real + [run for made in of_controls.values() for run in made]
    largest, largest_real = largest_accuracy(on_noise), largest_accuracy(on_real)
    return m.record(
        "converged",
        largest,
        largest,
        sum(run.seconds for run in everything),
        runs=tuple(everything),
        controls={name: largest_accuracy(made) for name, made in of_controls.items()},
        real_accuracy=None if math.isnan(largest_real) else largest_real,
        real_samples=len(m.real),
    )
