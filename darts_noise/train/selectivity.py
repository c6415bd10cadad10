"""The protocol ``selectivity``: how much longer half of the noise takes than half of the data."""

from pathlib import Path
from typing import Any

from rich.console import Console

from darts_noise.data.splits import stratified_subset
from darts_noise.noise.families import fingerprint
from darts_noise.train.noise_measurement import Measurement
from darts_noise.train.noise_record import NoiseFit, NoiseRun, largest_accuracy
from darts_noise.train.noise_runs import NoiseRuns
from darts_noise.train.noise_training import TrainingSet, each_tenth
from darts_noise.train.settings import NoiseGrid

HALF = 0.5
"""The training accuracy to which steps are counted."""


def selectivity_fit(
    measurement: Measurement,
    grid: NoiseGrid | None = None,
    path: str | Path | None = None,
    progress: Console | bool | None = None,
) -> NoiseFit:
    """Optimiser steps to half of the noise, divided by those to half of as many real images.

    Both are the fewest over the grid, so each is learnt with what suits it. Where no run gets to
    half of the noise, the steps of the longest run that did not diverge give a lower bound. Where
    none gets to half of the real images there is no figure. Arguments as for
    `darts_noise.noise_fit`.

    Raises:
        ValueError: a file of another measurement.
    """
    m = measurement
    real = m.images.subset(stratified_subset(m.images.labels, len(m.noise), m.seed))
    common: Any = {"target": HALF, "due": each_tenth}
    tasks = [
        TrainingSet(name, data, m.normalisation, m.epochs, m.batch_size, **common)
        for name, data in (("noise", m.noise), ("real", real))
    ]
    runs = NoiseRuns(
        "selectivity",
        m,
        grid or NoiseGrid(),
        about={"real images": fingerprint(real)},
        path=path,
        progress=progress,
    )
    with runs:
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
    """(fewest steps on noise / fewest on real data, False), or a lower bound of it and True.

    (None, False) where real data were not learnt, or where noise was not and every run diverged.
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
