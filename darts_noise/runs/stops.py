"""How a run answers the signals that ask it to stop: a checkpoint after the step, then the end.

In the midst of a training the signals go the way of SIGTERM in Lightning: the step under way is
finished (with the validation, where that has begun), then the training ends with a
`SIGTERMException`. Everywhere else nothing is under way that a checkpoint could keep, and the
program ends at once. A second Ctrl-C does not wait for the step.

Of several processes any may be asked: after each step they tell each other, so that all of them
end at the same one. Lightning's own handler would tell the others from in between their steps.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from darts_noise.compat import ask_to_stop
from darts_noise.distributed.collectives import largest_over_processes, process_count


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it a Ctrl-C is a `KeyboardInterrupt`, which Lightning turns into an exit."""
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None


class Interrupts:
    """Within it Ctrl-C and SIGTERM are a `KeyboardInterrupt`, where one does no harm.

    Elsewhere they wait: an exception while Optuna starts its thread of heartbeats would leave that
    thread running, and the program with it. A second one does not wait.

    Attributes:
        received: the first signal.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._allowed = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():  # which alone may ask for them
            both = (signal.SIGINT, signal.SIGTERM)
            self._handlers = {number: signal.signal(number, self._answer) for number in both}
        return self

    def __exit__(self, *reason: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Within it a signal does not wait, and one that has waited is answered."""
        try:
            self._allowed = True
            if self.received is not None:
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False

    def _answer(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received is not None, self.received or signal.Signals(number)
        if self._allowed or again:
            raise KeyboardInterrupt


class Stops(pl.Callback):
    """Handles the signals as long as its block lasts, and saves the checkpoint of a stop.

    SIGUSR1, by which SLURM announces the end of a job (``sbatch --signal=SIGUSR1@90``), counts in
    such a job only.

    Attributes:
        received: the first signal, to this or another process.

    Args:
        checkpoint: where to save.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.received: signal.Signals | None = None
        self._training = self._asked = False
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
        if process_count() > 1 and self._handlers:
            signal.signal(signal.SIGTERM, self._answer)  # in place of Lightning's

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if process_count() == 1:
            return
        asked = torch.tensor([self.received or 0], device=trainer.strategy.root_device)
        if number := int(largest_over_processes(asked)):
            self.received = signal.Signals(number)
            ask_to_stop(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._training = False

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._training = False
        if isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.checkpoint)

    def _answer(self, number: int, frame: FrameType | None) -> None:
        first, self._asked = not self._asked, True
        self.received = self.received or signal.Signals(number)
        if self._training and first:
            # A SIGTERM has gone through Lightning's own handler before it came here.
            if number != signal.SIGTERM and process_count() == 1:
                signal.raise_signal(signal.SIGTERM)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        elif not self._training:
            raise SystemExit(128 + number)
