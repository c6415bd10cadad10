"""What is said about a run that is under way, as one line: in full, or fitted to a terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from darts_noise.report.duration import readable_duration

FIGURES = {
    "train/loss": "loss",
    "noise/loss": "noise loss",
    "val/accuracy": "val acc",
    "noise/penalty": "penalty",
    "train/accuracy": "acc",
    "noise/accuracy": "noise acc",
}
"""Which figures a line shows, and how they are headed; a narrow terminal drops the last first.
Add a metric here to see it."""

BAR_WIDTH, LEAST_BAR_WIDTH = 40, 6  # columns


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        title: what runs, such as ``search``.
        epoch: the epoch that runs or has just ended, from 1.
        epochs: of the whole run; None where it is open.
        step: batches done in this epoch.
        steps: batches of an epoch; None where it is open.
        figures: texts such as ``loss 1.234``, the most wanted first.
        seconds: since the start.
        left: seconds to the end; None where nobody knows.
    """

    title: str
    epoch: int = 1
    epochs: int | None = None
    step: int = 0
    steps: int | None = None
    figures: tuple[str, ...] = ()
    seconds: float = 0.0
    left: float | None = None

    @property
    def done(self) -> float:
        """Epochs behind us, with the part of this one."""
        return self.epoch - 1 + (self.step / self.steps if self.steps else 0.0)


def figure_texts(metrics: Mapping[str, Any], names: Mapping[str, str] = FIGURES) -> tuple[str, ...]:
    """The figures among the metrics that `names` heads, in its order.

    >>> figure_texts({"val/accuracy": 0.5, "lr": 1.0, "train/loss": 2.3026})
    ('loss 2.303', 'val acc 0.500')
    """
    return tuple(f"{text} {float(metrics[n]):.3f}" for n, text in names.items() if n in metrics)


def plain_line(state: Progress) -> str:
    """The line of an epoch that has ended."""
    left = "" if state.left is None else f", {readable_duration(state.left)} left"
    words = [f"{state.title} epoch {_of(state.epoch, state.epochs)}", *state.figures]
    return "  ".join([*words, f"({readable_duration(state.seconds)}{left})"])


def bar_line(state: Progress, width: int, ascii_only: bool = False) -> Text:
    """Epoch, step, a bar over the whole run, figures and times, in `width` columns at most.

    What does not fit is left out: the last figures first, then the bar, the step, the time since
    the start, the first figure and the time left.
    """
    epoch = f"{state.title} epoch {_of(state.epoch, state.epochs)}"
    step = f"step {_of(state.step, state.steps)}"
    left = "" if state.left is None else f"{clock(state.left)} left"
    times = f"{clock(state.seconds)}, {left}" if left else clock(state.seconds)
    line = Text(epoch, no_wrap=True, overflow="crop")
    if _length(epoch, step, *state.figures[:1], times) > width:
        _fill_narrow(line, state.figures[:1], times, left or times, width)
        return line
    line.append(f" {step}")
    figures: list[str] = []
    for figure in state.figures:
        bar = LEAST_BAR_WIDTH + 1 if figures and state.epochs else 0
        if _length(epoch, step, *figures, figure, times) + bar > width:
            break
        figures.append(figure)
    room = min(BAR_WIDTH, width - _length(epoch, step, *figures, times) - 1)
    if state.epochs and room >= LEAST_BAR_WIDTH:
        filled = round(room * min(1.0, state.done / state.epochs))
        full, empty = ("#", "-") if ascii_only else ("━", "─")
        line.append(" ").append(full * filled, style="green")
        line.append(empty * (room - filled), style="dim")
    for figure in figures:
        _append_figure(line, figure)
    return line.append(f" {times}", style="dim")


def _fill_narrow(line: Text, figures: tuple[str, ...], times: str, left: str, width: int) -> None:
    """Appends what a narrow terminal has room for behind the epoch."""
    room = width - len(line)
    for words in ((*figures, times), (*figures, left), (times,), (left,)):
        if len(" ".join(("", *words))) <= room:
            for word in words[:-1]:
                _append_figure(line, word)
            line.append(f" {words[-1]}", style="dim")
            return
    line.truncate(width)


def _append_figure(line: Text, figure: str) -> None:
    heading, _, value = figure.rpartition(" ")
    line.append(f" {heading} ", style="dim").append(value)


def clock(seconds: float) -> str:
    """Minutes and seconds, with the hours where there are any.

    >>> clock(75), clock(3600)
    ('1:15', '1:00:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _of(count: int, total: int | None) -> str:
    return str(count) if total is None else f"{count}/{total}"


def _length(*words: str) -> int:
    return len(" ".join(words))
