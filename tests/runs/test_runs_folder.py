"""Two processes do not go on with one run, and one that was killed is in nobody's way."""

import os
import signal
from pathlib import Path

import pytest
from conftest import search
from darts_noise.cli.run_lock import RunLock

from darts_noise.cli.parser import UserError

CONFIG = """
data: {batch_size: 8, train_samples: 48}
model: {nodes: 1, channels: 2, num_cells: 3, stem: small, noise_samples: 16}
trainer: {accelerator: cpu, max_epochs: 1}
"""


def other_process(file: Path) -> int:
    """One that has taken the lock and keeps it."""
    taken, told = os.pipe()
    child = os.fork()
    if child == 0:
        lock = RunLock(file)
        lock.take()
        os.write(told, b"!")
        signal.pause()
    os.read(taken, 1)
    return child


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def test_a_lock_is_for_one_process_and_ends_with_it(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("")
    child, lock = other_process(file), RunLock(file)
    try:
        with pytest.raises(UserError, match=f"another process is at work on {tmp_path}"):
            lock.take()
    finally:
        kill(child)
    lock.take()
    with pytest.raises(UserError):
        RunLock(file).take()
    lock.release()
    RunLock(file).take()
    assert os.listdir(tmp_path) == ["config.yaml"]


def test_a_run_that_is_at_work_is_not_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "search" / "r"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text(CONFIG)
    (run / "checkpoints" / ".last.ckpt.x1").write_bytes(b"what the other is writing")
    child = other_process(run / "config.yaml")
    try:
        with pytest.raises(SystemExit) as ended:
            search(["--resume", f"--runs={tmp_path}"])
    finally:
        kill(child)
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (2, 1)
    assert f"resume: another process is at work on {run}" in error
    assert os.listdir(run / "checkpoints") == [".last.ckpt.x1"]
