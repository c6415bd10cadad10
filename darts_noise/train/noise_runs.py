"""The trainings of a measurement, one after the other: those on file are not made again.

They are independent of each other, so several processes make one each at a time. The figures are
those of one process, which makes them in the same order.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import nn

from darts_noise.distributed.collectives import (
    from_every_process,
    on_first_process,
    process_count,
    process_rank,
)
from darts_noise.train.networks import (
    NetworkLike,
    identify,
    loaded,
    make_network,
    suited_network,
)
from darts_noise.train.noise_measurement import Measurement
from darts_noise.train.noise_record import NoiseRun, largest_accuracy, run_key
from darts_noise.train.noise_training import TrainingSet, train_from_scratch
from darts_noise.train.progress import NoiseProgress
from darts_noise.train.run_file import RunFile
from darts_noise.train.settings import GridPoint, NoiseGrid

MEASURED = "network"
"""The name of the network that is measured, among those of the controls."""


def make_fabric(measurement: Measurement) -> Fabric:
    """One device, the first of those that the measurement names, in its precision.

    Of several processes each has the device on which it has joined them.
    """
    devices = measurement.trainer.get("devices")
    one: Any = devices[:1] if isinstance(devices, list) else 1
    precision: Any = measurement.precision
    accelerator = measurement.trainer.get("accelerator", "auto")
    if process_count() > 1 and accelerator != "cpu" and torch.cuda.is_available():
        one = [torch.cuda.current_device()]
    return Fabric(accelerator=accelerator, devices=one, precision=precision)


class NoiseRuns:
    """Makes the runs of a measurement, in the order that it is asked for them.

    Args:
        protocol: its name.
        measurement: the network, the noise and how they are trained.
        grid: the trainings of each network on each set.
        controls: further networks by name.
        about: what else tells the measurement from others.
        path: where finished runs are kept; None for nowhere.
        progress: see `NoiseProgress`.

    Raises:
        ValueError: an unknown genotype, a network that does not suit the images, or a file of
            another measurement.
    """

    def __init__(
        self,
        protocol: str,
        measurement: Measurement,
        grid: NoiseGrid,
        controls: Mapping[str, NetworkLike] | None = None,
        *,
        about: Mapping[str, Any] | None = None,
        path: str | Path | None,
        progress: Console | bool | None,
    ) -> None:
        self.measurement, self.grid = measurement, grid
        of_controls = {name: loaded(network) for name, network in (controls or {}).items()}
        self.networks = {MEASURED: measurement.network, **of_controls}
        self.fabric = make_fabric(measurement)
        everything = {
            "protocol": protocol,
            **measurement.about(),
            **(about or {}),
            "weight_decay": grid.weight_decay,
            "gradient_clip": grid.gradient_clip,
            **{f"network {name!r}": self._identity(name) for name in self.networks},
        }
        self.file = on_first_process(lambda: RunFile(path, everything))
        if process_rank() > 0:
            self.file.path, progress = None, False  # the first keeps and shows the runs of all
        self.progress = NoiseProgress(progress)

    def __enter__(self) -> "NoiseRuns":
        self.progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.__exit__(kind, error, trace)

    def on(
        self, task: TrainingSet, name: str = MEASURED, enough: float | None = None
    ) -> list[NoiseRun]:
        """The runs of a network on a set, made or from the file.

        Args:
            task: the set.
            name: of the network.
            enough: no further run is made once one has reached this accuracy; None for the grid's.
        """
        enough = self.grid.enough if enough is None else enough
        done: list[NoiseRun] = []
        settings = list(enumerate(self.grid, 1))
        for start in range(0, len(settings), process_count()):
            for run in self._together(task, name, settings[start : start + process_count()]):
                done.append(run)
                if enough is not None and largest_accuracy(done) >= enough:
                    return done
        return done

    def _together(
        self, task: TrainingSet, name: str, settings: Sequence[tuple[int, GridPoint]]
    ) -> list[NoiseRun]:
        """The runs of these settings: of those that are not on file, each process makes one."""
        keys = {run_key(name, task.name, *point): (number, point) for number, point in settings}
        missing = [key for key in keys if key not in self.file]
        mine: NoiseRun | None = None
        if process_rank() < len(missing):
            number, point = keys[missing[process_rank()]]
            optimiser, rate, seed = point
            which = f"{number}/{len(self.grid)}, {optimiser} {rate:g}, seed {seed}"
            self.progress.begin(f"{name} on {task.name}, {which}", task.epochs)
            mine = self._train(task, name, *point)
            self.progress.end(mine)
        for made in from_every_process(mine):
            if made is not None:
                self.file.add(made)
        return [self.file[key] for key in keys]

    def _train(
        self, task: TrainingSet, name: str, optimiser: str, rate: float, seed: int
    ) -> NoiseRun:
        return train_from_scratch(
            lambda: self._make(name),
            task,
            self.fabric,
            network=name,
            optimiser=optimiser,
            learning_rate=rate,
            seed=seed,
            base_seed=self.measurement.seed,
            weight_decay=self.grid.weight_decay,
            gradient_clip=self.grid.gradient_clip,
            watch=self.progress.epoch,
        )

    def _make(self, name: str) -> nn.Module:
        m = self.measurement
        return make_network(self.networks[name], *m.form, m.recipe)

    def _identity(self, name: str) -> str:
        m, network = self.measurement, self.networks[name]
        return identify(
            network, suited_network(name, network, m.images.num_classes, m.images.shape, m.recipe)
        )
