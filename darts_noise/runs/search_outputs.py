"""The files that a search writes: the cell, α, the history, the candidates and the drawings."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException

from darts_noise.atomic import write_text
from darts_noise.report.alpha_history import (
    AlphaHistory,
    Moment,
    from_rows,
    strengths,
    to_rows,
    write_history,
)
from darts_noise.report.cells import draw_cells
from darts_noise.report.curves import draw_curves
from darts_noise.report.film_strip import draw_film
from darts_noise.report.heatmap import draw_alpha
from darts_noise.report.style import save_figure
from darts_noise.report.tracking import log_images
from darts_noise.runs.folder import point_latest
from darts_noise.search.candidate import Candidate, read_candidates, write_candidates
from darts_noise.search.module import SearchModule
from darts_noise.space.genotype import Genotype, format_json
from darts_noise.space.macro import as_text
from darts_noise.space.spaces import Space

HISTORY = "history.json"
CANDIDATES = "candidates.json"
STEPS = "search/step"
"""The figure that counts the steps of the search. W&B draws all other figures over it."""
REDRAWN = 60.0
"""Least number of seconds between two drawings of a running search."""
SHARE_OF_DRAWINGS = 0.02
"""Largest share of the time of a running search that its drawings take."""
DRAWINGS = ("cells", "alpha", "film", "curves")
"""The drawings of a search, each as PNG and SVG."""


class SearchOutputs(pl.Callback):
    """A callback that writes the cell and α after every epoch, and the drawings at the end.

    Args:
        run: folder of the run.
        chance: the accuracy of the best constant answer, for the curves.
        counted: what the history counts; see `AlphaHistory`.

    Attributes:
        history: the history of α. A checkpoint holds it too, so a resumed run does not need the
            file.
    """

    def __init__(self, run: Path, chance: float, counted: str = "epoch") -> None:
        self.run, self.chance, self.counted = run, chance, counted
        self.history: AlphaHistory | None = None
        self._due = time.monotonic() + REDRAWN

    def state_dict(self) -> dict[str, Any]:
        return {} if self.history is None else {"history": to_rows(self.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = from_rows(state_dict["history"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        pl_module.log(STEPS, float(pl_module.search_step))
        if trainer.is_global_zero:
            self.write(pl_module)
            moment = moment_of(pl_module)
            self.remember(moment, pl_module.space)
            self.redraw(moment, pl_module.space, pl_module.num_classes, trainer.loggers)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        if trainer.is_global_zero:
            self.write(pl_module)
            if self.history is not None:  # also if a resumed run had no epoch left
                write_history(self.run / HISTORY, self.history)
            self.draw(moment_of(pl_module), pl_module.space, pl_module.num_classes)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        assert isinstance(pl_module, SearchModule)
        if trainer.is_global_zero and isinstance(exception, KeyboardInterrupt | SIGTERMException):
            self.write(pl_module)
            self.draw(moment_of(pl_module), pl_module.space, pl_module.num_classes)

    def write(self, module: SearchModule) -> None:
        """Write ``genotype.json``, and ``alpha.json`` with α and the relaxed weights."""
        self.write_cell(module.genotype())
        arch = module.arch
        alpha = {
            "space": arch.space.name,
            "operations": list(arch.space.operations),
            "edges": arch.space.edges,
            "alpha": {k: a.tolist() for k, a in arch.named_parameters()},
            "weights": {k: w.tolist() for k, w in arch.expected().items()},
        }
        write_text(self.run / "alpha.json", format_json(alpha))

    def write_cell(self, genotype: Genotype) -> None:
        """Write ``genotype.json``. The first time, point ``latest`` at the run."""
        cell = self.run / "genotype.json"
        first = not cell.exists()
        genotype.to_json(cell)
        if first:
            point_latest(self.run)

    def remember(self, moment: Moment, space: Space) -> None:
        """Add a moment to ``history.json``."""
        history = self.history or AlphaHistory(
            operations=space.operations,
            edges=tuple(space.edges),
            macro={name: tuple(map(as_text, values)) for name, values in space.macro},
            counted=self.counted,
        )
        self.history = history.with_moment(moment)
        write_history(self.run / HISTORY, self.history)

    def redraw(
        self, moment: Moment, space: Space, num_classes: int, loggers: Sequence[Logger]
    ) -> None:
        """Draw, also in W&B, at most once a minute, and less often if drawing is slow."""
        now = time.monotonic()
        if now > self._due:
            self.draw(moment, space, num_classes)
            took = time.monotonic() - now
            self._due = now + max(REDRAWN, took / SHARE_OF_DRAWINGS)
            for logger in loggers:
                if isinstance(logger, WandbLogger):
                    log_images(logger, {name: self.run / f"{name}.png" for name in DRAWINGS})

    def draw(self, moment: Moment, space: Space, num_classes: int) -> None:
        """Write the drawings of the search so far."""
        genotype, weights = moment.genotype, moment.weights
        macro = {name: list(map(as_text, values)) for name, values in space.macro}
        strength = strengths(genotype, weights, space.operations, space.edges)
        drawn = {
            "cells": draw_cells(genotype, strength=strength),
            "alpha": draw_alpha(
                weights, space.operations, space.edges, macro=macro, genotype=genotype
            ),
        }
        if self.history is not None:
            drawn["film"] = draw_film(self.history)
        if (self.run / "metrics.csv").is_file():
            drawn["curves"] = draw_curves(self.run / "metrics.csv", num_classes, chance=self.chance)
        for name, figure in drawn.items():
            save_figure(figure, self.run / name)


def moment_of(module: SearchModule) -> Moment:
    """Return the current α and its genotype."""
    weights = {kind: rows.tolist() for kind, rows in module.arch.expected().items()}
    return Moment(module.current_epoch + 1, module.genotype(), weights)


def read_known(run: Path) -> list[Candidate]:
    """Return the cells that a stopped run has measured."""
    with suppress(ValueError):  # no such file, or a damaged one, which costs only time
        return read_candidates(run / CANDIDATES)
    return []


def write_measured(run: Path, found: Sequence[Candidate], known: Sequence[Candidate]) -> None:
    """Write ``candidates.json``, with the known cells that are not proposed again so far."""
    again = {(candidate.genotype, candidate.share) for candidate in found}
    later = [c for c in known if (c.genotype, c.share) not in again]
    write_candidates(run / CANDIDATES, [*found, *later])
