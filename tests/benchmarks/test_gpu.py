"""The runner of the GPU measurements, and every part at its smallest size."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from benchmarks.gpu import pack, tests
from benchmarks.gpu.__main__ import ALONE, PARTS, ROOT, run

NOTES = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text('{\"figure\": 7}'); "
BEHAVIOURS = {
    "hangs": NOTES + "time.sleep(600)",
    "dies": "print('no such card'); raise SystemExit(3)",
    "is killed": NOTES + "import os; os.kill(os.getpid(), 9)",
    "works": NOTES + 'pathlib.Path(sys.argv[1]).write_text(\'{"summary": "well"}\')',
}


def test_a_part_that_hangs_or_dies_costs_only_itself(tmp_path: Path) -> None:
    def command(part: str, limit: float, file: Path) -> list[str]:
        return [sys.executable, "-c", BEHAVIOURS[part], str(file)]

    out = tmp_path / "results" / "gpu.json"
    started = time.monotonic()
    limits = {**dict.fromkeys(BEHAVIOURS, 30.0), "hangs": 2.0}
    result = run(limits, command, out, {"card": "none"})
    assert time.monotonic() - started < 60
    assert json.loads(out.read_text()) == result
    parts = result["parts"]
    status = {name: row["status"] for name, row in parts.items()}
    assert status.pop("hangs") == "timed out"
    assert status == {
        "dies": "failed with status 3",
        "is killed": "failed with status -9",
        "works": "done",
    }
    assert parts["hangs"]["figure"] == parts["is killed"]["figure"] == 7
    assert "no such card" in parts["dies"]["output"]
    assert parts["works"]["summary"] == "well"


def test_figures_are_on_disk_while_a_part_runs(tmp_path: Path) -> None:
    """What cuts the whole command leaves what has been measured."""
    out = tmp_path / "gpu.json"
    code = (
        "import pathlib, sys; from benchmarks.gpu.__main__ import run; "
        f"run({{'hangs': 60.0}}, lambda *a: [sys.executable, '-c', {BEHAVIOURS['hangs']!r}, "
        f"str(a[2])], pathlib.Path({str(out)!r}), {{}})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        for _ in range(200):
            if out.exists():
                break
            time.sleep(0.1)
        assert json.loads(out.read_text())["parts"]["hangs"]["figure"] == 7
    finally:
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM


def test_a_part_that_is_ended_ends_what_it_has_started_in_a_session_of_its_own(
    tmp_path: Path,
) -> None:
    """As torchrun starts its workers, which it ends when it is terminated."""
    pid = tmp_path / "pid"
    script = f"setsid sleep 60 & echo $! > {pid}; trap 'kill $(cat {pid}); exit' TERM; wait"
    run({"workers": 1.0}, lambda *_: ["bash", "-c", script], tmp_path / "gpu.json", {})
    for _ in range(100):  # until init has taken note of its end
        try:
            os.kill(int(pid.read_text()), 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("what the part has started lives on")


def test_packed_images_and_wheels_are_unpacked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WHEELS", "SITE", "DATA"):
        monkeypatch.setattr(pack, name, tmp_path / name.lower())
    monkeypatch.setattr(pack, "ARCHIVE", tmp_path / "images.tar.xz")
    with tarfile.open(tmp_path / "images.tar.xz", "w:xz") as tar:
        entry = tarfile.TarInfo("cifar10-jpeg/test/cat/0.jpg")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"cat"))
    pack.WHEELS.mkdir()
    (pack.WHEELS / "torch-0.0-py3-none-any.whl").touch()  # which is installed
    for _ in range(2):
        assert pack.unpack() == []
    assert (pack.DATA / "cifar10-jpeg" / "test" / "cat" / "0.jpg").read_bytes() == b"cat"
    assert not pack.SITE.exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_part_runs_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device=cpu", "--tiny", f"--out={out}"]
    names = [*PARTS, *ALONE]
    done = subprocess.run([*command, "--minutes=12", "--only", *names], cwd=ROOT, check=False)
    parts = json.loads(out.read_text())["parts"]
    assert {name: row["status"] for name, row in parts.items()} == dict.fromkeys(names, "done")
    assert done.returncode == 0
    forms = parts["step"]["forms"]
    assert max(forms["shared, float64, eager"]["error"].values()) < 1e-12
    assert max(forms["shared, noise-aware, float32, eager"]["error"].values()) < 1e-3


def test_the_tests_for_a_gpu_are_found_by_their_mark_and_by_their_fixture() -> None:
    names = {path.name for path in tests._marked(ROOT / "tests")}
    assert {"test_runs_cuda.py", "test_finite.py", "test_search_lag.py"} <= names
    assert "test_atomic.py" not in names
