"""Measure how long a user waits for ``--help``, for an error and for the first step of a search.

    python -m benchmarks.startup

The benchmark times each command five times, in turns, after one round that fills the disk's cache.
The command writes wall time and CPU time to ``docs/results/startup.json``. Other programs disturb
the CPU time less.

A time covers the whole process, including the shutdown of the interpreter. The time of the first
step has no shutdown: a callback ends ``python search.py`` after that step. It covers the imports,
the command line, the data, the supernet, the run's directory, W&B offline and one step of the
weights. α does not change in that step, because it is in the warm-up.
"""

import os
import resource
import tempfile
from statistics import median
from typing import Any

import pytorch_lightning as pl

from benchmarks.commands import measured, store, surroundings

RUNS = 5

COMMANDS = {
    "import torch": ("-c", "import torch"),
    "import pytorch_lightning": ("-c", "import pytorch_lightning"),
    "import darts_noise": ("-c", "import darts_noise"),
    "import darts_noise, first name": ("-c", "import darts_noise; darts_noise.create_model"),
    "search.py --help": ("search.py", "--help"),
    "train.py --help": ("train.py", "--help"),
    "search.py, wrong option": ("search.py", "--model.chanels=8"),
    "search.py, wrong setting": ("search.py", "--model.strategy={evolution: {sample: 20}}"),
    "train.py, wrong value": ("train.py", "--model.genotype=darts_v2", "--trainer.devices=tow"),
    "search.py, first step": (
        "search.py",
        "--model.race=0",
        "--trainer.callbacks=[benchmarks.startup.EndAtFirstStep]",
    ),
}


class EndAtFirstStep(pl.Callback):
    """A callback that ends the process after the first training step, without any cleanup."""

    def on_train_batch_end(self, *_: Any) -> None:
        os._exit(0)


def cpu_seconds() -> float:
    """Return the CPU time of all commands so far in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def one_round() -> dict[str, dict[str, float]]:
    """Run each command once, and return its wall time and CPU time in seconds."""
    figures = {}
    # The process of W&B may still write after the search has ended.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name, command in COMMANDS.items():
            runs = [f"--runs={folder}"] if "step" in name else []
            before = cpu_seconds()
            wall, *_ = measured(*command, *runs, status=2 if "wrong" in name else 0)
            figures[name] = {"wall_s": round(wall, 2), "cpu_s": round(cpu_seconds() - before, 2)}
    return figures


def summary(values: list[float]) -> dict[str, Any]:
    return {"median": median(values), "values": values}


def main() -> None:
    os.environ["WANDB_MODE"] = "offline"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    one_round()
    rounds = []
    for _ in range(RUNS):
        rounds.append(one_round())
        print(rounds[-1], flush=True)
        result: dict[str, Any] = {
            "command": "python -m benchmarks.startup",
            "what": "seconds from the command to the end of its process",
            **surroundings(),
            "n": len(rounds),
            "commands": {
                name: {
                    figure: summary([r[name][figure] for r in rounds])
                    for figure in ("wall_s", "cpu_s")
                }
                for name in COMMANDS
            },
        }
        store("startup", result)


if __name__ == "__main__":
    main()
