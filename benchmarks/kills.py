"""Kill a search many times, resume it, and compare its result with an uninterrupted search.

    python -m benchmarks.kills --kills 100

The benchmark sends SIGKILL at random times, also during the start and while a checkpoint is
written. After each kill the run resumes with ``--resume``. The command writes
``docs/results/kills.json``, with two counts: the kills after which a written checkpoint was
readable, and the finished runs whose weights, α, optimisers and metrics equal those of the
uninterrupted run bit for bit.
"""

import argparse
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.commands import store, surroundings
from benchmarks.soak import TINY
from darts_noise.checkpoints.checkpoint_io import LAST, PREVIOUS, SealedCheckpointIO
from darts_noise.cli.program import main as program
from darts_noise.runs.search import SearchOutputs

SETTINGS = (*TINY, "--data.train_samples=96", "--trainer.max_epochs=4")


def searched(run: Path) -> None:
    """Start the run, or resume it."""
    own = [f"--runs={run.parent.parent}"]
    begun = (run / "config.yaml").is_file()
    own += [f"--resume={run.name}"] if begun else [*SETTINGS, f"--name={run.name}"]
    with patch.object(SearchOutputs, "draw"):  # drawing would take most of the time
        program(["search", *own])


def in_another_process(run: Path, seconds: float) -> bool:
    """Run the search in a process, and kill it after ``seconds``. Return whether it finished."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 1
        try:
            searched(run)
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        finally:
            os._exit(status)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise SystemExit(f"{run}: ended with {os.waitstatus_to_exitcode(status)}")
            return True
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def found(run: Path) -> tuple[str, dict[str, Any]]:
    """Return the metrics of a run, and its last checkpoint without times and folder names."""
    held = SealedCheckpointIO(run).load_checkpoint(run / "checkpoints" / LAST, weights_only=True)
    del held["run_state"]["seconds"], held["callbacks"]
    return (run / "metrics.csv").read_text(), held


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def loadable(folder: Path) -> bool:
    """Return whether one of the two checkpoints is readable."""
    for name in (LAST, PREVIOUS):
        try:
            SealedCheckpointIO(folder).load_checkpoint(folder / name, weights_only=True)
            return True
        except (OSError, ValueError):
            continue
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    args = parser.parse_args()
    draw = random.Random(0)
    counts = dict.fromkeys(
        ("kills", "before_a_checkpoint", "with_a_whole_checkpoint", "ended", "ended_alike"), 0
    )
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "search"
        searched(runs / "warm")
        began = time.monotonic()
        searched(runs / "undisturbed")
        whole, expected = time.monotonic() - began, found(runs / "undisturbed")
        number, run = 0, runs / "r0"
        while counts["kills"] < args.kills:
            if in_another_process(run, draw.uniform(0, whole)):
                counts["ended"] += 1
                counts["ended_alike"] += same(found(run), expected)
                number, run = number + 1, runs / f"r{number + 1}"
                continue
            counts["kills"] += 1
            written = any((run / "checkpoints").glob("[!.]*.ckpt"))
            counts["before_a_checkpoint"] += not written
            counts["with_a_whole_checkpoint"] += written and loadable(run / "checkpoints")
            if run.exists() and not (run / "config.yaml").is_file():
                number, run = number + 1, runs / f"r{number + 1}"  # without config: cannot resume
            command = f"python -m benchmarks.kills --kills {args.kills}"
            store("kills", {"command": command, **surroundings(), **counts})
            print(counts, flush=True)


if __name__ == "__main__":
    main()
