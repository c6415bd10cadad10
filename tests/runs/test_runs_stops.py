"""The effect of each signal, during a training and outside of it."""

import signal
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from darts_noise.runs.stops import Interrupts, Stops

NOTHING: Any = None  # for the arguments of a hook that are not looked at


def test_outside_of_a_training_a_signal_ends_the_program_at_once(tmp_path: Path) -> None:
    stops = Stops(tmp_path / "last.ckpt")
    with stops, pytest.raises(SystemExit) as ended:
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == stops.status == 143
    stops = Stops(tmp_path / "last.ckpt")
    with stops, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert stops.status == 130


def test_in_a_training_a_signal_waits_for_the_step_and_a_second_ctrl_c_does_not(
    tmp_path: Path,
) -> None:
    stops = Stops(tmp_path / "last.ckpt")
    with stops:
        stops.on_train_start(NOTHING, NOTHING)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stops.status == 130


def test_slurms_warning_counts_in_its_jobs_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    before = signal.getsignal(signal.SIGUSR1)
    with Stops(tmp_path / "last.ckpt"):
        assert signal.getsignal(signal.SIGUSR1) == before
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    stops = Stops(tmp_path / "last.ckpt")
    with stops:
        stops.on_train_start(NOTHING, NOTHING)
        signal.raise_signal(signal.SIGUSR1)
    assert stops.status == 138


def test_the_handlers_of_before_come_back(tmp_path: Path) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with Stops(tmp_path / "last.ckpt"):
        pass
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def signal_in_a_callback(number: int) -> None:
    """Get a signal where Python swallows exceptions, and wait for its effect."""
    thing = type("Thing", (), {})()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(number))
    del thing
    until = time.monotonic() + 5
    while reference() is None and time.monotonic() < until:
        time.sleep(0.01)


def test_a_signal_is_not_lost_where_python_swallows_exceptions(tmp_path: Path) -> None:
    before = sys.unraisablehook
    interrupts = Interrupts()
    with interrupts, interrupts.allowed(), pytest.raises(KeyboardInterrupt):
        signal_in_a_callback(signal.SIGTERM)
    stops = Stops(tmp_path / "last.ckpt")
    with stops, pytest.raises(KeyboardInterrupt):
        signal_in_a_callback(signal.SIGINT)
    with Stops(tmp_path / "last.ckpt"), pytest.raises(SystemExit):
        signal_in_a_callback(signal.SIGTERM)
    assert sys.unraisablehook is before
