"""The available memory, read from files that the tests write."""

import os
from pathlib import Path

import pytest

from darts_noise.data import memory

MEMINFO = "MemTotal:       24684096 kB\nMemFree:         1000 kB\nMemAvailable:   2000 kB\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a `meminfo`; `first` and `second` are where limits would be."""
    (tmp_path / "meminfo").write_text(MEMINFO)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "first", tmp_path / "second"))
    return tmp_path


def test_it_is_what_linux_calls_available(machine: Path) -> None:
    assert memory.available_memory() == 2000 * 1024


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("1000000\n", 1_000_000), ("max\n", 2000 * 1024), ("9223372036854771712\n", 2000 * 1024)],
)
@pytest.mark.parametrize("name", ["first", "second"])
def test_a_containers_limit_counts(machine: Path, name: str, limit: str, expected: int) -> None:
    (machine / name).write_text(limit)
    assert memory.available_memory() == expected


def test_elsewhere_it_is_the_physical_memory(machine: Path) -> None:
    (machine / "meminfo").unlink()
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    assert memory.available_memory() == pages * size


def test_this_machine_has_some_but_not_more_than_it_has() -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**20 < memory.available_memory() <= total


@pytest.mark.parametrize(
    ("size", "text"), [(193 * 2**30 // 10, "19.3 GiB"), (2**30, "1.0 GiB"), (2**19, "0.5 MiB")]
)
def test_sizes_are_written_for_people(size: int, text: str) -> None:
    assert memory.describe(size) == text
