"""The protocol ``selectivity``: steps to fit half of the noise, divided by steps on real images."""

from pathlib import Path

import torch
from rich.console import Console

from darts_noise.train.loop import each_tenth
from darts_noise.train.noise_measurement import Measurement
from darts_noise.train.noise_record import REAL, NoiseFit, NoiseRun, largest_accuracy
from darts_noise.train.noise_runs import NoiseRuns
from darts_noise.train.noise_training import TrainingSet
from darts_noise.train.settings import NoiseGrid


def selectivity_fit(
    measurement: Measurement,
    grid: NoiseGrid | None = None,
    path: str | Path | None = None,
    progress: Console | bool | None = None,
) -> NoiseFit:
    """Return the steps to fit half of the noise, divided by the steps on as many real images.

    Half is half way from the best constant answer of the set to 1: an accuracy of 0.55 with ten
    classes of equal size. Each number of steps is the smallest over the grid, so each set is fitted
    with the settings that suit it. If no training fits half of the noise, the steps of a whole
    training are a lower bound. If no training fits half of the real images, there is no result.

    See `darts_noise.noise_fit` for the arguments.

    Raises:
        ValueError: a file of another measurement.
    """
    m = measurement
    tasks = [
        TrainingSet(name, data, m.normalisation, m.batch_size, (1 + data.chance) / 2, each_tenth)
        for name, data in (("noise", m.noise), (REAL, m.real))
    ]
    runs = NoiseRuns("selectivity", m, grid, {}, path, progress)
    with runs.progress:
        on_noise, on_real = (runs.on(task) for task in tasks)
    whole = m.epochs * tasks[0].stream(torch.device("cpu"), 0).batches_per_epoch
    figure, is_bound = steps_ratio(on_noise, on_real, whole)
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


def steps_ratio(
    noise: list[NoiseRun], real: list[NoiseRun], whole: int
) -> tuple[float | None, bool]:
    """Return (fewest steps on noise / fewest steps on real images, False), or (lower bound, True).

    `whole` is the number of steps of a whole training. The bound counts them also for a network to
    which all noise images look the same, whose training stops at once.

    Return (None, False) if no training fitted the real images, or if no training fitted the noise
    and all of them diverged.
    """
    of_noise, of_real = _fewest(noise), _fewest(real)
    if of_real is None:
        return None, False
    if of_noise is not None:
        return of_noise / of_real, False
    return (None, False) if all(run.diverged for run in noise) else (whole / of_real, True)


def _fewest(runs: list[NoiseRun]) -> int | None:
    return min((run.reached for run in runs if run.reached is not None), default=None)
