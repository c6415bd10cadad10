"""Run the trainings of a measurement, except those that a file already holds.

The trainings are independent of each other, so several processes each run one at a time. One
process runs them in the same order and gets the same results.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console

from darts_noise.distributed.collectives import (
    from_every_process,
    on_first_process,
    process_count,
    process_rank,
)
from darts_noise.noise.families import fingerprint
from darts_noise.train.factories import (
    NetworkLike,
    identify,
    loaded,
    make_network,
    suited_network,
)
from darts_noise.train.loop import Recipe
from darts_noise.train.module import usual_optimiser
from darts_noise.train.noise_measurement import Measurement
from darts_noise.train.noise_record import NoiseRun, largest_accuracy, run_key
from darts_noise.train.noise_training import TrainingSet, measure_fit
from darts_noise.train.progress import NoiseProgress
from darts_noise.train.run_file import RunFile
from darts_noise.train.settings import GridPoint, NoiseGrid

MEASURED = "network"
"""The name of the measured network in the records, beside the names of the controls."""


def make_fabric(measurement: Measurement) -> Fabric:
    """Return the device and the precision of a measurement.

    The device is the first one that the measurement names. If several processes work together, each
    keeps its own device.
    """
    devices = measurement.trainer.get("devices")
    one: Any = devices[:1] if isinstance(devices, list) else 1
    precision: Any = measurement.precision
    accelerator = measurement.trainer.get("accelerator", "auto")
    if process_count() > 1 and accelerator != "cpu" and torch.cuda.is_available():
        one = [torch.cuda.current_device()]
    return Fabric(accelerator=accelerator, devices=one, precision=precision)


class NoiseRuns:
    """The trainings of a measurement, run now or read from a file.

    Args:
        protocol: name of the protocol.
        measurement: the network, the noise and the settings of a training.
        grid: the trainings of each network on each set. None: the default grid.
        controls: further networks by name.
        path: file of the finished trainings. None: no file.
        progress: see `NoiseProgress`.

    Raises:
        ValueError: an unknown genotype, a network that does not suit the images, or a file of
            another measurement.
    """

    def __init__(
        self,
        protocol: str,
        measurement: Measurement,
        grid: NoiseGrid | None,
        controls: Mapping[str, NetworkLike],
        path: str | Path | None,
        progress: Console | bool | None,
    ) -> None:
        self.measurement, self.grid = measurement, grid or NoiseGrid()
        of_controls = {name: loaded(network) for name, network in controls.items()}
        self.networks = {MEASURED: measurement.network, **of_controls}
        self.fabric = make_fabric(measurement)
        everything = {
            "protocol": protocol,
            **measurement.about(),
            "real images": fingerprint(measurement.real),
            "weight_decay": self.grid.weight_decay,
            "gradient_clip": self.grid.gradient_clip,
            **{f"network {name!r}": self._identity(name) for name in self.networks},
        }
        self.file = on_first_process(lambda: RunFile(path, everything))
        if process_rank() > 0:
            self.file.path, progress = None, False  # the first process does both
        self.progress = NoiseProgress(progress)

    def on(
        self,
        task: TrainingSet,
        name: str = MEASURED,
        enough: float | None = None,
        after: str | None = None,
    ) -> list[NoiseRun]:
        """Return the trainings of a network on a set. Call it in the context `progress`.

        The optimiser with which the network is usually trained comes first, so that a grid that may
        stop stops sooner.

        Args:
            task: the set.
            name: name of the network.
            enough: stop after a training with this accuracy. None (default): as the grid says.
            after: name of another set. The settings that have fitted most of it come first.
        """
        enough = self.grid.enough if enough is None else enough
        done: list[NoiseRun] = []
        fitted = {
            run.point: run.accuracy or 0.0
            for run in self.file.runs.values()
            if (run.network, run.data) == (name, after)
        }
        usual = usual_optimiser(self.networks[name])
        points = sorted(self.grid, key=lambda point: point.optimiser != usual)
        points.sort(key=lambda point: -fitted.get(point, 0.0))
        settings = list(enumerate(points, 1))
        for start in range(0, len(settings), process_count()):
            for run in self._together(task, name, settings[start : start + process_count()]):
                done.append(run)
                if enough is not None and largest_accuracy(done) >= enough:
                    return done
        return done

    def _together(
        self, task: TrainingSet, name: str, settings: Sequence[tuple[int, GridPoint]]
    ) -> list[NoiseRun]:
        """Return the trainings with these settings. Each process runs one that the file lacks."""
        keys = {run_key(name, task.name, point): (number, point) for number, point in settings}
        for key in keys:
            if key in self.file.on_real and key not in self.file.runs:
                self.file.add(self.file.on_real[key])
        missing = [key for key in keys if key not in self.file.runs]
        mine: NoiseRun | None = None
        if process_rank() < len(missing):
            number, point = keys[missing[process_rank()]]
            images = f"{self.measurement.family} noise" if task.name == "noise" else task.name
            which = f"{name} on {images}, {number}/{len(self.grid)}, {point}"
            self.progress.begin(which, self.measurement.epochs)
            mine = self._train(task, name, point)
            self.progress.end(mine)
        for made in from_every_process(mine):
            if made is not None:
                self.file.add(made)
        return [self.file.runs[key] for key in keys]

    def _train(self, task: TrainingSet, name: str, point: GridPoint) -> NoiseRun:
        m = self.measurement
        recipe = Recipe(
            point.optimiser,
            point.learning_rate,
            m.epochs,
            point.initial_scale,
            self.grid.weight_decay,
            self.grid.gradient_clip,
        )
        return measure_fit(
            partial(make_network, self.networks[name], m.num_classes, m.in_channels, m.recipe),
            task,
            recipe,
            self.fabric,
            network=name,
            seed=point.seed,
            base_seed=m.seed,
            watch=self.progress.epoch,
        )

    def _identity(self, name: str) -> str:
        m, network = self.measurement, self.networks[name]
        return identify(
            network, suited_network(name, network, m.num_classes, m.images.shape, m.recipe)
        )
