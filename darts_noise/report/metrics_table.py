"""``metrics.csv``: every figure that a run logs, a row each time, as one of Lightning's loggers.

Lightning's own `CSVLogger` empties the file when a run goes on, and writes it in place.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from darts_noise.atomic import write_text

Row = dict[str, Any]


class MetricsTable(Logger):
    """Rows in memory and on the disk alike.

    Attributes:
        rows: all so far; a checkpoint holds them, so that a resumed run can be without those that
            came after it.
        figures: the latest value of each column.

    Args:
        path: the file; its columns are in alphabetical order.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: list[Row] = []
        self.figures: Row = {}
        self._columns: list[str] = []

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """They are in the run's ``config.yaml``."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds a row; on the disk before this returns.

        Raises:
            OSError: it cannot be written; the error names the file.
        """
        row = {**metrics, "step": step}
        self.rows.append(row)
        self.figures |= metrics
        if set(row) <= set(self._columns) and self.path.exists():
            self._append(row)
        else:
            self._rewrite()

    @rank_zero_only
    def replace(self, rows: Sequence[Row]) -> None:
        """Makes these the rows, in place of whatever the file holds."""
        self.rows, self.figures, self._columns = list(rows), {}, []
        for row in self.rows:
            self.figures |= {name: value for name, value in row.items() if name != "step"}
        if self.rows:
            self._rewrite()
        else:
            self.path.unlink(missing_ok=True)

    def _append(self, row: Row) -> None:
        try:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                file.write(self._text([row]))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def _rewrite(self) -> None:
        self._columns = sorted(set().union(*self.rows))
        header = dict(zip(self._columns, self._columns, strict=True))
        write_text(self.path, self._text([header, *self.rows]))

    def _text(self, rows: Sequence[Row]) -> str:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns).writerows(rows)
        return text.getvalue()
