"""Functions that the benchmarks share: measure a script, describe the machine, store results."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from darts_noise.atomic import write_text
from darts_noise.report.measured import describe_hardware, versions

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"


def measured(script: str, *options: str, status: int = 0) -> tuple[float, float, int]:
    """Run a script of the project; return its wall time and CPU time in seconds, and its MiB.

    The script must end with this exit status.
    """
    started = time.perf_counter()
    command = [sys.executable, script, *options]
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, stdout=silent, stderr=silent if status else None)
    _, ended, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(ended) != status:
        raise SystemExit(f"{' '.join(command)} failed")
    cpu = usage.ru_utime + usage.ru_stime  # its child processes included
    return time.perf_counter() - started, cpu, usage.ru_maxrss // 1024


def surroundings(device: str = "cpu") -> dict[str, Any]:
    """Return the hardware and the versions for a file of results, with the GPU's name if any."""
    hardware = {"cores": os.cpu_count(), "threads": os.environ.get("OMP_NUM_THREADS")}
    if device != "cpu":
        hardware["gpu"] = describe_hardware(torch.device(device))
    return {"hardware": hardware, "versions": versions()}


def card_of(run: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((run / "card.json").read_text())
    return card


def store(name: str, result: dict[str, Any]) -> None:
    """Write ``docs/results/<name>.json``. Call it after each run, so that no run is lost."""
    write_text(RESULTS / f"{name}.json", json.dumps(result, indent=1) + "\n")
