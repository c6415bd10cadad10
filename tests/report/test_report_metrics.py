"""metrics.csv: all logged figures, in rows that a resumed run continues; its series when read."""

import csv
import os
from pathlib import Path

import pytest

from darts_noise.report.metrics import read_metrics
from darts_noise.report.metrics_table import MetricsTable


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(newline="")))


def test_rows_are_on_the_disk_at_once_under_columns_in_order(tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "metrics.csv")
    table.log_metrics({"train/loss": 1.5, "epoch": 0}, step=3)
    assert table.path.read_text() == "epoch,step,train/loss\n0,3,1.5\n"
    table.log_metrics({"train/loss": 1.25, "epoch": 1}, step=6)
    table.log_metrics({"a": 1.0, "epoch": 1}, step=6)
    assert [row["train/loss"] for row in read(table.path)] == ["1.5", "1.25", ""]
    assert [row["a"] for row in read(table.path)] == ["", "", "1.0"]
    assert table.figures == {"train/loss": 1.25, "epoch": 1, "a": 1.0}


def test_a_resumed_table_ends_where_its_checkpoint_was_made(tmp_path: Path) -> None:
    whole = MetricsTable(tmp_path / "whole.csv")
    for epoch in range(4):
        whole.log_metrics({"loss": 0.1 * epoch, "epoch": epoch}, step=epoch)
    stopped = MetricsTable(tmp_path / "metrics.csv")
    for epoch in range(3):
        stopped.log_metrics({"loss": 0.1 * epoch, "epoch": epoch}, step=epoch)
    held = stopped.rows[:2]
    with stopped.path.open("a") as file:
        file.write("3,0.3")  # a row that was cut off
    resumed = MetricsTable(stopped.path)
    resumed.replace(held)
    assert resumed.figures == {"loss": 0.1, "epoch": 1}
    for epoch in (2, 3):
        resumed.log_metrics({"loss": 0.1 * epoch, "epoch": epoch}, step=epoch)
    assert resumed.path.read_text() == whole.path.read_text()


def test_a_table_of_no_rows_has_no_file(tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "metrics.csv")
    table.log_metrics({"loss": 1.0}, step=0)
    table.replace([])
    assert not table.path.exists()


def test_a_disk_that_refuses_a_row_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = MetricsTable(tmp_path / "metrics.csv")
    table.log_metrics({"loss": 1.0}, step=0)

    def refusing(*args: object, **kwargs: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(OSError, match="No space left") as refused:
        table.log_metrics({"loss": 2.0}, step=1)
    assert refused.value.filename == str(table.path)


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
