"""Stop a run after a signal: finish the step, save a checkpoint, end.

During a training, every signal works like SIGTERM in Lightning: the current step (or validation) is
finished, then the training ends with a `SIGTERMException`. At any other time there is nothing to
save, and the program ends at once. A second Ctrl-C does not wait for the step.

With several processes, any of them may get the signal. They exchange it after each step, so all end
at the same step. Lightning's own handler would interrupt the others between their steps.
"""

import _thread
import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from darts_noise.compat import ask_to_stop
from darts_noise.distributed.collectives import largest_over_processes, process_count


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside the context, turn Lightning's exit after a Ctrl-C into a `KeyboardInterrupt`."""
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None


def _repeating(repeat: Callable[[], None]) -> "Callable[[sys.UnraisableHookArgs], None]":
    """Return a `sys.unraisablehook` that repeats a signal whose exception Python has swallowed.

    Python swallows what is raised in a destructor or in the callback of a weak reference. A handler
    may run there, and then the signal would have no effect.
    """
    before = sys.unraisablehook

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt | SystemExit):
            before(lost)
            return
        timer = threading.Timer(0.05, repeat)  # later: here it would be swallowed again
        timer.daemon = True
        timer.start()

    return hook


class _Signals(ABC):
    """A context in which `_answer` handles signals.

    Attributes:
        received: the first signal.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._asked = False
        self._handlers: dict[signal.Signals, Any] = {}
        self._hook = sys.unraisablehook

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only it can set handlers
            self._handlers = {
                number: signal.signal(number, self._answer) for number in self._signals()
            }
            self._hook, sys.unraisablehook = sys.unraisablehook, _repeating(self._repeat)
        return self

    def __exit__(self, *reason: object) -> None:
        if self._handlers:
            sys.unraisablehook = self._hook
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _signals(self) -> list[signal.Signals]:
        return [signal.SIGINT, signal.SIGTERM]

    @abstractmethod
    def _answer(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""

    def _is_first(self, number: int) -> bool:
        """Note a signal, and return whether it is the first one."""
        first, self._asked = not self._asked, True
        self.received = self.received or signal.Signals(number)
        return first

    def _repeat(self) -> None:
        self._asked = False  # the repeated signal is still the first one
        if self._handlers and self.received is not None:
            _thread.interrupt_main(self.received)


class Interrupts(_Signals):
    """A context in which Ctrl-C and SIGTERM raise a `KeyboardInterrupt`, but only inside `allowed`.

    Outside `allowed` they wait: an exception while Optuna starts its heartbeat thread would leave
    that thread, and so the program, running. A second signal does not wait.

    Attributes:
        received: the first signal.
    """

    def __init__(self) -> None:
        super().__init__()
        self._allowed = False

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Inside the context, a signal does not wait. A waiting signal is raised at its start."""
        try:
            self._allowed = True
            if self.received is not None:
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if not self._is_first(number) or self._allowed:
            raise KeyboardInterrupt


class Stops(_Signals, pl.Callback):
    """A context that handles the signals, and saves a checkpoint after a stop.

    SIGUSR1, with which SLURM announces the end of a job (``sbatch --signal=SIGUSR1@90``), is
    handled only in a SLURM job.

    Attributes:
        received: the first signal to any of the processes.

    Args:
        checkpoint: path of the checkpoint.
    """

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.checkpoint, self._training = checkpoint, False

    @property
    def status(self) -> int:
        """The exit status after the signal, as in a shell: 130 or 143."""
        return 128 + (self.received or signal.SIGINT)

    def _signals(self) -> list[signal.Signals]:
        return [*super()._signals(), *([signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else [])]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._training = True
        if process_count() > 1 and self._handlers:
            signal.signal(signal.SIGTERM, self._answer)  # instead of Lightning's handlers

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
        first = self._is_first(number)
        if self._training and first:
            # Lightning's own handler has already seen a SIGTERM.
            if number != signal.SIGTERM and process_count() == 1:
                signal.raise_signal(signal.SIGTERM)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        elif not self._training:
            raise SystemExit(128 + number)
