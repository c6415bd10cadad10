"""The benchmark of wrong labels: its trainings are those of `train.py`, and it goes on."""

import doctest
import json
import sys
from contextlib import suppress
from dataclasses import replace
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


def test_each_seed_may_have_its_own_cell_and_all_have_one_optimiser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(CELL, normal=[[["skip_connect", 0], ["skip_connect", 1]]])
    for seed, cell in enumerate((CELL, other)):
        cell.to_json(tmp_path / f"cell-seed{seed}.json")
    found = []

    def trained(network: Any, data: Any, config: dn.TrainConfig, trainer: Any) -> None:
        found.append((network, config.seed, config.optimiser))
        raise InterruptedError

    monkeypatch.setattr(benchmark, "train_network", trained)
    monkeypatch.setattr(
        benchmark, "measure", lambda m, rows, command: [figures(m, r) for r in rows]
    )

    def figures(measurement: Measurement, row: Row) -> None:
        with suppress(InterruptedError):
            measurement.figures(row)

    cells = [f"own={tmp_path}/cell-seed{{seed}}.json", f"fixed={tmp_path}/cell-seed0.json"]
    argv = ["--methods", "none", "--shares", "0", "--seeds", "0", "1", "--optimiser", "adam"]
    monkeypatch.setattr(sys, "argv", ["benchmark", "--cells", *cells, *argv])
    benchmark.main()
    assert [(n, s) for n, s, _ in found if isinstance(n, dn.Genotype)] == [
        (CELL, 0),
        (CELL, 0),
        (other, 1),
        (CELL, 1),
    ]
    assert {optimiser for *_, optimiser in found} == {"adam"}
    assert len(found) == 6  # with the plain CNN


def test_the_examples() -> None:
    assert doctest.testmod(benchmark).failed == 0
