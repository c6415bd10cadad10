"""What a person sees of a run: a progress bar in a terminal, a line per epoch elsewhere."""

import sys
import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

COLUMNS = {
    "train/loss": "loss",
    "train/accuracy": "acc",
    "val/accuracy": "val acc",
    "noise/loss": "noise loss",
    "noise/accuracy": "noise acc",
    "noise/penalty": "penalty",
}
"""Which figures a line shows, and how they are headed. Add a metric here to see it."""


class RunProgress(pl.callbacks.ProgressBar):
    """Progress over the whole run: epoch, step, losses and the time left.

    Args:
        title: what the line begins with, such as ``search`` or ``train``.
        console: where to write; standard output by default.
    """

    def __init__(self, title: str, console: Console | None = None) -> None:
        super().__init__()
        self.title = title
        self.console = console or Console(file=sys.stdout, soft_wrap=True, highlight=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._pending: int | None = None
        self._started = 0.0

    def disable(self) -> None:
        """Called by Lightning on all processes but the first."""
        self.console.quiet = True

    def enable(self) -> None:
        self.console.quiet = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        self.console.print(*args)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.perf_counter()
        if not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("[dim]left"),
            TimeRemainingColumn(),
            console=self.console,
            speed_estimate_period=60,
        )
        self._bar.start()
        steps = int(trainer.num_training_batches)
        total = steps * (trainer.max_epochs or 0)
        self._task = self._bar.add_task(self.title, total=total or None, figures="")
        self._bar.update(self._task, completed=steps * trainer.current_epoch)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish_epoch(trainer)
        if self._bar is not None:
            epoch = f"{self.title} · epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self._bar.update(self._task, description=epoch)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self._bar is not None:
            self._bar.advance(self._task)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The figures of the epoch are logged by the module after this hook; see _finish_epoch.
        self._pending = trainer.current_epoch

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish_epoch(trainer)
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _finish_epoch(self, trainer: pl.Trainer) -> None:
        if self._pending is None:
            return
        figures = figures_line(trainer.callback_metrics)
        if self._bar is not None:
            self._bar.update(self._task, figures=figures)
        else:
            seconds = time.perf_counter() - self._started
            left = seconds / (self._pending + 1) * ((trainer.max_epochs or 0) - self._pending - 1)
            self.console.print(
                f"{self.title} epoch {self._pending + 1}/{trainer.max_epochs}  {figures}  "
                f"({seconds:.0f} s, {left:.0f} s left)"
            )
        self._pending = None

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def figures_line(metrics: Any) -> str:
    """The figures of an epoch that a person follows, in the order of `COLUMNS`."""
    return "  ".join(
        f"{title} {float(metrics[name]):.3f}" for name, title in COLUMNS.items() if name in metrics
    )
