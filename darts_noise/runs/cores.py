"""Use the cores of a CPU: one thread for small networks, and noise beside the data.

A small network gains nothing from a second thread, so another training can have the second core.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console

from darts_noise.configured import fields_of
from darts_noise.data.module import ImageDataModule
from darts_noise.data.settings import DataConfig
from darts_noise.memory import keep_freed_memory
from darts_noise.space.genotype import Genotype
from darts_noise.train.noise_fit import noise_fit
from darts_noise.train.progress import REFRESH, RunProgress
from darts_noise.train.settings import TrainConfig

SMALL = 1 << 17
"""Numbers in a map of the first cell, over the batch, up to which one thread computes. torch itself
does not split operations on fewer than 2^15 numbers."""
WORTHWHILE = 500
"""Steps of a training that are worth a process of its own, which takes seconds to start."""


@contextmanager
def threads_for(numbers: int) -> Iterator[None]:
    """Inside the context, torch uses one thread if the maps of the network are small.

    The results of such a network are then the same on every number of cores. ``OMP_NUM_THREADS`` in
    the environment decides if it is set.

    Args:
        numbers: the numbers in a map of the first cell, over the batch.
    """
    before = torch.get_num_threads()
    if numbers <= SMALL and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def spare_processes() -> int:
    """Return how many more processes with the threads of this one have cores of their own."""
    here = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if here else os.cpu_count() or 1
    return cores // torch.get_num_threads() - 1


class Ahead:
    """A process that makes the epochs of a quick measurement before the measurement needs them.

    It writes the checkpoint of each epoch to the folder ``path`` and ends after the last epoch. The
    measurement, `noise_fit` with the same arguments, continues from that checkpoint. So its result
    is the same with and without the process. If the process fails or is killed, the measurement
    makes the missing epochs itself, and reports the error if there is one.

    Leaving the context kills the process. The process ends itself if this one is killed.

    Args:
        genotype: the cell.
        data: the settings of the images.
        recipe: the recipe of the measurement.
        console: where to show the progress.
        progress: title and figures of a `RunProgress`. None: show no progress.
        settings: further arguments of `noise_fit`.

    Raises:
        TypeError: the settings cannot be written as JSON.
    """

    def __init__(
        self,
        genotype: Genotype,
        data: DataConfig,
        recipe: TrainConfig,
        console: Console,
        progress: tuple[str, Mapping[str, str]] | None,
        **settings: Any,
    ) -> None:
        self.console, self._latest = console, ""
        given = {
            **settings,
            "genotype": genotype.to_dict(),
            "data": fields_of(data),
            "recipe": fields_of(recipe),
            "progress": progress,
            "threads": torch.get_num_threads(),
        }
        line = json.dumps(given) + "\n"
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the measurement itself reports an error
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended already
            self._process.stdin.write(line)
            self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *reason: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()

    def wait(self) -> None:
        """Wait until the process has ended. A terminal shows its progress."""
        with self.console.status(self._latest) as status:
            while self._reader.is_alive():
                self._reader.join(REFRESH)
                status.update(self._latest)
        if self.console.is_terminal and self._latest:
            self._show()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._latest = line.rstrip()
            if not self.console.is_terminal:
                self._show()

    def _show(self) -> None:
        self.console.print(self._latest, markup=False, highlight=False, soft_wrap=True)


class _Leave(pl.Callback):
    """End the process after the last epoch, so that `noise_fit` does not remove the checkpoint."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        sys.stdout.flush()
        os._exit(0)


def _end_with_parent() -> None:
    """End this process when the pipe from its parent closes."""
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Be the process of `Ahead`, whose arguments are the first line of standard input."""
    given = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(given.pop("threads"))
    keep_freed_memory()
    data = ImageDataModule(DataConfig(**given.pop("data")))
    data.setup()
    callbacks: list[pl.Callback] = [_Leave()]
    if progress := given.pop("progress"):
        title, figures = progress
        console = Console(soft_wrap=True, highlight=False, markup=False)
        callbacks.insert(0, RunProgress(title, console, figures))
    noise_fit(
        Genotype.from_dict(given.pop("genotype")),
        data.train,
        normalisation=data.normalisation,
        recipe=TrainConfig(**given.pop("recipe")),
        callbacks=callbacks,
        **given,
    )


if __name__ == "__main__":
    main()
