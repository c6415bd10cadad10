"""The protocol ``selectivity``: steps to fit half of the noise, divided by steps on real images."""

from pathlib import Path

from rich.console import Console

from darts_noise.train.loop import each_tenth
from darts_noise.train.noise_measurement import Measurement
from darts_noise.train.noise_record import REAL, NoiseFit, NoiseRun, largest_accuracy
from darts_noise.train.noise_runs import NoiseRuns
from darts_noise.train.noise_training import TrainingSet
from darts_noise.train.settings import NoiseGrid

HALF = 0.5
"""Steps are counted until this training accuracy."""


def selectivity_fit(
    measurement: Measurement,
    grid: NoiseGrid | None = None,
    path: str | Path | None = None,
    progress: Console | bool | None = None,
) -> NoiseFit:
    """Return the steps to fit half of the noise, divided by the steps on as many real images.

    Each number of steps is the smallest over the grid, so each set is fitted with the settings that
    suit it. If no training fits half of the noise, the longest training that did not diverge gives
    a lower bound. If no training fits half of the real images, there is no result.

    See `darts_noise.noise_fit` for the arguments.

    Raises:
        ValueError: a file of another measurement.
    """
    m = measurement
    tasks = [
        TrainingSet(name, data, m.normalisation, m.batch_size, HALF, each_tenth)
        for name, data in (("noise", m.noise), (REAL, m.real))
    ]
    runs = NoiseRuns("selectivity", m, grid, {}, path, progress)
    with runs.progress:
        on_noise, on_real = (runs.on(task) for task in tasks)
    figure, is_bound = steps_ratio(on_noise, on_real)
    largest = largest_accuracy(on_noise)
    everything = on_noise + on_real
    return m.record(
        "selectivity",
        largest,
        largest,
        sum(run.seconds for run in everything),
        runs=tuple(everything),
        steps=(_fewest(on_noise), _fewest(on_real)),
        selectivity=figure,
        is_bound=is_bound,
    )


def steps_ratio(noise: list[NoiseRun], real: list[NoiseRun]) -> tuple[float | None, bool]:
    """Return (fewest steps on noise / fewest steps on real images, False), or (lower bound, True).

    Return (None, False) if no training fitted the real images, or if no training fitted the noise
    and all of them diverged.
    """
    of_noise, of_real = _fewest(noise), _fewest(real)
    if of_real is None:
        return None, False
    if of_noise is not None:
        return of_noise / of_real, False
    whole = [run.steps for run in noise if not run.diverged]
    return (max(whole) / of_real, True) if whole else (None, False)


def _fewest(runs: list[NoiseRun]) -> int | None:
    return min((run.reached for run in runs if run.reached is not None), default=None)
