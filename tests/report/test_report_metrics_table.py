"""metrics.csv: what was logged, in rows that a resumed run goes on with."""

import csv
import os
from pathlib import Path

import pytest

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
