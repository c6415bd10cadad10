"""A run's folder: its name, the newest run, and the lock of one process."""

import errno
import os
import signal
from pathlib import Path

import pytest
from conftest import refused, search

import darts_noise as dn
from darts_noise.runs.folder import RunLock, create_run, newest_run, point_latest


def test_a_run_without_a_name_gets_one_of_its_own(tmp_path):
    names = {create_run(tmp_path, "search", None, "digits").name for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("digits-") for name in names)


@pytest.mark.parametrize("link", [None, "failed", "gone"])
def test_without_a_latest_that_has_a_cell_the_newest_cell_counts(link, tmp_path):
    folder = tmp_path / "search"
    for age, name in enumerate(("new", "old")):
        (folder / name).mkdir(parents=True)
        dn.load_genotype("darts_v1").to_json(folder / name / "genotype.json")
        os.utime(folder / name / "genotype.json", (10**9 - age, 10**9 - age))
    (folder / "failed").mkdir()
    if link:
        (folder / "latest").symlink_to(link)
    assert newest_run(tmp_path, "search") == folder / "new"
    assert newest_run(tmp_path, "train") is None


def test_a_latest_that_is_no_link_neither_stops_a_run_nor_hides_its_cell(tmp_path):
    """As in a copy of the runs that has followed the links."""
    for age, name in enumerate(("new", "latest")):
        (tmp_path / "search" / name).mkdir(parents=True)
        dn.load_genotype("darts_v1").to_json(tmp_path / "search" / name / "genotype.json")
        os.utime(tmp_path / "search" / name / "genotype.json", (10**9 - age, 10**9 - age))
    point_latest(tmp_path / "search" / "new")
    assert newest_run(tmp_path, "search") == tmp_path / "search" / "new"
    assert {path.name for path in (tmp_path / "search").iterdir()} == {"new", "latest"}


def test_without_symbolic_links_the_newest_cell_counts(tmp_path, monkeypatch):
    def no_links(self, target):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(Path, "symlink_to", no_links)
    (tmp_path / "search" / "new").mkdir(parents=True)
    dn.load_genotype("darts_v1").to_json(tmp_path / "search" / "new" / "genotype.json")
    point_latest(tmp_path / "search" / "new")
    assert newest_run(tmp_path, "search") == tmp_path / "search" / "new"


def other_process(run: Path) -> int:
    """One that has taken the lock and keeps it."""
    taken, told = os.pipe()
    child = os.fork()
    if child == 0:
        lock = RunLock(run)
        lock.take()
        os.write(told, b"!")
        signal.pause()
    os.read(taken, 1)
    return child


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def test_a_lock_is_for_one_process_and_ends_with_it(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    child, lock = other_process(tmp_path), RunLock(tmp_path)
    try:
        with pytest.raises(dn.SettingError, match=f"another process is working on {tmp_path}"):
            lock.take()
    finally:
        kill(child)
    lock.take()
    with pytest.raises(dn.SettingError):
        RunLock(tmp_path).take()
    lock.release()
    RunLock(tmp_path).take()
    assert os.listdir(tmp_path) == ["config.yaml"]


CONFIG = """
data: {batch_size: 8, train_samples: 48}
model: {nodes: 1, channels: 2, num_cells: 3, stem: small, noise_samples: 16}
trainer: {accelerator: cpu, max_epochs: 1}
"""


def test_a_run_that_is_at_work_is_not_resumed(tmp_path, capsys):
    run = tmp_path / "search" / "r"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text(CONFIG)
    (run / "checkpoints" / ".last.ckpt.x1").write_bytes(b"what the other is writing")
    child = other_process(run)
    try:
        error = refused(search, ["--resume", f"--runs={tmp_path}"], capsys)
    finally:
        kill(child)
    assert f"resume: another process is working on {run}" in error
    assert os.listdir(run / "checkpoints") == [".last.ckpt.x1"]
