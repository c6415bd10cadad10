"""Check that runs repeat: two equal runs, a resumed run, and NCCL with one process.

Small searches on digits by ``search.py`` itself with ``--trainer.deterministic true``; two are the
same if α and the figures of every epoch are equal to the last bit.
"""

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist

from benchmarks.commands import ROOT
from benchmarks.gpu.task import Task

SMALL = (
    "--data.train_samples=160",
    "--data.batch_size=20",
    "--model.channels=4",
    "--model.nodes=1",
    "--model.warmup_epochs=0",
    "--trainer.max_epochs=3",
    "--trainer.deterministic=true",
    "--trainer.devices=1",
    "--trainer.enable_progress_bar=false",
    "--wandb=off",
)


class StopAfter(pl.Callback):
    """A callback that stops a search within an epoch, like a Ctrl-C.

    Args:
        steps: of the search.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == self.steps:
            os.kill(os.getpid(), 2)


def measure(task: Task) -> None:
    """Record which of the runs are equal."""
    answers: dict[str, Any] = {}

    def ask(name: str, question: Callable[[], bool]) -> None:
        try:
            answers[name] = question()
        except Exception as error:  # one broken run must not hide the others
            answers[name] = f"{type(error).__name__}: {str(error)[-500:]}"
        told = ", ".join(f"{n}: {a}" for n, a in answers.items())
        task.note(answers=answers, summary=told)

    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        options = [*SMALL, f"--trainer.accelerator={'gpu' if task.device == 'cuda' else 'cpu'}"]
        joined = _start_joined(runs, *options)
        first = _search(runs, "first", *options)
        ask("two runs", lambda: _search(runs, "second", *options) == first)
        ask("stopped and resumed", lambda: _resumed(runs, *options) == first)
        ask("one process of torch.distributed", lambda: _finished(joined, runs) == first)
    if not all(answer is True for answer in answers.values()):
        raise SystemExit(1)


def _search(runs: Path, name: str, *options: str) -> tuple[Any, Any]:
    """Return α and the figures of a search."""
    _call([*options, f"--runs={runs}", f"--name={name}"])
    return _left(runs / "search" / name)


def _resumed(runs: Path, *options: str) -> tuple[Any, Any]:
    stop = {"class_path": f"{StopAfter.__module__}.StopAfter", "init_args": {"steps": 6}}
    callbacks = f"--trainer.callbacks={json.dumps([stop])}"
    status = _call([*options, callbacks, f"--runs={runs}", "--name=stopped"])
    if status != 130:
        raise ValueError(f"expected the search to stop with status 130, got {status}")
    _call(["--resume=stopped", f"--runs={runs}", "--trust=benchmarks"])
    return _left(runs / "search" / "stopped")


def _start_joined(runs: Path, *options: str) -> subprocess.Popen[str]:
    """Start a search by torchrun with one process, while other runs continue."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc_per_node=1", "search.py", *options, "--trainer.strategy=ddp"]
    command += [f"--runs={runs}", "--name=joined"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


def _finished(process: subprocess.Popen[str], runs: Path) -> tuple[Any, Any]:
    printed, _ = process.communicate()
    if process.returncode:
        raise ValueError(printed)
    return _left(runs / "search" / "joined")


def _call(argv: list[str]) -> int:
    """Run ``search.py`` in this process, and return its exit status."""
    from darts_noise.cli.program import main

    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            main(["search", *argv])
    except SystemExit as left:
        if left.code not in (None, 0, 130):
            raise ValueError(printed.getvalue()) from None
        return int(left.code or 0)
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
    return 0


def _left(run: Path) -> tuple[Any, Any]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    return json.loads((run / "alpha.json").read_text()), rows
