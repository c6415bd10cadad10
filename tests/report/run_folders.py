"""Directories of runs for the tests of the report, written without running any."""

from pathlib import Path
from typing import Any

from small_histories import history_of

from darts_noise.report.alpha_history import write_history
from darts_noise.report.card import write_card


def search_run(path: Path, space: str = "noise", *, alpha: bool = True, **card: Any) -> Path:
    """What a search leaves that a report shows, in a new directory.

    Without the history of α a report draws a quarter as much.
    """
    path.mkdir(parents=True)
    history = history_of(space, epochs=4)
    if alpha:
        write_history(path / "history.json", history)
    history.moments[-1].genotype.to_json(path / "genotype.json")
    columns = ("epoch", "train/loss", "val/accuracy", "noise/penalty", "share/normal/none")
    rows = [f"{e},{2 - 0.1 * e},{0.1 + 0.2 * e},{0.1 * e},0.2" for e in range(4)]
    (path / "metrics.csv").write_text("\n".join([",".join(columns), *rows]) + "\n")
    figures = {"kind": "search", "num_classes": 10, "dataset": "digits", "seed": 0}
    write_card(path, {**figures, "validation_accuracy": 0.7, **card})
    return path
