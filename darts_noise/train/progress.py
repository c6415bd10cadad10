"""Progress of trainings: a moving line on a terminal, otherwise one line per finished epoch or run.

Lightning's own `RichProgressBar` shows one epoch at a time, reads every figure from the GPU at
every step and writes no lines to a file. The columns of rich cut figures in two in a narrow
terminal.
"""

import logging
import math
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from darts_noise.errors import counted
from darts_noise.shown import readable_duration
from darts_noise.train.noise_record import NoiseRun

FIGURES = {
    "train/loss": "loss",
    "val/accuracy": "val acc",
    "noise/loss": "noise loss",
    "noise/penalty": "penalty",
    "train/accuracy": "acc",
    "noise/accuracy": "noise acc",
}
"""Metric → its heading, the most important first. Add a metric here to show it."""

REFRESH = 0.25  # seconds between two readings of the figures, which may wait for a GPU
LEAST_BAR, MOST_BAR = 6, 40  # columns
BEFORE_BAR = 2
"""Number of figures that are more important than the bar: the loss and the accuracy."""


class RunProgress(pl.callbacks.ProgressBar):
    """The progress of a whole run of a Trainer: epoch, step, figures and the time left.

    On a terminal, figures that the module logs with ``self.log(name, value, on_step=True,
    on_epoch=False, logger=False)`` show their latest values. The other figures show the values of
    the last epoch.

    Args:
        title: first word of the line, such as ``search`` or ``train``.
        console: where to write. Default: standard output.
        figures: metric → heading, the most important first.
    """

    def __init__(
        self,
        title: str,
        console: Console | None = None,
        figures: Mapping[str, str] = FIGURES,
    ) -> None:
        super().__init__()
        self.title, self.figures = title, figures
        self.console = console or Console(highlight=False)
        self._enabled = True
        self._line: _Line | None = None
        # (seconds, epochs done) at the start of this epoch and of the last
        self._marks: deque[tuple[float, float]] = deque(maxlen=2)
        self._unsaid = False

    def disable(self) -> None:
        """Show nothing. Lightning calls this on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show progress again."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print the arguments of a module's ``self.print`` above the line."""
        if self._enabled:
            self.console.print(*args, markup=False, soft_wrap=True, **kwargs)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began, self._looked = time.perf_counter(), 0.0
        self._epoch, self._step = trainer.current_epoch, 0
        self._texts: list[str] = []
        self._unsaid = False
        self._marks.clear()
        self._close()
        if self._enabled:
            self._line = _Line(self.console)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish_epoch(trainer)
        self._epoch, self._step = trainer.current_epoch, 0
        self._marks.append((time.perf_counter() - self._began, self._epoch))
        if self._line is not None and self._line.moves:
            self._show(trainer, self._epoch)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._step = batch_idx + 1
        if self._line is None or not self._line.moves:
            return
        now = time.perf_counter()
        if now - self._looked >= REFRESH:
            self._look(trainer)
            self._looked = now
        self._show(trainer, self._epoch + self._step / self.total_train_batches)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The module logs the figures of the epoch after this hook; see _finish_epoch.
        self._unsaid = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish_epoch(trainer)
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._close()

    def _finish_epoch(self, trainer: pl.Trainer) -> None:
        if self._unsaid and self._line is not None:
            self._look(trainer)
            self._show(trainer, self._epoch + 1)
        self._unsaid = False

    def _look(self, trainer: pl.Trainer) -> None:
        """Read the figures. The figures of the current step are not averaged over the processes."""
        self._texts = figure_texts(trainer.callback_metrics, self.figures)

    def _show(self, trainer: pl.Trainer, done: float) -> None:
        """Show the run after `done` epochs, on the moving line or as a new line."""
        assert self._line is not None
        epochs = length_in_epochs(trainer)
        seconds = time.perf_counter() - self._began
        # A run that resumes within an epoch has no mark yet.
        since, before = self._marks[0] if self._marks else (0.0, done)
        left = None
        if epochs is not None and done > before:
            left = max(0.0, (seconds - since) / (done - before) * (epochs - done))
        whole = None if epochs is None else math.ceil(epochs)
        epoch = f"{self.title} epoch {_of(self._epoch + 1, whole)}"
        if self._line.moves:
            steps = self.total_train_batches
            step = f"step {_of(self._step, int(steps) if math.isfinite(steps) else None)}"
            self._line.show((epoch, step), done, epochs, self._texts, left)
        else:
            times = [readable_duration(seconds)]
            times += [] if left is None else [f"{readable_duration(left)} left"]
            self.print("  ".join([epoch, *self._texts, f"({', '.join(times)})"]))

    def _close(self) -> None:
        if self._line is not None:
            self._line.stop()
            self._line = None


def length_in_epochs(trainer: pl.Trainer) -> float | None:
    """Return the length of a run by `max_epochs` and `max_steps`. None: it has no limit.

    The Trainer must have opened its loaders.
    """
    epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else math.inf
    if trainer.max_steps > 0 and math.isfinite(trainer.num_training_batches):
        per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        epochs = min(epochs, trainer.max_steps / per_epoch)
    return epochs if math.isfinite(epochs) else None


class NoiseProgress:
    """The progress of the trainings of a noise measurement: a context around all of them.

    Args:
        shown: a console, or True for standard error, or False for no progress. None: standard error
            if it is a terminal, otherwise no progress.
    """

    def __init__(self, shown: Console | bool | None) -> None:
        if shown is None:
            shown = sys.stderr.isatty()
        if isinstance(shown, bool):
            shown = Console(stderr=True, highlight=False) if shown else Console(quiet=True)
        self.console = shown

    def __enter__(self) -> "NoiseProgress":
        self._line = _Line(self.console, transient=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._line.stop()

    def begin(self, label: str, epochs: int) -> None:
        """Show the start of a training of at most `epochs` epochs."""
        self._text, self._epochs = f"noise fit, {label}", epochs
        self._line.begin()
        self._line.show((self._text, f"0/{epochs}"), 0, epochs)

    def epoch(self, epoch: int, accuracy: float) -> None:
        """Show the number of finished epochs and the largest accuracy so far."""
        words = (f"{self._text}: {100 * accuracy:.1f}%", f"{epoch}/{self._epochs}")
        self._line.show(words, epoch, self._epochs)

    def end(self, run: NoiseRun) -> None:
        """Print the result of the training, unless a moving line shows it."""
        if not self._line.moves:
            accuracy = "no accuracy" if run.accuracy is None else f"{100 * run.accuracy:.1f}%"
            self.console.print(
                f"{self._text}: {'diverged, ' if run.diverged else ''}{accuracy}, "
                f"{counted(run.epochs, 'epoch')}, {run.seconds:.0f} s",
                markup=False,
                soft_wrap=True,
            )


class _Line:
    """The moving line on a terminal. On any other console it shows nothing.

    If the terminal is narrow, the last figures are left out first, then the bar, then the first two
    figures, then the words.

    Attributes:
        moves: whether the console is a terminal, so that the line is visible.
    """

    def __init__(self, console: Console, transient: bool = False) -> None:
        self.moves = console.is_terminal and not console.is_dumb_terminal and not console.quiet
        self._live = Live(
            self, console=console, transient=transient, refresh_per_second=1 / REFRESH
        )
        self.begin()
        if self.moves:
            self._live.start()

    def begin(self) -> None:
        """Show only the time, from 0."""
        self._began = time.monotonic()
        self.show((), 0, None)

    def show(
        self,
        words: Sequence[str],
        done: float,
        total: float | None,
        figures: Sequence[str] = (),
        left: float | None = None,
    ) -> None:
        """Show text, a bar over `total`, figures such as ``loss 1.234`` and the seconds left."""
        share = done / total if total else None
        # One assignment, because another thread draws the line.
        self._shown = (words, share, figures, "" if left is None else f", {_clock(left)} left")

    def stop(self) -> None:
        """Release the terminal."""
        self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        head, share, figures, left = self._shown
        if not head:
            return
        # Leave two columns for the "^C" that a terminal prints. It would start a new line
        # otherwise.
        width = max(1, options.max_width - 2)
        times = _clock(time.monotonic() - self._began) + left
        words, count = [*head, *figures], len(head)

        def spare() -> int:
            return width - len(" ".join([*words, times]))

        while len(words) > count + BEFORE_BAR and spare() <= LEAST_BAR:
            words.pop()
        while len(words) > 1 and spare() < 0:
            words.pop()
        line = Text(" ".join(words[:count]), no_wrap=True, overflow="crop")
        size = min(MOST_BAR, spare() - 1)
        if share is not None and size >= LEAST_BAR:
            full, empty = "#-" if options.ascii_only else "━─"
            filled = round(size * min(1.0, share))
            line.append(" " + full * filled, "green").append(empty * (size - filled), "dim")
        for figure in words[count:]:
            heading, _, value = figure.rpartition(" ")
            line.append(f" {heading} ", "dim").append(value)
        line.append(f" {times}", "dim").truncate(width)
        yield line


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Inside the context, hide Lightning's messages about devices and workers."""
    names = ("pytorch_lightning", "lightning", "lightning.pytorch", "lightning_fabric")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",
            ".*LeafSpec.*",
            ".*AMP with fp16 is not supported on CPU.*",  # we refuse this with one line
            ".*Checkpoint directory .* exists and is not empty.*",
            ".*Experiment logs directory .* exists and is not empty.*",
            r".*monitor='val/accuracy'.*could not find.*",  # an epoch without a validation
            ".*lr_scheduler.step.*before.*optimizer.step.*",
            "It is recommended to use .*sync_dist=True.*",  # all processes log the same figures
            "Total length of .* across ranks is zero.*",  # a config may leave no validation images
        ):
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def figure_texts(metrics: Mapping[str, Any], names: Mapping[str, str] = FIGURES) -> list[str]:
    """Return the metrics that `names` lists as short texts, in the order of `names`.

    >>> figure_texts({"val/accuracy": 0.5, "lr": 1.0, "train/loss": 2.3026})
    ['loss 2.303', 'val acc 0.500']
    """
    return [f"{text} {float(metrics[n]):.3f}" for n, text in names.items() if n in metrics]


def _of(count: int, total: int | None) -> str:
    return str(count) if total is None else f"{count}/{total}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds))).removeprefix("0:")
