"""Run the parts one after the other, and write one JSON file; see the package's docstring."""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from benchmarks.gpu.pack import FOLDER, SITE, unpack
from darts_noise.atomic import write_text

PARTS = {"tests": 120, "step": 180, "training": 90, "search": 45, "sameness": 45, "noise": 30}
"""The parts in their order, with their seconds out of 8.5 minutes."""
ALONE = {"cifar10": 300}
"""Parts that run only if they are named, as long beside the others."""
ROOT = Path(__file__).resolve().parents[2]
GRACE = 100
"""Tenths of a second in which a part may end by itself, before it is killed."""
TAIL = 2000
"""Number of characters to keep of the output of a failed part."""

Command = Callable[[str, float, Path], Sequence[str]]
"""(part, largest number of seconds, file for its figures) → the command that runs it."""


def run(
    parts: dict[str, float], command: Command, out: Path, about: dict[str, Any]
) -> dict[str, Any]:
    """Run every part in its own process, and rewrite the JSON file when new figures arrive.

    Args:
        parts: the name of each part and the seconds that it may take.
        command: starts a part.
        out: the JSON file.
        about: what the file says besides the parts.

    Returns:
        What the file holds at the end.
    """
    result: dict[str, Any] = {**about, "parts": {}}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        stack.callback(signal.signal, signal.SIGTERM, before)
        for name, limit in parts.items():
            file = Path(folder) / f"{name}.json"
            row = result["parts"][name] = {"status": "running", "limit_s": round(limit, 1)}
            _follow(
                command(name, limit, file),
                limit,
                file,
                row,
                lambda: write_text(out, json.dumps(result, indent=1) + "\n"),
            )
            print(_line(name, row), flush=True)
    return result


def _follow(
    command: Sequence[str], limit: float, file: Path, row: dict[str, Any], write: Callable[[], None]
) -> None:
    """Wait for one part, and copy its figures into ``row`` each time that it has new ones."""
    started, seen = time.monotonic(), 0
    log = file.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        status = "timed out"
        try:
            while time.monotonic() - started < limit:
                code = _wait(process)
                if code is not None:
                    status = "done" if code == 0 else f"failed with status {code}"
                    break
                if file.exists() and file.stat().st_mtime_ns != seen:
                    seen = file.stat().st_mtime_ns
                    row |= json.loads(file.read_text())
                    write()
        finally:
            _end(process)
    row |= json.loads(file.read_text()) if file.exists() else {}
    row |= {"status": status, "seconds": round(time.monotonic() - started, 1)}
    if status != "done":
        row["output"] = log.read_text(errors="replace")[-TAIL:]
    write()


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(0.5)
    except subprocess.TimeoutExpired:
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all processes that it has started.

    The workers of torchrun are in sessions of their own: SIGTERM makes it end them.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        for _ in range(GRACE):
            process.poll()  # a process that is not waited for stays in its group
            time.sleep(0.1)
            os.killpg(process.pid, 0)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _line(name: str, row: dict[str, Any]) -> str:
    told = row.get("summary") or (row.get("output") or "").strip().rpartition("\n")[2]
    return f"{name}: {row['status']} in {row['seconds']:.0f} s{': ' * bool(told)}{told}"


def _card(device: str) -> str:
    """Return the name of the GPU from ``nvidia-smi``."""
    if device == "cpu":
        return "cpu"
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        names = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        return "no GPU"
    return names[0].strip() or "no GPU"


def _measure(args: argparse.Namespace) -> None:
    """Run one part in this process."""
    from benchmarks.gpu.task import Task

    task = Task(args.device, args.tiny, args.limit, args.file)
    importlib.import_module(f"benchmarks.gpu.{args.part}").measure(task)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="Every question that only a GPU can answer."
    )
    parser.add_argument("--minutes", type=float, default=8, help="for all parts; default: 8")
    named = {**PARTS, **ALONE}
    parser.add_argument("--only", nargs="+", choices=named, metavar="PART", help=", ".join(named))
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that it runs")
    parser.add_argument(
        "--out", type=Path, help="default: $OUT/gpu.json, else docs/results/gpu_<card>.json"
    )
    parser.add_argument("--part", choices=named, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part is not None:
        _measure(args)
        return
    card = _card(args.device)
    if card == "no GPU":
        parser.error("--device: found no NVIDIA GPU; --device cpu --tiny tries the parts on a CPU")
    if not args.minutes > 0:
        parser.error(f"--minutes: expected more than 0, got {args.minutes:g}")
    started = time.monotonic()
    installed = unpack()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), os.environ.get("PYTHONPATH", ""), str(SITE)]
    )
    name = f"gpu_{card.lower().replace(' ', '_').replace('-', '_')}.json"
    default = ROOT / "docs" / "results" / name
    if args.tiny:
        default = FOLDER / "tiny.json"
    if "OUT" in os.environ:
        default = Path(os.environ["OUT"]) / "gpu.json"
    out: Path = args.out or default
    prepared = time.monotonic() - started
    chosen = args.only or list(PARTS)
    share = (60 * args.minutes - prepared) / sum(PARTS.values())

    def command(part: str, limit: float, file: Path) -> list[str]:
        options = ["--tiny"] if args.tiny else []
        options += [f"--part={part}", f"--limit={limit}", f"--file={file}"]
        return [sys.executable, "-m", "benchmarks.gpu", f"--device={args.device}", *options]

    about = {
        "command": " ".join(["python -m benchmarks.gpu", *sys.argv[1:]]),
        "card": card,
        "prepared_s": round(prepared, 1),
        "installed": installed,
    }
    result = run({part: named[part] * share for part in chosen}, command, out, about)
    print(out)
    raise SystemExit(any(row["status"] != "done" for row in result["parts"].values()))


if __name__ == "__main__":
    main()
