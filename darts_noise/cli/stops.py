"""How a run answers the signals that ask it to stop: a checkpoint after the step, then the end.

In the midst of a training the signals go the way of SIGTERM in Lightning: the step under way is
finished (with the validation, where that has begun), then the training ends with a
`SIGTERMException`. Everywhere else nothing is under way that a checkpoint could keep, and the
program ends at once. A second Ctrl-C does not wait for the step.
"""

import os
import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import SIGTERMException


class Stops(pl.Callback):
    """Handles the signals as long as its block lasts, and saves the checkpoint of a stop.

    SIGUSR1, by which SLURM announces the end of a job (``sbatch --signal=SIGUSR1@90``), counts in
    such a job only.

    Attributes:
        received: the first signal.

    Args:
        checkpoint: where to save.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.received: signal.Signals | None = None
        self._training = False
        self._handlers: dict[signal.Signals, object] = {}

    @property
    def status(self) -> int:
        """The exit status of a program that was stopped, as a shell gives it: 130 or 143."""
        return 128 + (self.received or signal.SIGINT)

    def __enter__(self) -> "Stops":
        signals = [signal.SIGINT, signal.SIGTERM]
        if "SLURM_JOB_ID" in os.environ:
            signals.append(signal.SIGUSR1)
        if threading.current_thread() is threading.main_thread():
            self._handlers = {s: signal.signal(s, self._answer) for s in signals}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._training = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._training = False

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._training = False
        if isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.checkpoint)

    def _answer(self, number: int, frame: FrameType | None) -> None:
        first, self.received = self.received is None, self.received or signal.Signals(number)
        if self._training and first:
            if number != signal.SIGTERM:  # which Lightning's own handler has taken before this one
                signal.raise_signal(signal.SIGTERM)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        elif not self._training:
            raise SystemExit(128 + number)
