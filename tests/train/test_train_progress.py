"""Progress: one line per epoch or training in a file, a moving line on a terminal."""

import io
import re
import sys
from itertools import pairwise
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from noise_networks import BreaksAfter, linear, measure
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

import darts_noise as dn
from darts_noise.shown import readable_duration
from darts_noise.train import progress
from darts_noise.train.progress import FIGURES, RunProgress, figure_texts

STEPS = 4
SHOW, HIDE = "\x1b[?25h", "\x1b[?25l"


class Module(pl.LightningModule):
    """Logs as the project's modules do; the loss of epoch e, step s is 10 e + s."""

    def __init__(self, stop_at: tuple[int, int] | None = None, each_step: bool = True) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.stop_at, self.each_step = stop_at, each_step

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if (self.current_epoch, batch_idx) == self.stop_at:
            raise KeyboardInterrupt
        if self.each_step:
            loss = 10.0 * self.current_epoch + batch_idx
            self.log("train/loss", loss, on_step=True, on_epoch=False, logger=False)
        return self.weight

    def on_train_epoch_end(self) -> None:
        self.log_dict({"train/loss": 100.0 + self.current_epoch, "val/accuracy": 0.25})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(callback: RunProgress, module: Module, epochs: int = 3, **settings: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[callback],
        **settings,
    )
    trainer.fit(module, DataLoader([torch.zeros(1)] * STEPS, batch_size=1))
    return trainer


def terminal(width: int = 80, **settings: Any) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, **settings)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def frames(text: str) -> list[str]:
    """Every state of the line, without colours and cursor movements."""
    parts = re.split(r"\r|\n|\x1b\[2K|\x1b\[\d*A", text)
    plain = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", part) for part in parts]
    return [part for part in plain if part.strip()]


def test_plain_output_is_one_line_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    fit(RunProgress("search"), Module())
    out, err = capsys.readouterr()
    lines = [line for line in out.splitlines() if line.startswith("search")]
    assert len(lines) == 3
    assert "search" not in err
    for epoch, line in enumerate(lines):
        assert re.fullmatch(
            rf"search epoch {epoch + 1}/3  loss {100 + epoch}\.000  val acc 0\.250  "
            r"\(\d+ s, \d+ s left\)",
            line,
        )
    assert lines[-1].endswith(" 0 s left)")


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"max_steps": STEPS + 1}, ["1/2", "2/2"]),
        ({"max_steps": STEPS}, ["1/1"]),
        ({"max_steps": 100 * STEPS}, ["1/3", "2/3", "3/3"]),
        ({"max_steps": STEPS, "accumulate_grad_batches": 2}, ["1/2", "2/2"]),
    ],
)
def test_the_number_of_epochs_is_that_which_the_steps_allow(
    settings: dict[str, int], shown: list[str]
) -> None:
    console = Console(file=io.StringIO(), width=100)
    fit(RunProgress("t", console), Module(), **settings)
    assert re.findall(r"epoch (\d+/\d+)", written(console)) == shown


def test_plain_lines_are_not_wrapped_and_brackets_stay() -> None:
    console = Console(file=io.StringIO(), width=20)
    callback = RunProgress("[red]a long name of a run[/red]", console)
    fit(callback, Module(), epochs=1)
    callback.print("[bold]as it is")
    first, second = written(console).splitlines()
    assert first.startswith("[red]a long name of a run[/red] epoch 1/1  loss 100.000")
    assert second == "[bold]as it is"


def test_time_left_is_the_pace_of_the_last_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now)
    lines: list[str] = []

    class Slow(Module):
        def on_train_epoch_end(self) -> None:
            nonlocal now
            now += (10.0, 20.0, 20.0, 20.0)[self.current_epoch]  # as after the end of a warm-up
            super().on_train_epoch_end()

    console = Console(file=io.StringIO())
    fit(RunProgress("t", console), Slow(), epochs=4)
    lines = re.findall(r"\(.*\)", written(console))
    assert lines == [
        "(10 s, 30 s left)",
        "(30 s, 30 s left)",  # 15 s for each of the last two
        "(50 s, 20 s left)",
        "(1 min 10 s, 0 s left)",
    ]


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_terminal_shows_running_losses_within_its_width(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REFRESH", 1e-6)  # looks at every step
    console = terminal(width)
    callback = RunProgress("search", console)

    class Watched(Module):
        def on_train_batch_end(self, *_: Any) -> None:  # runs after the callback's own hook
            assert callback._line is not None
            callback._line._live.refresh()

    fit(callback, Watched())
    shown = frames(written(console))
    assert max(map(len, shown)) <= width - 2  # room for a ^C
    assert not [line for line in shown if not line.startswith("sea")]
    assert not [line for line in shown if re.search(r"\d\.\d{0,2}(?!\d)", line)]  # half a figure
    if width >= 80:
        assert shown[-1].startswith("search epoch 3/3 step 4/4 ")
        seen = [re.search(r"step (\d)/4 .*loss (\S+)", line) for line in shown]
        pairs = [(int(m[1]), float(m[2])) for m in seen if m]
        for epoch in range(3):  # the steps one by one
            for step in range(STEPS):
                assert (step + 1, 10.0 * epoch + step) in pairs
        assert (STEPS, 102.0) in pairs  # and the whole epoch's at the end
        assert "val acc 0.250" in shown[-1]
        assert re.search("━{5}.* 00:0\\d, 00:00 left$", shown[-1])


def test_figures_are_looked_at_four_times_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, looks = 0.0, []
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now)

    class Counted(RunProgress):
        def _look(self, trainer: pl.Trainer) -> None:
            looks.append(now)
            super()._look(trainer)

        def on_train_batch_end(self, *arguments: Any) -> None:
            nonlocal now
            now += 0.1
            super().on_train_batch_end(*arguments)

        def _finish_epoch(self, trainer: pl.Trainer) -> None:
            pass

    fit(Counted("t", terminal()), Module(), epochs=5)
    assert 5 <= len(looks) <= 8  # 20 steps in 2 seconds
    assert all(b - a >= progress.REFRESH - 1e-9 for a, b in pairwise(looks))


def test_module_that_logs_at_the_end_only_has_the_last_epochs_figures() -> None:
    console = terminal()
    fit(RunProgress("t", console), Module(each_step=False))
    assert " loss 102.000 " in frames(written(console))[-1]


def test_interrupt_gives_the_terminal_back() -> None:
    console = terminal()
    callback = RunProgress("t", console)
    with pytest.raises(SystemExit):
        fit(callback, Module(stop_at=(1, 2)))
    text = written(console)
    assert text.index(HIDE) < text.rindex(SHOW)
    assert HIDE not in text[text.rindex(SHOW) :]
    assert callback._line is None
    assert frames(text)[-1].startswith("t epoch 2/3 step 2/4")
    assert text.endswith("\n" + SHOW)


def test_error_gives_the_terminal_back() -> None:
    console = terminal()

    class Broken(Module):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fit(RunProgress("t", console), Broken())
    assert HIDE not in written(console)[written(console).rindex(SHOW) :]


def test_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    console = terminal()
    fit(RunProgress("t", console), Module())
    assert HIDE not in written(console)
    assert len(written(console).splitlines()) == 3


def test_other_processes_say_nothing() -> None:
    for console in (terminal(), Console(file=io.StringIO())):
        callback = RunProgress("t", console)
        callback.disable()
        fit(callback, Module())
        callback.print("not this")
        assert written(console) == ""
        assert not console.quiet  # the console is the whole script's
        callback.enable()
        callback.print("this")
        assert "this" in written(console)


def test_second_run_begins_anew_and_a_run_that_stops_early_is_said() -> None:
    console = Console(file=io.StringIO())
    callback = RunProgress("t", console)

    class Early(Module):
        def on_train_epoch_end(self) -> None:
            super().on_train_epoch_end()
            self.trainer.should_stop = self.current_epoch == 1

    fit(callback, Early(), epochs=9)
    fit(callback, Module(), epochs=1)
    assert [line.split("  ")[0] for line in written(console).splitlines()] == [
        "t epoch 1/9",
        "t epoch 2/9",
        "t epoch 1/1",
    ]


def test_run_without_an_end() -> None:
    console = Console(file=io.StringIO())

    class Stops(Module):
        def on_train_epoch_end(self) -> None:
            super().on_train_epoch_end()
            self.trainer.should_stop = self.current_epoch == 1

    fit(RunProgress("t", console), Stops(), epochs=-1)
    first, second = written(console).splitlines()
    assert re.fullmatch(r"t epoch 1  loss 100\.000  val acc 0\.250  \(\d+ s\)", first)
    assert second.startswith("t epoch 2  ")


def test_standard_output_is_that_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    callback = RunProgress("t")
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    fit(callback, Module(), epochs=1)
    assert "t epoch 1/1" in stream.getvalue()


def test_figures_come_in_the_order_of_the_names() -> None:
    metrics = dict.fromkeys(reversed(FIGURES), 0.5) | {"lr/weights": 0.1}
    assert figure_texts(metrics) == [f"{text} 0.500" for text in FIGURES.values()]
    assert figure_texts(metrics, {"lr/weights": "rate"}) == ["rate 0.100"]


SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


@pytest.mark.parametrize("seconds", [0, 0.5, 59.4, 59.9, 60, 3599.4, 3599.9, 7170, 172_799, 1e6])
def test_a_duration_is_rounded_by_no_more_than_its_last_unit(seconds: float) -> None:
    text = readable_duration(seconds)
    parts = re.findall(r"(\d+) (\w+)", text)
    assert " ".join(f"{n} {unit}" for n, unit in parts) == text
    total = sum(int(n) * SECONDS[unit] for n, unit in parts)
    assert abs(total - seconds) <= SECONDS[parts[-1][1]] * (1.0 if parts[-1][1] == "h" else 0.5)
    assert len(parts) <= 2
    for (_, larger), (n, unit) in pairwise(parts):
        assert int(n) * SECONDS[unit] < SECONDS[larger]


GRID = dn.NoiseGrid(sgd_rates=(0.01, 0.1), adam_rates=(), muon_rates=(), seeds=1, scales=(1,))


def measured(network: Any = linear, **console: Any) -> str:
    out = io.StringIO()
    measure(network, grid=GRID, epochs=2, progress=Console(file=out, width=100, **console))
    return out.getvalue()


def test_without_a_terminal_each_training_on_noise_is_a_line() -> None:
    first, second, *real = measured().splitlines()
    assert all(" on real, " in line for line in real)
    assert first.startswith("noise fit, network on uniform noise, 1/2, sgd 0.01, seed 0: ")
    assert "%, 2 epochs, " in first
    assert "2/2, sgd 0.1" in second


def test_a_training_that_diverged_says_so() -> None:
    assert "diverged, no accuracy, 1 epoch, " in measured(lambda c, i: BreaksAfter(linear(c, i), 0))


def test_on_a_terminal_a_bar_names_the_training_and_is_gone_afterwards() -> None:
    text = measured(force_terminal=True, legacy_windows=False, force_interactive=True)
    assert re.search(r"sgd 0\.\d+, seed 0", text)
    assert re.search(r"\d+\.\d% .*2/2", text)
    assert text.rstrip().endswith("\x1b[2K")  # the line is cleared


@pytest.mark.parametrize(("shown", "lines"), [(None, 0), (False, 0), (True, 4)])
def test_by_default_a_pipe_is_left_alone(
    capfd: pytest.CaptureFixture[str], shown: bool | None, lines: int
) -> None:
    measure(linear, grid=GRID, epochs=1, progress=shown)
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == lines


@pytest.mark.parametrize(
    ("words", "metrics"),
    [
        (("search epoch 12/50", "step 123/391"), FIGURES),
        (("train epoch 120/600", "step 123/391"), ["train/loss", "val/accuracy", "train/accuracy"]),
        (("train epoch 120/600", "step 123/391"), ["train/loss", "train/accuracy"]),
    ],
)
def test_80_columns_hold_the_accuracy_of_a_long_run(words, metrics):
    console = terminal(80)
    line = progress._Line(Console(quiet=True))
    line._began -= 754
    line.show(words, 12.5, 50, figure_texts(dict.fromkeys(metrics, 0.912)), 3754.0)
    console.print(line)
    assert re.search(r"loss 0.912 (val )?acc 0.912 .*left$", frames(written(console))[-1])
