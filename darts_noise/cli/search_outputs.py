"""What a search writes into its run's directory, besides checkpoints and the card."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import SIGTERMException

from darts_noise.atomic import write_text
from darts_noise.cli.run_directory import point_latest
from darts_noise.report.alpha_history import AlphaHistory, Moment, read_history, write_history
from darts_noise.report.cells import draw_cells
from darts_noise.report.chosen import strengths
from darts_noise.report.curves import draw_curves
from darts_noise.report.film_strip import draw_film
from darts_noise.report.heatmap import draw_alpha
from darts_noise.report.style import save_figure
from darts_noise.search.module import SearchModule
from darts_noise.space.genotype import format_json

HISTORY = "history.json"
DRAWINGS = ("cells", "alpha", "film", "curves")
"""The drawings that a search leaves, each as PNG and SVG."""


class SearchOutputs(pl.Callback):
    """Writes what has been found: the cell and α after every epoch, the drawings at the end."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        if trainer.is_global_zero:
            self.write(pl_module)
            self.remember(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        if trainer.is_global_zero:
            self.write(pl_module)
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
        file, space = self.run / HISTORY, module.arch.space
        history = AlphaHistory(
            operations=space.operations,
            edges=tuple(space.edges),
            macro={name: tuple(map(str, values)) for name, values in space.macro},
            moments=read_history(file).moments if file.is_file() else (),
        )
        weights = {k: w.tolist() for k, w in module.arch.expected().items()}
        moment = Moment(module.current_epoch + 1, module.genotype(), weights)
        write_history(file, history.with_moment(moment))

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
        if (self.run / HISTORY).is_file():
            drawn["film"] = draw_film(read_history(self.run / HISTORY))
        if (self.run / "metrics.csv").is_file():
            drawn["curves"] = draw_curves(self.run / "metrics.csv", module.num_classes)
        for name, figure in drawn.items():
            save_figure(figure, self.run / name)
