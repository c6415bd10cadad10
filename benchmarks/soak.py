"""Check that memory and open files do not grow over many short searches or one long search.

    python -m benchmarks.soak --searches 500
    python -m benchmarks.soak --minutes 60

The first command makes complete searches in one process, as `search.py` does. Only every tenth
search makes its drawings, because drawing takes most of the time of such a small search. The second
command makes one search and stops it with SIGTERM. Each command writes its part of
``docs/results/soak.json``: resident memory and open files over time, and the growth of the memory
in the second half from a linear fit.
"""

import argparse
import json
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.commands import RESULTS, store, surroundings
from darts_noise.cli.program import main as program
from darts_noise.runs.search import SearchOutputs

TINY = (
    "--model.space=low_pass",
    "--model.nodes=1",
    "--model.channels=2",
    "--model.num_cells=3",
    "--model.noise_samples=16",
    "--model.warmup_epochs=0",
    "--data.batch_size=8",
    "--data.crop_padding=1",
    "--trainer.accelerator=cpu",
    "--wandb=off",
)
PAGE = os.sysconf("SC_PAGE_SIZE")
SHOWN = 100
"""About the number of samples of a series in the file."""
MANY = 20
"""Smallest number of samples for the linear fit."""
DRAWN = 10
"""One in this many short searches makes its drawings."""
PERIOD = 2.0
"""Seconds between two samples of the long search."""


def resident_mib() -> float:
    """Return the current resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class Watch:
    """Samples of the memory and the open files of this process, and their summary.

    Args:
        unit: unit of the time axis.
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.samples: list[tuple[float, float, int]] = []

    def sample(self, at: float) -> None:
        self.samples.append((at, resident_mib(), open_files()))

    def result(self) -> dict[str, Any]:
        at, memory, files = (np.array(column) for column in zip(*self.samples, strict=True))
        half = len(at) // 2
        slope, _ = np.polyfit(at[half:], memory[half:], 1)
        step = max(1, len(at) // SHOWN)
        return {
            "n": round(float(at[-1]), 1),
            "unit": self.unit,
            f"growth_kib_per_{self.unit}": round(float(slope) * 1024, 2),
            "memory_mib": {
                "begin": round(float(memory[0]), 1),
                "half": round(float(memory[half]), 1),
                "end": round(float(memory[-1]), 1),
                "largest": round(float(memory.max()), 1),
            },
            "open_files": {"begin": int(files[0]), "end": int(files[-1]), "most": int(files.max())},
            "samples": [
                [round(float(t), 1), round(float(m), 1), int(f)]
                for t, m, f in zip(at[::step], memory[::step], files[::step], strict=True)
            ],
        }


def many(count: int, folder: Path) -> Watch:
    """Make ``count`` searches of two steps, and sample after each search."""
    watch = Watch("search")
    settings = [*TINY, "--data.train_samples=32", "--trainer.max_epochs=1", f"--runs={folder}"]
    for number in range(1, count + 1):
        own = [f"--name=n{number}", f"--seed={number}"]
        if number % DRAWN == 0:
            program(["search", *settings, *own])
        else:
            with patch.object(SearchOutputs, "draw"):
                program(["search", *settings, *own])
        watch.sample(number)
        if number >= MANY and number % DRAWN == 0:
            keep("searches", f"--searches {count}", watch)
    return watch


def one(minutes: float, folder: Path) -> Watch:
    """Make one search of ``minutes`` minutes, and sample every `PERIOD` seconds."""
    watch = Watch("minute")
    began = time.monotonic()

    def look_on() -> None:
        while (passed := (time.monotonic() - began) / 60) < minutes:
            watch.sample(passed)
            if len(watch.samples) >= MANY and len(watch.samples) % MANY == 0:
                keep("search", f"--minutes {minutes:g}", watch)
            time.sleep(PERIOD)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look_on, daemon=True).start()
    try:
        own = [*TINY, "--trainer.max_epochs=1000000", f"--runs={folder}", "--name=long"]
        program(["search", *own])
    except SystemExit as ended:
        if ended.code != 128 + signal.SIGTERM:
            raise
    return watch


def keep(part: str, options: str, watch: Watch) -> None:
    """Write one part of the file, and keep the other part."""
    file = RESULTS / "soak.json"
    result: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    command = f"python -m benchmarks.soak {options}"
    result[part] = {"command": command, **surroundings(), **watch.result()}
    store("soak", result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--searches", type=int, help="number of short searches in one process")
    kind.add_argument("--minutes", type=float, help="duration of one long search in minutes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.searches:
            keep("searches", f"--searches {args.searches}", many(args.searches, Path(folder)))
        else:
            keep("search", f"--minutes {args.minutes:g}", one(args.minutes, Path(folder)))


if __name__ == "__main__":
    main()
