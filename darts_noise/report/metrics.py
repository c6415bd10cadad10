"""Read ``metrics.csv``: all logged figures of a run, one row for each call."""

import csv
from pathlib import Path

Series = list[tuple[float, float]]  # (epoch from 1, value), epochs ascending


def read_metrics(file: Path) -> dict[str, Series]:
    """Return column → its (epoch, value) pairs. The last row of an epoch wins.

    The file counts epochs from 0, like Lightning; the result counts from 1. A row without an epoch
    has the number of the row. Empty cells are left out.

    Raises:
        ValueError: the file is not CSV text, or a cell is not a number. The message names the file.
    """
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines, restkey=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file}: not CSV: {error}") from None
    columns: dict[str, dict[float, float]] = {}
    for number, row in enumerate(rows):
        values: dict[str, float] = {}
        for name, cell in row.items():
            if not name or not cell or not cell.strip():  # also from a truncated line
                continue
            try:
                values[name] = float(cell)
            except ValueError:
                raise ValueError(
                    f"{file}, row {number + 1}, column {name!r}: expected a number, got {cell!r}"
                ) from None
        epoch = values.pop("epoch", float(number)) + 1
        for name, value in values.items():
            columns.setdefault(name, {})[epoch] = value
    return {name: sorted(points.items()) for name, points in columns.items()}
