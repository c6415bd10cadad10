"""The protocol ``converged``: the most that any training of a grid fits of the noise."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from darts_noise.errors import SettingError
from darts_noise.train.control_networks import resnet18
from darts_noise.train.networks import NetworkLike
from darts_noise.train.noise_measurement import Measurement
from darts_noise.train.noise_record import CONTROL_ACCURACY, NoiseFit, largest_accuracy
from darts_noise.train.noise_runs import MEASURED, NoiseRuns
from darts_noise.train.noise_training import TrainingSet, each_epoch
from darts_noise.train.settings import NoiseGrid

CONTROLS: Mapping[str, NetworkLike] = {"resnet18": resnet18}


def converged_fit(
    measurement: Measurement,
    grid: NoiseGrid | None = None,
    controls: Mapping[str, NetworkLike] | None = None,
    path: str | Path | None = None,
    progress: Console | bool | None = None,
) -> NoiseFit:
    """The largest accuracy on noise over optimisers, learning rates and seeds.

    A run ends when it answers all samples right. Positive controls are trained on the same set with
    the same grid, each until a run of it has reached 99 %. Arguments as for
    `darts_noise.noise_fit`.

    Raises:
        ValueError: a name of a control that cannot be one, or a file of another measurement.
    """
    m = measurement
    controls = _named(CONTROLS if controls is None else controls)
    noise = TrainingSet(
        "noise", m.noise, m.normalisation, m.epochs, m.batch_size, target=1.0, due=each_epoch
    )
    for_controls = replace(noise, target=CONTROL_ACCURACY)
    runs = NoiseRuns("converged", m, grid or NoiseGrid(), controls, path=path, progress=progress)
    with runs:
        made = runs.on(noise)
        of_controls = {
            name: runs.on(for_controls, name, enough=CONTROL_ACCURACY) for name in controls
        }
    everything = made + [run for runs_of in of_controls.values() for run in runs_of]
    largest = largest_accuracy(made)
    return m.record(
        "converged",
        largest,
        largest,
        sum(run.seconds for run in everything),
        runs=tuple(everything),
        controls={name: largest_accuracy(runs_of) for name, runs_of in of_controls.items()},
    )


def _named(controls: Mapping[str, NetworkLike]) -> Mapping[str, NetworkLike]:
    if MEASURED in controls:
        raise SettingError("controls", f"expected a name other than {MEASURED!r}, got {MEASURED!r}")
    return controls
