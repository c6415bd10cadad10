"""What a search writes into its run's directory, besides checkpoints and the card."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException

from darts_noise.atomic import write_text
from darts_noise.cli.run_directory import point_latest
from darts_noise.report.alpha_history import (
    AlphaHistory,
    Moment,
    edge_name,
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
from darts_noise.report.tracking import Table, log_images
from darts_noise.search.architecture import Architecture
from darts_noise.search.module import SearchModule
from darts_noise.space.genotype import format_json

HISTORY = "history.json"
CANDIDATES = "candidates.json"
SPLITS = ("train", "val", "noise")
STEPS = "search/step"
"""The figure that counts the steps of the search, over which W&B draws all others."""
REDRAWN = 60.0  # seconds between two drawings of a search that goes on
DRAWINGS = ("cells", "alpha", "film", "curves")
"""The drawings that a search leaves, each as PNG and SVG."""


def figure_names(module: SearchModule) -> list[str]:
    """The figures that a search logs, as far as they are drawn over its steps."""
    of_splits = [f"{split}/{name}" for split in SPLITS for name in ("loss", "accuracy")]
    rates = [f"lr/{name}" for name in ("alpha", "weights", "twin")]
    return [*of_splits, "noise/penalty", "noise/lag", *module.arch.figures(), *rates]


def weights_tables(arch: Architecture) -> dict[str, Table]:
    """The relaxed weights as tables: an edge in each row, an operation in each column."""
    choices = {name: tuple(map(str, values)) for name, values in arch.space.macro}
    tables: dict[str, Table] = {}
    for kind, weights in arch.expected().items():
        of_macro = kind in choices
        names = [kind] if of_macro else [edge_name(edge) for edge in arch.space.edges]
        rows = [[name, *row] for name, row in zip(names, weights.tolist(), strict=True)]
        columns = choices[kind] if of_macro else arch.space.operations
        tables[f"alpha_{kind}"] = (("choice" if of_macro else "edge", *columns), rows)
    return tables


class SearchOutputs(pl.Callback):
    """Writes what has been found: the cell and α after every epoch, the drawings at the end.

    Attributes:
        history: α so far. A checkpoint holds it too, so that nothing depends on the file.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.history: AlphaHistory | None = None
        self._drawn = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {} if self.history is None else {"history": to_rows(self.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = from_rows(state_dict["history"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        pl_module.log(STEPS, float(pl_module.search_step))
        if trainer.is_global_zero:
            self.write(pl_module)
            self.remember(pl_module)
            if time.monotonic() - self._drawn > REDRAWN:
                self.draw(pl_module)
                self._drawn = time.monotonic()
                for logger in trainer.loggers:
                    if isinstance(logger, WandbLogger):
                        log_images(logger, {name: self.run / f"{name}.png" for name in DRAWINGS})

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        if trainer.is_global_zero:
            self.write(pl_module)
            if self.history is not None:  # also where a resumed run had no epoch left to make
                write_history(self.run / HISTORY, self.history)
            self.draw(pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        assert isinstance(pl_module, SearchModule)
        if trainer.is_global_zero and isinstance(exception, KeyboardInterrupt | SIGTERMException):
            self.write(pl_module)
            self.draw(pl_module)

    def write(self, module: SearchModule) -> None:
        """``genotype.json``, and ``alpha.json`` with the raw α and their relaxed weights."""
        cell = self.run / "genotype.json"
        first = not cell.exists()
        module.genotype().to_json(cell)
        if first:
            point_latest(self.run)
        arch = module.arch
        alpha = {
            "space": arch.space.name,
            "operations": list(arch.space.operations),
            "edges": arch.space.edges,
            "alpha": {k: a.tolist() for k, a in arch.named_parameters()},
            "weights": {k: w.tolist() for k, w in arch.expected().items()},
        }
        write_text(self.run / "alpha.json", format_json(alpha))

    def remember(self, module: SearchModule) -> None:
        """Adds the epoch that has ended to ``history.json``."""
        space = module.arch.space
        history = self.history or AlphaHistory(
            operations=space.operations,
            edges=tuple(space.edges),
            macro={name: tuple(map(str, values)) for name, values in space.macro},
        )
        weights = {k: w.tolist() for k, w in module.arch.expected().items()}
        moment = Moment(module.current_epoch + 1, module.genotype(), weights)
        self.history = history.with_moment(moment)
        write_history(self.run / HISTORY, self.history)

    def draw(self, module: SearchModule) -> None:
        """The drawings of what there is so far."""
        space, genotype = module.arch.space, module.genotype()
        weights = {k: w.tolist() for k, w in module.arch.expected().items()}
        macro = {name: [str(value) for value in values] for name, values in space.macro}
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
            drawn["curves"] = draw_curves(self.run / "metrics.csv", module.num_classes)
        for name, figure in drawn.items():
            save_figure(figure, self.run / name)
