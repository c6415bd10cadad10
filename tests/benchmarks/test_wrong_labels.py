"""The benchmark of wrong labels: its trainings are those of `train.py`, and it goes on."""

import doctest
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import train

import darts_noise as dn
from benchmarks import commands
from benchmarks import wrong_labels as benchmark
from benchmarks.wrong_labels import Measurement, Row, Setting, all_rows, measure

CELL = dn.Genotype(
    normal=[[["skip_connect", 0], ["conv_1x1", 1]]],
    normal_concat=[2],
    reduce=[[["max_pool_3x3", 0], ["conv_1x1", 1]]],
    reduce_concat=[2],
)
SETTING = Setting(parameters=2000, epochs=2, train_samples=80)


@pytest.fixture
def measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measurement:
    monkeypatch.setattr(commands, "RESULTS", tmp_path)
    return Measurement(SETTING, {"cell": CELL}, "data", tmp_path / "records")


def results(folder: Path) -> list[dict[str, Any]]:
    found: dict[str, Any] = json.loads((folder / "wrong_labels_digits.json").read_text())
    return list(found["runs"])


@pytest.mark.usefixtures("no_drawings")
def test_a_training_is_that_of_the_command(measurement: Measurement, tmp_path: Path) -> None:
    CELL.to_json(tmp_path / "cell.json")
    train(
        [
            f"--model.genotype={tmp_path / 'cell.json'}",
            "--config=digits",
            "--data.train_samples=80",
            "--data.wrong_labels=0.4",
            "--noisy_labels=co_teaching",
            "--model.parameters=2000",
            "--trainer.max_epochs=2",
            "--trainer.accelerator=cpu",
            "--noise_check=false",
            "--wandb=off",
            "--seed=3",
            f"--runs={tmp_path}",
            "--name=t",
        ]
    )
    card = json.loads((tmp_path / "train" / "t" / "card.json").read_text())
    figures = measurement.figures(Row("cell", "co_teaching", 0.4, 3))
    for key in ("test_accuracy", "best_test_accuracy", "best_epoch", "label_precision"):
        assert figures[key] == pytest.approx(card[key]), key
    assert figures["parameters"] == card["parameters"]
    assert 0 <= figures["memorised"] < 1


def test_a_measurement_that_was_stopped_goes_on(
    measurement: Measurement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def figures(self: Measurement, row: Row) -> dict[str, Any]:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(row)
        return {"test_accuracy": 0.5}

    monkeypatch.setattr(Measurement, "figures", figures)
    rows = all_rows(["cell", benchmark.PLAIN], ["none", "co_teaching"], [0.0, 0.4], [0])
    with pytest.raises(KeyboardInterrupt):
        measure(measurement, rows, "c")
    assert [run["network"] for run in results(tmp_path)] == ["cell", "plain_cnn"]
    first, made[:] = list(made), []
    monkeypatch.setattr(Measurement, "figures", lambda self, row: made.append(row) or {})
    measure(measurement, rows, "c")
    assert first + made == rows
    assert len(results(tmp_path)) == len(rows) == 6
    other = Measurement(Setting(epochs=3), {"cell": CELL}, "data", tmp_path / "records")
    with pytest.raises(SystemExit, match="another setting"):
        measure(other, rows, "c")


def test_the_examples() -> None:
    assert doctest.testmod(benchmark).failed == 0
