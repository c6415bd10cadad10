"""What a person sees of a run: a progress bar in a terminal, a line per epoch elsewhere."""

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live

from darts_noise.report.progress_line import FIGURES, Progress, bar_line, figure_texts, plain_line

REFRESH = 0.25  # seconds between two looks at the running figures, which may wait for a GPU


class RunProgress(pl.callbacks.ProgressBar):
    """Progress over the whole run: epoch, step, losses and the time left.

    In a terminal the figures move during the epoch: those that the module has logged with
    ``self.log(name, value, on_step=True, on_epoch=False, logger=False)``, and of the others the
    latest epoch's.

    Args:
        title: what the line begins with, such as ``search`` or ``train``.
        console: where to write; standard output by default.
        figures: metric → heading, the most wanted first.
    """

    def __init__(
        self,
        title: str,
        console: Console | None = None,
        figures: Mapping[str, str] = FIGURES,
    ) -> None:
        super().__init__()
        self.console = console or Console(highlight=False)
        self.figures = figures
        self.state = Progress(title)
        self._enabled = True
        self._live: Live | None = None
        self._began = self._looked = 0.0
        # (seconds, epochs done) at the starts of this epoch and the last: the pace of the run.
        self._marks: deque[tuple[float, float]] = deque(maxlen=2)
        self._unsaid = False

    def disable(self) -> None:
        """Called by Lightning on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """What a module says with ``self.print``, above the bar."""
        if self._enabled:
            self.console.print(*args, markup=False, soft_wrap=True, **kwargs)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epochs, steps = trainer.max_epochs, trainer.num_training_batches
        self.state = Progress(
            self.state.title,
            epoch=trainer.current_epoch + 1,
            epochs=epochs if epochs and epochs > 0 else None,
            steps=int(steps) if math.isfinite(steps) else None,
        )
        self._began = time.perf_counter()
        self._looked = 0.0
        self._unsaid = False
        self._marks.clear()
        if self._enabled and self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(self, console=self.console, refresh_per_second=1 / REFRESH)
            self._live.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish_epoch(trainer)
        self.state.epoch, self.state.step = trainer.current_epoch + 1, 0
        self._marks.append((self._elapsed(), self.state.done))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.state.step = batch_idx + 1
        now = time.perf_counter()
        if self._live is not None and now - self._looked >= REFRESH:
            self._look(trainer)
            self._looked = now

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

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The bar as it stands now; `Live` asks for it some times a second."""
        self._time()
        # Two columns stay free for the "^C" that a terminal writes, which would begin a new line.
        yield bar_line(self.state, options.max_width - 2, options.ascii_only)

    def _finish_epoch(self, trainer: pl.Trainer) -> None:
        if not self._unsaid:
            return
        self._unsaid = False
        self.state.step = self.state.steps or self.state.step
        self._look(trainer)
        if self._live is None and self._enabled:
            self._time(ended=True)
            self.print(plain_line(self.state))

    def _look(self, trainer: pl.Trainer) -> None:
        """Reads the figures; those of the step that is under way are not reduced over ranks."""
        self.state.figures = figure_texts(trainer.callback_metrics, self.figures)

    def _time(self, ended: bool = False) -> None:
        state = self.state
        state.seconds = self._elapsed()
        state.left = None
        done = float(state.epoch) if ended else state.done
        if self._marks and state.epochs is not None:
            since, before = self._marks[0]
            if done > before:
                pace = (state.seconds - since) / (done - before)
                state.left = max(0.0, pace * (state.epochs - done))

    def _elapsed(self) -> float:
        return time.perf_counter() - self._began

    def _close(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()
