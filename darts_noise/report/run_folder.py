"""Read and check the files in the directory of a run or a study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from darts_noise.report.alpha_history import AlphaHistory, read_history
from darts_noise.report.metrics import Series, read_metrics
from darts_noise.report.robustness import FILES, Robustness, read_robustness
from darts_noise.search.candidate import Candidate, read_candidates
from darts_noise.search.heat import Heat, read_race
from darts_noise.space.genotype import Genotype
from darts_noise.space.json_file import read_json

if TYPE_CHECKING:
    from darts_noise.search.strategies.controller import Controller

BUNDLE = "config.json"
"""A file that a bundle has and a run has not."""
MAX_BYTES = 1 << 24


@dataclass(frozen=True)
class RunFolder:
    """The files of a search, a training, a bundle or an ensemble.

    Those that do not exist yet are empty or None.

    Attributes:
        path: the directory.
        card: the result card.
        genotype: the cell that was found or trained.
        history: α after every epoch of a search.
        race: the race of a search over macro choices, in the order of the trainings.
        candidates: the measured candidates of a search, the best first.
        controller: the trained controller of a search that has one.
        series: column of ``metrics.csv`` → its points.
        robustness: the accuracies under attack that ``darts-noise attack`` and ``darts-noise
            ensemble evaluate`` have measured.
    """

    path: Path
    card: Mapping[str, Any] = field(default_factory=dict)
    genotype: Genotype | None = None
    history: AlphaHistory | None = None
    race: Sequence[Heat] = ()
    candidates: Sequence[Candidate] = ()
    controller: "Controller | None" = None
    series: Mapping[str, Series] = field(default_factory=dict)
    robustness: Sequence[Robustness] = ()

    @property
    def title(self) -> str:
        """The title on the page, such as ``search digits-1``."""
        return f"{self.card.get('kind') or self.path.parent.name} {self.path.name}"

    @property
    def lacking(self) -> str | None:
        """Why the run has no figures, and what to do. None: it has some."""
        if self.card or self.robustness:
            return None
        if (self.path / BUNDLE).is_file():
            folder, file = quote(str(self.path)), quote(str(self.path / "attack_linf.json"))
            command = f"darts-noise attack {folder} --output {file}"
            return f"is a bundle, which has no card; to show its accuracy under attack: {command}"
        return "has no card.json: the run has not ended; if it was stopped, --resume continues it"

    @property
    def num_classes(self) -> int | None:
        """C, or None without a card."""
        found = self.card.get("num_classes")
        return found if type(found) is int and found > 1 else None

    @property
    def chance(self) -> float | None:
        """The accuracy of the best constant answer on the training images, if the card has it."""
        found = self.card.get("chance")
        return found if type(found) is float and 0 < found <= 1 else None


@dataclass(frozen=True)
class StudyFolder:
    """The tables of a study as Markdown, and its plot of test and noise accuracy as PNG."""

    title: str
    table: str
    plane: bytes | None


def read_run(path: Path) -> RunFolder:
    """Return the run in a directory.

    Raises:
        ValueError: the directory is not a run, or has an invalid file.
        OSError: a file that cannot be read.
    """
    path = path.resolve()  # `latest` is a link to the run's own name
    card, cell, metrics = path / "card.json", path / "genotype.json", path / "metrics.csv"
    history, candidates = path / "history.json", path / "candidates.json"
    race, controller = path / "race.json", path / "controller.safetensors"
    files = (card, cell, metrics, *(path / name for name in FILES))
    if not any(file.is_file() for file in files):
        if (path / "train").is_dir():
            command = f"darts-noise ensemble evaluate {quote(str(path))}"
            raise ValueError(f"{path}: the ensemble is not evaluated; first {command}")
        raise ValueError(f"{path}: expected the directory of a run, such as runs/search/latest")
    return RunFolder(
        path,
        card=_read_card(card) if card.is_file() else {},
        genotype=Genotype.from_json(cell) if cell.is_file() else None,
        history=read_history(history) if history.is_file() else None,
        race=read_race(race)[1] if race.is_file() else (),
        candidates=read_candidates(candidates) if candidates.is_file() else (),
        controller=_read_controller(controller) if controller.is_file() else None,
        series=read_metrics(metrics) if metrics.is_file() else {},
        robustness=read_robustness(path),
    )


def read_study(path: Path) -> StudyFolder | None:
    """Return the study in a directory, or None if the directory is not a study.

    Raises:
        ValueError: a file is too large to be a file of a study.
        OSError: a file that cannot be read.
    """
    table, plane = path / "table.md", path / "plane.png"
    if not table.is_file():
        return None
    return StudyFolder(
        f"study {path.resolve().name}",
        _read(table).decode("utf-8", "replace"),
        _read(plane) if plane.is_file() else None,
    )


def _read_controller(path: Path) -> "Controller":
    from darts_noise.search.learnt import read_controller  # here, because it imports torch

    return read_controller(path)


def _read_card(path: Path) -> dict[str, Any]:
    card = read_json(path)
    if not isinstance(card, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return card


def _read(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_BYTES} bytes")
    return path.read_bytes()
