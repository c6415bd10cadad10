"""The series of a run are the file's points, whatever is missing."""

from pathlib import Path

import pytest

from darts_noise.report.metrics_series import read_metrics


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_empty_cells_and_split_rows_of_an_epoch(tmp_path: Path) -> None:
    # Lightning's logger writes an epoch's validation and training values as two rows.
    text = "epoch,step,train/loss,val/loss\n1,19,1.0,\n2,29,,1.5\n0,9,,2.5\n0,9,2.0,\n1,19,0.9,\n"
    series = read_metrics(write(tmp_path / "m.csv", text))
    assert series["train/loss"] == [(1, 2.0), (2, 0.9)]
    assert series["val/loss"] == [(1, 2.5), (3, 1.5)]


def test_rows_without_an_epoch_are_counted(tmp_path: Path) -> None:
    series = read_metrics(write(tmp_path / "m.csv", "train/loss\n2.0\n1.0\n"))
    assert series == {"train/loss": [(1, 2.0), (2, 1.0)]}


def test_text_in_a_cell_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "epoch,train/loss\n0,1.0\n1,oops\n")
    with pytest.raises(ValueError, match=r"m\.csv, row 2, column 'train/loss'.*'oops'"):
        read_metrics(path)
