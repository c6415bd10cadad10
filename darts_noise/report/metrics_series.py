"""The figures of a run over its epochs, read from its `metrics.csv`."""

import csv
from pathlib import Path

Series = list[tuple[float, float]]  # (epoch from 1, value), epochs ascending


def read_metrics(metrics_csv: Path) -> dict[str, Series]:
    """Column → its (epoch, value) pairs; empty cells are left out, the last row of an epoch wins.

    The file counts epochs from 0, as Lightning does; here they count from 1, as a person does.
    Without a column `epoch` (or where its cell is empty) the row's number stands for it.

    Raises:
        ValueError: no CSV text, or a cell that is not a number; the message names the file.
    """
    columns: dict[str, dict[float, float]] = {}
    for number, row in enumerate(_rows(Path(metrics_csv))):
        values: dict[str, float] = {}
        for name, cell in row.items():
            # A cut-off line gives None, surplus cells stand under the name None.
            if not isinstance(name, str) or not isinstance(cell, str) or not cell.strip():
                continue
            try:
                values[name] = float(cell)
            except ValueError:
                raise ValueError(
                    f"{metrics_csv}, row {number + 1}, column {name!r}: "
                    f"expected a number, got {cell!r}"
                ) from None
        epoch = values.pop("epoch", float(number)) + 1
        for name, value in values.items():
            columns.setdefault(name, {})[epoch] = value
    return {name: sorted(points.items()) for name, points in columns.items()}


def _rows(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            return list(csv.DictReader(lines))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file}: not CSV: {error}") from None
