"""Progress of many short trainings: a bar on a terminal, a line per finished training elsewhere."""

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from darts_noise.train.noise_record import NoiseRun


class NoiseProgress:
    """What is seen of the runs of a measurement; to be entered before the first of them.

    Args:
        shown: a console; True for standard error; False for nothing; None for standard error if
            that is a terminal, and else nothing.
    """

    def __init__(self, shown: Console | bool | None) -> None:
        if shown is None:
            shown = sys.stderr.isatty()
        if isinstance(shown, bool):
            shown = Console(stderr=True, highlight=False) if shown else Console(quiet=True)
        self.console = shown
        self._bar: Progress | None = None
        if shown.is_terminal and not shown.is_dumb_terminal and not shown.quiet:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(20),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=shown,
                transient=True,
            )
            self._task = self._bar.add_task("noise fit", total=None)

    def __enter__(self) -> "NoiseProgress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, label: str, epochs: int) -> None:
        """A training of at most so many epochs begins."""
        self.label = label
        if self._bar is not None:
            self._bar.reset(self._task, total=epochs, description=f"noise fit, {label}")

    def epoch(self, epoch: int, accuracy: float) -> None:
        """So many epochs are over, and this is the largest accuracy yet."""
        if self._bar is not None:
            text = f"noise fit, {self.label}: {100 * accuracy:.1f} %"
            self._bar.update(self._task, completed=epoch, description=text)

    def end(self, run: NoiseRun) -> None:
        """The training is over."""
        if self._bar is None:
            accuracy = "no accuracy" if run.accuracy is None else f"{100 * run.accuracy:.1f} %"
            self.console.print(
                f"noise fit, {self.label}: {'diverged, ' if run.diverged else ''}{accuracy}, "
                f"{run.epochs} epochs, {run.seconds:.0f} s",
                markup=False,
                soft_wrap=True,
            )
