"""Save the state that Lightning's checkpoints lack, so that a resumed run is bit for bit the same.

For each process: the random generators, the values of the metrics in the current epoch and the
accumulated gradients. For all processes together: the rows of ``metrics.csv``, whether the run has
ended early, and the duration of the run.
"""

import random
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.apply_func import (
    convert_tensors_to_scalars,
    move_data_to_device,
)
from torch import nn
from torchmetrics import Metric

from darts_noise.compat import figures_to_be_logged, logged_step, set_updates
from darts_noise.distributed.collectives import CollectiveError, from_every_process

Row = dict[str, Any]  # a row of the run's figures: name → value

KEY = "run_state"
"""Key of this state in a checkpoint."""


class Table(Protocol):
    """The rows of a run's figures, such as `MetricsTable`."""

    rows: list[Row]

    def replace(self, rows: Sequence[Row]) -> None:
        """Replace the rows."""


class RunState(pl.Callback):
    """A callback that saves the state to each checkpoint and restores it.

    Args:
        table: the rows of the run's figures.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self._ended = False
        self._began = time.perf_counter()
        self._before = 0.0  # duration of the run until the last stop, in seconds
        self._process: dict[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """Duration of the run in seconds, without the pauses between a stop and the resume."""
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
            # Move to the CPU: otherwise all processes would unpack a tensor on the sender's GPU.
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
            raise CollectiveError(
                f"trainer.devices: expected {len(processes)} processes as in the stopped run, "
                f"got {trainer.world_size}"
            )
        self._process = processes[trainer.global_rank]
        self._before = state["seconds"]
        self.table.replace(state["rows"])
        trainer.should_stop = state["should_stop"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Restore only now, because the setup before the first step may draw random numbers.
        process, self._process = self._process, None
        if process is None:
            return
        set_metric_state(pl_module, process["metrics"])
        for name, gradient in process["gradients"].items():
            parameter = pl_module.get_parameter(name)
            parameter.grad = gradient.to(parameter.device)
        set_random_state(process["random"], trainer.strategy.root_device)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._ended = True

    def end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Call the end of the training if Lightning has not: a resumed run had no steps left."""
        if not self._ended:
            callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
            for callback in callbacks:
                callback.on_train_end(trainer, module)


def _accumulated(trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, torch.Tensor]:
    """Return the gradients by parameter name, if gradients are accumulated over batches."""
    if trainer.accumulate_grad_batches == 1:
        return {}
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def _rows_to_come(trainer: pl.Trainer) -> list[Row]:
    """Return the row of a finished epoch. Lightning logs it only after the checkpoint."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    if epochs.processed == epochs.completed:
        return []
    figures = convert_tensors_to_scalars(figures_to_be_logged(trainer))
    return [{**figures, "epoch": trainer.current_epoch, "step": logged_step(trainer)}]


def metric_state(module: nn.Module) -> dict[str, dict[str, Any]]:
    """Return the update count and the values of each metric in a module, by name."""
    return {
        name: {"updates": metric.update_count, "values": dict(metric.metric_state)}
        for name, metric in module.named_modules()
        if isinstance(metric, Metric)
    }


def set_metric_state(module: nn.Module, state: dict[str, dict[str, Any]]) -> None:
    """Restore the result of `metric_state`, on the current devices of the metrics."""
    for name, held in state.items():
        metric = module.get_submodule(name)
        assert isinstance(metric, Metric)
        for key, value in held["values"].items():
            setattr(metric, key, move_data_to_device(value, metric.device))
        set_updates(metric, held["updates"])


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the states of Python, NumPy, torch and, for a CUDA device, the device's generator."""
    version, words, gauss = random.getstate()
    of_numpy = dict(np.random.get_state(legacy=False))
    of_numpy["state"] = {**of_numpy["state"], "key": of_numpy["state"]["key"].tolist()}
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": of_numpy,
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restore the result of `random_state`. The CUDA state is restored only on a CUDA device."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    key = np.array(state["numpy"]["state"]["key"], dtype=np.uint32)
    np.random.set_state({**state["numpy"], "state": {**state["numpy"]["state"], "key": key}})
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
