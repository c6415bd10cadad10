"""What a run has left in its directory, read as data and checked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darts_noise.report.alpha_history import AlphaHistory, read_history
from darts_noise.report.metrics import Series, read_metrics
from darts_noise.search.candidate import Candidate, read_candidates
from darts_noise.space.genotype import Genotype

MAX_CARD_BYTES = 1 << 24


@dataclass(frozen=True)
class RunFolder:
    """A run of ``search.py`` or ``train.py``; what it has not written yet is empty or None.

    Attributes:
        path: its directory.
        card: the result card.
        genotype: the cell that it found or trained.
        history: α after every epoch; of a search.
        candidates: the cells among which a search chose, the best first.
        series: column of ``metrics.csv`` → its points.
    """

    path: Path
    card: Mapping[str, Any] = field(default_factory=dict)
    genotype: Genotype | None = None
    history: AlphaHistory | None = None
    candidates: Sequence[Candidate] = ()
    series: Mapping[str, Series] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``search`` or ``train``."""
        return str(self.card.get("kind") or self.path.parent.name)

    @property
    def title(self) -> str:
        """What the page calls it, such as ``search digits-1``."""
        return f"{self.kind} {self.path.name}"

    @property
    def num_classes(self) -> int | None:
        """C; None for a run without a card."""
        found = self.card.get("num_classes")
        return found if type(found) is int and found > 1 else None

    @property
    def weights(self) -> Mapping[str, Sequence[Sequence[float]]] | None:
        """The last weights of α that the history holds."""
        moments = self.history.moments if self.history is not None else ()
        return moments[-1].weights if moments else None


def read_run(path: Path) -> RunFolder:
    """The run in a directory.

    Raises:
        ValueError: no directory of a run, or a file in it that is not what it should be.
        OSError: a file that cannot be read.
    """
    path = path.resolve()  # `latest` is a link, and the run has a name of its own
    card, cell, history, metrics, candidates = (
        path / name
        for name in (
            "card.json",
            "genotype.json",
            "history.json",
            "metrics.csv",
            "candidates.json",
        )
    )
    if not (card.is_file() or cell.is_file() or metrics.is_file()):
        raise ValueError(f"{path}: expected the directory of a run, such as runs/search/latest")
    return RunFolder(
        path,
        card=_read_card(card) if card.is_file() else {},
        genotype=Genotype.from_json(cell) if cell.is_file() else None,
        history=read_history(history) if history.is_file() else None,
        candidates=read_candidates(candidates) if candidates.is_file() else (),
        series=read_metrics(metrics) if metrics.is_file() else {},
    )


def _read_card(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_CARD_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_CARD_BYTES} bytes")
    try:
        card = json.loads(path.read_text("utf-8"))
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(card, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return card
