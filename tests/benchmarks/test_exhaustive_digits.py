"""The table of the digits: every cell once, and a stopped command continues with the same rows."""

from pathlib import Path

import pytest

import darts_noise as dn
from benchmarks import commands
from benchmarks import exhaustive_digits as exhaustive
from benchmarks.noise_fit_by_choice import Measurement, Sizes
from darts_noise.search.table import CellTable

TINY = Sizes(
    samples=20,
    epochs=4,
    noise_batch_size=20,
    noise_rate=0.01,
    data_epochs=2,
    validation_fraction=0.9,
    channels=2,
    num_cells=3,
)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(commands, "RESULTS", tmp_path)
    monkeypatch.setattr(exhaustive.time, "process_time", lambda: 0.0)
    return tmp_path / "digits.csv"


def test_every_cell_is_there_once_and_has_no_twin() -> None:
    cells = list(exhaustive.every_cell())
    assert len(cells) == len(set(map(str, cells))) == 512
    # The edges of a normal cell have two inputs somewhere: the last cell is a normal one.
    assert exhaustive.SIZES.num_cells == 4


def test_a_stopped_command_continues_and_a_strategy_is_told_its_rows(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = list(exhaustive.every_cell())[:2]
    made: list[tuple[dn.Genotype, exhaustive.Row]] = []
    whole = exhaustive.figures

    def figures(measurement: Measurement, cell: dn.Genotype) -> exhaustive.Row:
        made.append((cell, whole(measurement, cell)))
        return made[-1][1]

    monkeypatch.setattr(exhaustive, "figures", figures)
    exhaustive.measure(table, TINY, cells, most=1)
    exhaustive.measure(table, TINY, cells, most=2)
    assert sorted(str(cell) for cell, _ in made) == sorted(map(str, cells))

    read = CellTable.from_csv(table, noise="uniform")
    assert [row.genotype for row in read.rows] == cells
    for cell, row in made:
        found = read.rows[read.number(cell)]
        assert {**found.figures, "steps": found.steps} == pytest.approx(row)
        assert found.steps > 0
        assert {"test", "uniform", "random_labels", "loss_2", "uniform_1"} <= set(row)


def test_rows_of_another_setting_are_kept(table: Path) -> None:
    (table.parent / f"{exhaustive.FILE}.json").write_text('{"setting": {"samples": 7}}')
    with pytest.raises(SystemExit, match="another setting"):
        exhaustive.measure(table, TINY, [], most=1)
