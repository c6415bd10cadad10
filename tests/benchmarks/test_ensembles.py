"""The benchmark of ensembles goes on after a stop, and trains each network once."""

import doctest
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import commands
from benchmarks import ensembles as benchmark
from benchmarks.ensembles import OUTSIDE, Measurement, Setting, measure

SETTING = Setting("digits", train_samples=64, eps=0.1, steps=2, images=20)


def test_a_measurement_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "RESULTS", tmp_path)
    training, seeds, stopping = benchmark.train_from_scratch, list[int](), True

    def counted(*args: Any, seed: int) -> Any:
        if stopping and len(seeds) == 3:
            raise KeyboardInterrupt
        seeds.append(seed)
        return training(*args, seed=seed)

    monkeypatch.setattr(benchmark, "train_from_scratch", counted)
    measurement = Measurement(SETTING, "data", tmp_path / "records")
    with pytest.raises(KeyboardInterrupt):
        measure(measurement, [0], [2, 3], "c")
    stopping = False
    measure(Measurement(SETTING, "data", tmp_path / "records"), [0], [2, 3], "c")
    assert len(seeds) == len(set(seeds)) == 4
    found = json.loads((tmp_path / "ensembles_digits.json").read_text())
    assert [run["size"] for run in found["runs"]] == [2, 3]
    assert [run["fgsm"]["members"] for run in found["runs"]] == [2, 3]
    first, outside = measurement.network(0, 0), measurement.network(0, OUTSIDE)
    shown = measurement.images
    assert not first.training
    assert not first(shown).equal(outside(shown))
    assert len(seeds) == 4  # both were read from their files
    with pytest.raises(SystemExit, match="another setting"):
        Measurement(Setting("digits"), "data", tmp_path / "records")


def test_the_examples() -> None:
    assert doctest.testmod(benchmark).failed == 0
