"""Durations are rounded, never by more than the last unit shown."""

import re
from itertools import pairwise

import pytest

from darts_noise.report.duration import readable_duration

SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


@pytest.mark.parametrize("seconds", [0, 0.5, 59.4, 59.9, 60, 3599.4, 3599.9, 7170, 172_799, 1e6])
def test_reads_back(seconds: float) -> None:
    text = readable_duration(seconds)
    parts = re.findall(r"(\d+) (\w+)", text)
    assert " ".join(f"{n} {unit}" for n, unit in parts) == text
    total = sum(int(n) * SECONDS[unit] for n, unit in parts)
    assert abs(total - seconds) <= SECONDS[parts[-1][1]] * (1.0 if parts[-1][1] == "h" else 0.5)
    assert len(parts) <= 2
    for (_, larger), (n, unit) in pairwise(parts):
        assert int(n) * SECONDS[unit] < SECONDS[larger]
