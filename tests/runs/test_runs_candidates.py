"""``search.py --model.candidates``: the measurements at the end, their file, and the resume."""

import csv
import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from conftest import search, undrawn

import darts_noise as dn
from darts_noise.reading_record import Reading
from darts_noise.search import candidate_trainings
from darts_noise.search.candidate_trainings import CandidateTrainings

SMALL = [
    "--model.space=low_pass",
    "--model.nodes=1",
    "--model.channels=4",
    "--model.num_cells=3",
    "--model.stem=small",
    "--model.noise_samples=32",
    "--model.candidates=3",
    "--model.candidate_epochs=1",
    "--model.warmup_epochs=0",
    "--model.objectives={multiply_adds: {weight: 0.5}}",
    "--data.train_samples=80",
    "--data.batch_size=20",
    "--trainer.max_epochs=1",
    "--wandb=off",
]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, no_drawings: None) -> None:
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a search that nobody stopped, and what it printed."""
    runs, said = tmp_path_factory.mktemp("runs"), io.StringIO()
    with pytest.MonkeyPatch.context() as once, redirect_stdout(said), undrawn():
        once.setattr(candidate_trainings, "NOISE_EPOCHS", 2)
        search([*SMALL, f"--runs={runs}", "--name=whole"])
    return runs / "search" / "whole", said.getvalue()


def test_the_cell_that_is_left_is_the_best_of_those_measured(whole: tuple[Path, str]) -> None:
    run, said = whole
    rows = json.loads((run / "candidates.json").read_text())["candidates"]
    left = json.loads((run / "genotype.json").read_text())
    assert {k: v for k, v in left.items() if k != "meta"} == rows[0]["genotype"]
    assert left["meta"]["candidates"] == len(rows) == 3
    measured = [row["objective"] for row in rows if row["objective"] is not None]
    assert measured == sorted(measured)
    card = json.loads((run / "card.json").read_text())
    assert card["candidates"] == 3
    assert card["cell_validation_accuracy"] == rows[0]["validation"][1]
    assert card["cell_noise_accuracy"] == rows[0]["noise"][1]
    assert card["objective_values"] == {
        "multiply_adds": pytest.approx(rows[0]["terms"]["multiply_adds"], abs=1e-6)
    }
    with (run / "metrics.csv").open() as file:
        figures = [row for row in csv.DictReader(file) if row["objectives/multiply_adds"]]
    assert 0 < float(figures[-1]["objectives/multiply_adds"]) < 1
    assert "candidate 3/3  val " in said


@pytest.mark.parametrize(
    ("stopped_after", "damaged"),
    [
        (2, ""),
        (1, '{"candidates": [{"gen'),
        pytest.param(0, "", marks=pytest.mark.slow),
        pytest.param(1, "[1]", marks=pytest.mark.slow),
    ],
)
def test_a_search_that_is_stopped_while_it_measures_ends_as_the_unbroken_one(
    whole: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stopped_after: int,
    damaged: str,
) -> None:
    on_data = CandidateTrainings.on_data
    with monkeypatch.context() as broken:
        made: list[dn.Genotype] = []

        def stop(
            self: CandidateTrainings, genotype: dn.Genotype, *args: Any, **more: Any
        ) -> Reading:
            if len(made) == stopped_after:
                raise KeyboardInterrupt
            made.append(genotype)
            return on_data(self, genotype, *args, **more)

        broken.setattr(CandidateTrainings, "on_data", stop)
        with pytest.raises(SystemExit) as ended:
            search([*SMALL, f"--runs={tmp_path}", "--name=broken"])
    assert ended.value.code == 130
    assert "to resume: " in capsys.readouterr().out
    run = tmp_path / "search" / "broken"
    assert not (run / "card.json").exists()
    if damaged:
        (run / "candidates.json").write_text(damaged)
    with monkeypatch.context() as counted:
        again: list[dn.Genotype] = []

        def count(
            self: CandidateTrainings, genotype: dn.Genotype, *args: Any, **more: Any
        ) -> Reading:
            again.append(genotype)
            return on_data(self, genotype, *args, **more)

        counted.setattr(CandidateTrainings, "on_data", count)
        search(["--resume", str(run)])
    assert len(again) == (3 if damaged else 3 - stopped_after)
    for name in ("genotype.json", "candidates.json"):
        assert (run / name).read_text() == (whole[0] / name).read_text()
