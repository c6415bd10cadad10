"""One thread for small networks, and a noise check in a process of its own beside the training."""

import io
import json
import os
import subprocess
import sys
import time
from contextlib import redirect_stdout

import pytest
import torch
from conftest import SMALL_TRAIN, train

from darts_noise.runs import cores
from darts_noise.train.module import TrainModule

STEP = TrainModule.optimizer_step
CELL = [*SMALL_TRAIN, "--model.genotype=darts_v1", "--wandb=off", "--noise_controls=[]"]


class Left(BaseException):
    """The end of the process."""


class Process:
    """A process as `Ahead` starts one, but a function of this process: it runs before it is read.

    Attributes:
        epochs: epochs after which it is killed. None: it is not killed.
    """

    epochs = None

    def __init__(self, command, **settings):
        assert command == [sys.executable, "-m", cores.__name__]
        self.stdin, self.stdout = io.StringIO(), io.StringIO()
        self.stdin.flush = self.run

    def run(self):
        def leave(status):
            raise Left

        def count(self, *args, **settings):
            steps.append(self)
            if len(steps) == stop:
                raise Left
            STEP(self, *args, **settings)

        steps: list[TrainModule] = []
        stop = None if self.epochs is None else 4 * self.epochs + 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO(self.stdin.getvalue()))
            patch.setattr(os, "_exit", leave)
            patch.setattr(cores, "_end_with_parent", lambda: None)
            patch.setattr(TrainModule, "optimizer_step", count)
            with redirect_stdout(self.stdout), pytest.raises(Left):
                cores.main()
        self.stdout.seek(0)

    def kill(self):
        pass

    wait = kill


@pytest.fixture
def beside(monkeypatch):
    """Makes each noise check beside its training, with the process above."""
    monkeypatch.setattr("darts_noise.runs.noise_check.WORTHWHILE", 1)
    monkeypatch.setattr("darts_noise.runs.train.spare_processes", lambda: 1)
    monkeypatch.setattr(cores.subprocess, "Popen", Process)


@pytest.fixture
def on_noise(monkeypatch):
    """The steps on noise that this process makes itself."""
    steps = []

    def noted(self, *args, **settings):
        if type(self) is not TrainModule:
            steps.append(self)
        STEP(self, *args, **settings)

    monkeypatch.setattr(TrainModule, "optimizer_step", noted)
    return steps


def figures(run):
    """The table and the card of a run, without its times."""
    card = json.loads((run / "card.json").read_text())
    del card["wall_time_s"], card["noise"]["seconds"]
    return (run / "metrics.csv").read_text(), card


@pytest.fixture(scope="module")
def after(tmp_path_factory):
    """What a run gives that makes its noise check after the training."""
    root = tmp_path_factory.mktemp("after")
    train([*CELL, f"--runs={root}", "--name=a"])
    return figures(root / "train" / "a")


@pytest.mark.usefixtures("no_drawings", "beside")
@pytest.mark.parametrize(("epochs", "left"), [(None, 0), (1, 4)])
def test_a_noise_check_beside_the_training_gives_what_it_gives_after_it(
    tmp_path, after, on_noise, monkeypatch, capsys, epochs, left
):
    """Also if its process is killed: this process makes the epochs that it has not made."""
    monkeypatch.setattr(Process, "epochs", epochs)
    train([*CELL, f"--runs={tmp_path}", "--name=a"])
    assert figures(tmp_path / "train" / "a") == after
    assert len(on_noise) == left
    said = capsys.readouterr().out
    assert [said.count(f"\nuniform noise epoch {i}/2") for i in (1, 2)] == [1, 1]
    assert not (tmp_path / "train" / "a" / "noise_epochs").exists()


@pytest.mark.usefixtures("no_drawings", "beside")
def test_a_stopped_run_keeps_the_noise_check_beside_it(tmp_path, after, on_noise, monkeypatch):
    def stopped(self, *args, **settings):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainModule, "optimizer_step", stopped)
        with pytest.raises(SystemExit) as stop:
            train([*CELL, f"--runs={tmp_path}", "--name=a"])
    assert stop.value.code == 130
    train([f"--runs={tmp_path}", "--resume=a"])
    assert figures(tmp_path / "train" / "a") == after
    assert not on_noise


@pytest.mark.usefixtures("no_drawings")
@pytest.mark.parametrize("option", ["--trainer.max_steps=6", "--trainer.deterministic=true"])
def test_no_process_is_started_for_what_it_would_not_give_alike(tmp_path, monkeypatch, option):
    monkeypatch.setattr("darts_noise.runs.noise_check.WORTHWHILE", 1)
    monkeypatch.setattr("darts_noise.runs.train.spare_processes", lambda: 1)
    monkeypatch.setattr("darts_noise.runs.noise_check.Ahead", None)  # calling it fails
    monkeypatch.setattr("darts_noise.runs.noise_check.noise_fit", lambda *args, **settings: stop())

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        train([*CELL[:-1], option, f"--runs={tmp_path}"])


def test_small_maps_get_one_thread_and_others_all_of_them(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = []
    torch.set_num_threads(2)
    try:
        for numbers in (cores.SMALL, cores.SMALL + 1):
            with cores.threads_for(numbers):
                found.append(torch.get_num_threads())
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        with cores.threads_for(1):
            found.append(torch.get_num_threads())
        assert (found, torch.get_num_threads()) == ([1, 2, 2], 2)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
        assert cores.spare_processes() == 2
    finally:
        torch.set_num_threads(1)


ENDLESS = """
import os, sys
from rich.console import Console
import darts_noise as dn
from darts_noise.runs.cores import Ahead
ahead = Ahead(
    dn.load_genotype("darts_v1"),
    dn.DataConfig(train_samples=80),
    dn.TrainConfig(channels=4, num_cells=3, stem="small", auxiliary_weight=0),
    Console(quiet=True),
    ("noise", {}),
    path=sys.argv[1],
    epochs=100_000,
    trainer={"accelerator": "cpu"},
)
while not ahead._latest:
    pass
print(ahead._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_the_process_ends_with_the_program_that_started_it_also_if_that_is_killed(tmp_path):
    command = [sys.executable, "-c", ENDLESS, str(tmp_path)]
    pid = int(subprocess.run(command, capture_output=True, text=True, timeout=300).stdout)
    assert (tmp_path / "last.ckpt").is_file()
    with pytest.raises(ProcessLookupError):
        still_there(pid)


def still_there(pid):
    """Whether there is a process after ten seconds: an error if it ends before."""
    for _ in range(100):
        os.kill(pid, 0)
        time.sleep(0.1)
