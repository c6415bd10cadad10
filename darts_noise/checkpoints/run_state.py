"""What Lightning's checkpoints leave out, so that a resumed run is bit for bit the unbroken one.

That is, for each process: the random generators, what the metrics have gathered in the epoch, and
the gradients that are being accumulated. And for all of them: the rows of ``metrics.csv``, whether
the run has ended early, and for how long it ran.
"""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.apply_func import (
    convert_tensors_to_scalars,
    move_data_to_device,
)

from darts_noise.checkpoints.metric_state import metric_state, set_metric_state
from darts_noise.checkpoints.random_state import random_state, set_random_state
from darts_noise.compat import figures_to_be_logged, logged_step
from darts_noise.distributed.collectives import SharedError, from_every_process

Row = dict[str, Any]  # of the run's figures: name → value

KEY = "run_state"
"""Of the checkpoint."""


class Table(Protocol):
    """The rows of a run's figures, such as `MetricsTable`."""

    rows: list[Row]

    def replace(self, rows: Sequence[Row]) -> None:
        """Makes these the rows."""


class RunState(pl.Callback):
    """Adds to each checkpoint and takes back from it.

    Attributes:
        ended: whether Lightning has run the end of the training; it leaves that out where a run
            resumes that has no step to make.

    Args:
        table: of the run's figures.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.ended = False
        self._began = time.perf_counter()
        self._before = 0.0  # seconds that the run took until it was stopped
        self._process: dict[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """How long the run has taken, without the times between a stop and what followed."""
        return self._before + time.perf_counter() - self._began

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        process = {
            "random": random_state(trainer.strategy.root_device),
            "metrics": metric_state(pl_module),
            "gradients": _accumulated(trainer, pl_module),
        }
        checkpoint[KEY] = {
            # From the CPU: what one process has on its GPU, all would unpack on that GPU.
            "processes": from_every_process(move_data_to_device(process, "cpu")),
            "rows": [*self.table.rows, *_rows_to_come(trainer)],
            "should_stop": trainer.should_stop,
            "seconds": self.seconds,
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state = checkpoint[KEY]
        processes = state["processes"]
        if len(processes) != trainer.world_size:
            raise SharedError(
                f"trainer.devices: expected {len(processes)} processes, as in the run that was "
                f"stopped, got {trainer.world_size}"
            )
        self._process = processes[trainer.global_rank]
        self._before = state["seconds"]
        self.table.replace(state["rows"])
        trainer.should_stop = state["should_stop"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Only now: what is made before the first step may draw random numbers.
        process, self._process = self._process, None
        if process is None:
            return
        set_metric_state(pl_module, process["metrics"])
        for name, gradient in process["gradients"].items():
            parameter = pl_module.get_parameter(name)
            parameter.grad = gradient.to(parameter.device)
        set_random_state(process["random"], trainer.strategy.root_device)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ended = True


def _accumulated(trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, torch.Tensor]:
    """Gradients by the name of their parameter, where the next batch may add to them."""
    if trainer.accumulate_grad_batches == 1:
        return {}
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def _rows_to_come(trainer: pl.Trainer) -> list[Row]:
    """The row of an epoch that is over; Lightning logs it after the checkpoint has been saved."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    if epochs.processed == epochs.completed:
        return []
    figures = convert_tensors_to_scalars(figures_to_be_logged(trainer))
    return [{**figures, "epoch": trainer.current_epoch, "step": logged_step(trainer)}]
