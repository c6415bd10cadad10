"""Run the tests marked ``cuda``, and record which of them failed."""

import re
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.commands import ROOT
from benchmarks.gpu.task import Task
from darts_noise.report.measured import describe_hardware, versions

OUTCOME = re.compile(r"^(tests/\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)")
FOR_A_GPU = re.compile(r"mark\.cuda|def \w+\([^)]*\bdevice\b")
"""Text in a test file: the mark, or a test with the fixture ``device``, which has the mark."""


def measure(task: Task) -> None:
    """Record the hardware, the outcome of each test, and the output of failed tests."""
    task.note(hardware=describe_hardware(torch.device(task.device)), versions=versions())
    files = [str(path) for path in _marked(ROOT / "tests")]
    options = ["-m", "cuda", "--verbose", "--tb=short", "--override-ini=addopts=", "-p", "no:xdist"]
    options += ["--timeout=60", "-p", "no:cacheprovider"]
    pytest = subprocess.Popen(
        [sys.executable, "-u", "-m", "pytest", *options, *files],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert pytest.stdout is not None
    outcomes: dict[str, str] = {}
    lines: list[str] = []
    for line in pytest.stdout:
        lines.append(line)
        if found := OUTCOME.match(line):
            outcomes[found[1]] = found[2].lower()
            counts = {o: list(outcomes.values()).count(o) for o in set(outcomes.values())}
            bad = sorted(name for name, o in outcomes.items() if o in ("failed", "error"))
            told = ", ".join(f"{n} {o}" for o, n in sorted(counts.items()))
            task.note(counts=counts, not_passed=bad, summary=told)
    status = pytest.wait()
    if status or not outcomes:
        task.note(status_of_pytest=status, printed="".join(lines)[-20_000:])
    if status not in (0, 1):
        raise SystemExit(f"pytest ended with status {status}")


def _marked(folder: Path) -> list[Path]:
    """Return the test files with a test for a GPU."""
    files = sorted(folder.rglob("test_*.py"))
    return [path for path in files if FOR_A_GPU.search(path.read_text("utf-8"))]
