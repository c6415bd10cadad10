"""Run a search from its settings to its card, and write its files."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException
from rich.console import Console
from torch import Tensor

from darts_noise.atomic import write_text
from darts_noise.data.module import ImageDataModule
from darts_noise.distributed.collectives import on_first_process
from darts_noise.noise.families import describe_noise
from darts_noise.report.alpha_history import (
    AlphaHistory,
    Moment,
    edge_name,
    from_rows,
    strengths,
    to_rows,
    write_history,
)
from darts_noise.report.card import count_parameters
from darts_noise.report.cells import draw_cells
from darts_noise.report.curves import draw_curves
from darts_noise.report.film_strip import draw_film
from darts_noise.report.heatmap import draw_alpha
from darts_noise.report.style import save_figure
from darts_noise.report.tracking import Table, log_images, set_axis
from darts_noise.runs.folder import point_latest, require_free
from darts_noise.runs.run import (
    Run,
    cell_artifact,
    stated_settings,
    with_epochs,
)
from darts_noise.runs.settings import RunConfig, TrainerConfig, check_trainer
from darts_noise.runs.stops import interruptible
from darts_noise.runs.trainer import figures_of, silent_trainer
from darts_noise.search.architecture import Architecture
from darts_noise.search.candidate import Candidate, read_candidates, write_candidates
from darts_noise.search.final_cell import choose
from darts_noise.search.module import SearchModule
from darts_noise.search.race import (
    Heat,
    combinations,
    narrowed,
    race,
    read_race,
    reference_cells,
    standing,
    write_race,
)
from darts_noise.search.settings import SearchConfig
from darts_noise.space.genotype import Genotype, format_json
from darts_noise.space.macro import as_text
from darts_noise.train.progress import quiet_lightning

EPOCHS = 50
"""Default number of passes over the training images, as in DARTS (arXiv:1806.09055)."""
HISTORY = "history.json"
CANDIDATES = "candidates.json"
RACE = "race.json"
SPLITS = ("train", "val", "noise")
STEPS = "search/step"
"""The figure that counts the steps of the search. W&B draws all other figures over it."""
REDRAWN = 60.0  # seconds between two drawings of a running search
DRAWINGS = ("cells", "alpha", "film", "curves")
"""The drawings of a search, each as PNG and SVG."""


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        genotype: the discrete cells.
        alpha: the architecture weights before the relaxation, by name.
        card: the figures of ``card.json``. Empty in all processes except the first.
        path: the run's folder.
        stopped_because: why a search variant ended the search early, or None.
    """

    genotype: Genotype
    alpha: dict[str, Tensor]
    card: dict[str, Any]
    path: Path
    stopped_because: str | None = None


def search(
    data: ImageDataModule,
    config: SearchConfig | None = None,
    *,
    trainer: TrainerConfig | None = None,
    run: RunConfig | None = None,
    console: Console | None = None,
) -> SearchResult:
    """Search for a cell, and write it to ``runs/search/<name>``.

    Args:
        data: the images.
        config: what the search chooses from, and how.
        trainer: Lightning's Trainer: devices, precision, epochs (default: 50).
        run: the folder, the tracking, and the stopped run to resume.
        console: where to show progress. None: standard output.

    Raises:
        SettingError: an invalid setting. Its key names the setting.
        ValueError: unusable data, or a search that diverged.
        Interrupted: a signal stopped the run. It can be resumed.

    >>> import darts_noise as dn
    >>> found = dn.search(dn.ImageDataModule("digits"), dn.SearchConfig())  # doctest: +SKIP
    """
    config, run = config or SearchConfig(), run or RunConfig()
    trainer = with_epochs(trainer or TrainerConfig(), EPOCHS)
    check_trainer(config, trainer)
    if run.resume is None:
        require_free(run.runs, "search", run.name)
    with quiet_lightning():
        module = _module(_first(config), data)
        session = Run(
            "search",
            data,
            lambda path: stated_settings(config.seed, run, trainer, config, data.config),
            trainer,
            run,
            lambda path: [SearchOutputs(path, data.train.chance)],
            "val/accuracy",
            console,
        )
        with session.open():
            heats = _race(config, module, session) if config.race else []
            if heats:
                module = _module(narrowed(config, standing(heats)[0].macro), data)
            set_axis(session.wandb, STEPS, figure_names(module))
            session.fit(module)
            card: dict[str, Any] = {}
            if session.is_first:
                found = _choose(module, session) if config.candidates > 1 else []
                card = search_card(module, session, found, heats)
                session.close(
                    card,
                    {name: session.path / f"{name}.png" for name in DRAWINGS},
                    cell_artifact(session.path.name, session.path / "genotype.json"),
                    {**weights_tables(module.arch), **race_table(heats)},
                )
    alpha = {name: a.detach() for name, a in module.arch.named_parameters()}
    return SearchResult(module.genotype(), alpha, card, session.path, module.stopped_because)


def find_cell(
    data: ImageDataModule, config: SearchConfig, trainer: TrainerConfig
) -> tuple[Genotype, dict[str, float]]:
    """Search for a cell without writing files. `search` finds the same cell.

    Args:
        data: the images.
        config: what the search chooses from, and how.
        trainer: Lightning's Trainer.

    Returns:
        The cell, and the figures of the last epoch by their names in ``metrics.csv``, with the
        number of ``gradient_steps``.

    Raises:
        ValueError: as for `search`.
        KeyboardInterrupt: a Ctrl-C.
    """
    trainer = with_epochs(trainer, EPOCHS)
    check_trainer(config, trainer)
    with quiet_lightning(), interruptible():
        module, heats = _module(_first(config), data), []
        fitted = silent_trainer(trainer)
        if config.race:
            data.trainer = fitted
            heats = race(config, module, data)
            module = _module(narrowed(config, standing(heats)[0].macro), data)
        fitted.fit(module, datamodule=data)
        found = choose(module, data) if config.candidates > 1 else []
    steps = sum(steps_spent(module, found, heats).values())
    return module.genotype(), {**figures_of(fitted), "gradient_steps": steps}


def _module(config: SearchConfig, data: ImageDataModule) -> SearchModule:
    """Return the module of a search, seeded and built for its data."""
    pl.seed_everything(config.seed, workers=True, verbose=False)
    module = SearchModule(config)
    data.setup()
    module.build(data)
    return module


def _first(config: SearchConfig) -> SearchConfig:
    """Return the settings. If macro choices race, return those of the first combination."""
    return narrowed(config, combinations(config)[0]) if config.race else config


def _race(config: SearchConfig, module: SearchModule, session: Run) -> list[Heat]:
    """Race the macro choices, write the figures, and return them."""
    console, file = session.console, session.path / RACE
    cells = reference_cells(module)

    def read() -> list[Heat]:
        with suppress(ValueError):  # from a stopped run; a damaged file costs only time
            of, heats = read_race(file)
            return heats if of == cells else []
        return []

    def told(heats: Sequence[Heat]) -> None:
        if session.is_first:
            write_race(file, cells, heats)
            session.has_results = True
        console.print(f"race  {heats[-1]}")

    console.print(f"racing {len(combinations(config))} combinations of macro choices")
    try:
        heats = race(config, module, session.data, told, on_first_process(read))
    except (KeyboardInterrupt, SystemExit):
        session.interrupted()
    console.print(f"the race is won by {standing(heats)[0].name}")
    return heats


def race_table(heats: Sequence[Heat]) -> dict[str, Table]:
    """Return the table of a race, the winner first. Without a race, there is no table."""
    if not heats:
        return {}
    columns = (*heats[0].macro, "epochs", "validation_accuracy", "noise_accuracy", "objective")
    rows = [
        [
            *map(str, heat.macro.values()),
            heat.epochs[0],
            *heat.accuracies,
            heat.shown_objective,
        ]
        for heat in standing(heats)
    ]
    return {"race": (columns, rows)}


def _choose(module: SearchModule, session: Run) -> list[Candidate]:
    """Measure the cells that α proposes, write the figures, and return them, the best first."""
    console, count = session.console, module.config.candidates
    file, known = session.path / CANDIDATES, []
    with suppress(ValueError):  # from a stopped run; a damaged file costs only time
        known = read_candidates(file)
    console.print(f"measuring up to {count} cells that α proposes")

    def told(found: Sequence[Candidate]) -> None:
        measured = {candidate.genotype for candidate in found}
        write_candidates(file, [*found, *(c for c in known if c.genotype not in measured)])
        console.print(f"candidate {len(found)}/{count}  {found[-1]}")

    try:
        found = choose(module, session.data, told, known)
    except (KeyboardInterrupt, SystemExit):
        session.interrupted()
    write_candidates(file, found)
    outputs = SearchOutputs(session.path, session.data.train.chance)
    outputs.write(module)
    outputs.draw(module)
    return found


def figure_names(module: SearchModule) -> list[str]:
    """Return the names of the logged figures that are drawn over the steps of the search."""
    of_splits = [f"{split}/{name}" for split in SPLITS for name in ("loss", "accuracy")]
    rates = [f"lr/{name}" for name in ("alpha", "weights", "twin")]
    return [*of_splits, "noise/penalty", "noise/lag", *module.arch.figures(), *rates]


def weights_tables(arch: Architecture) -> dict[str, Table]:
    """Return the relaxed weights as tables, with one row per edge and one column per operation."""
    choices = {name: tuple(map(str, values)) for name, values in arch.space.macro}
    tables: dict[str, Table] = {}
    for kind, weights in arch.expected().items():
        of_macro = kind in choices
        names = [kind] if of_macro else [edge_name(edge) for edge in arch.space.edges]
        rows = [[name, *row] for name, row in zip(names, weights.tolist(), strict=True)]
        columns = choices[kind] if of_macro else arch.space.operations
        tables[f"alpha_{kind}"] = (("choice" if of_macro else "edge", *columns), rows)
    return tables


def search_card(
    module: SearchModule,
    session: Run,
    found: Sequence[Candidate] = (),
    heats: Sequence[Heat] = (),
) -> dict[str, Any]:
    """Return the card of a search.

    Its figures are figures of the supernet. If candidates were measured, the first adds the figures
    of the chosen cell alone.
    """
    best, steps = found[0] if found else None, steps_spent(module, found, heats)
    data = session.data
    config = module.config
    family = describe_noise(config.noise_family)
    figures = session.table.figures
    return {
        "kind": "search",
        "dataset": data.name,
        "num_classes": data.num_classes,
        "chance": data.train.chance,
        "space": module.space.name,
        "macro": dict(module.genotype().macro) or None,
        "channels": config.channels,
        "num_cells": config.num_cells,
        "hypergradient": config.hypergradient,
        "variants": config.variants or None,
        "noise_weight": config.noise_weight,
        "noise_penalty": config.penalty if config.noise_weight else None,
        "noise_family": family if config.noise_weight else None,
        "noise_samples": config.noise_samples,
        "noise_chance": None if module.noise_set is None else module.noise_set.chance,
        "noise_fingerprint": module.noise_fingerprint,
        "validation_accuracy": figures.get("val/accuracy"),
        "twin_noise_accuracy": None if module.twin is None else figures.get("noise/accuracy"),
        "penalty": figures.get("noise/penalty"),
        "objective": objective(figures, config.noise_weight, best),
        "race": len(standing(heats)) or None,
        "candidates": module.genotype().meta.get("candidates"),
        "gradient_steps": sum(steps.values()),
        **{f"{part}_steps": number for part, number in steps.items() if number},
        "parameters": count_parameters(module.net),
        "epochs": session.trainer.current_epoch,
        "train_samples": len(data.train),
        **({} if best is None else _cell_figures(best)),
        "genotype": str(session.path / "genotype.json"),
        **session.origin(config.seed),
    }


def steps_spent(
    module: SearchModule, found: Sequence[Candidate], heats: Sequence[Heat]
) -> dict[str, int]:
    """Return the number of optimiser steps of each part of a search."""
    return {
        "race": sum(heat.steps for heat in heats),
        "supernet": module.gradient_steps,
        "candidates": sum(candidate.steps for candidate in found),
    }


def objective(
    figures: Mapping[str, float], noise_weight: float, best: Candidate | None = None
) -> float | None:
    """Return F = validation loss + λ · penalty of the last epoch, or of the best candidate.

    Searches of one λ can be ranked by it.

    >>> objective({"val/loss": 0.5, "noise/penalty": 0.1}, 2.0)
    0.7
    """
    if best is not None:
        return best.objective
    parts = figures.get("val/loss"), figures.get("noise/penalty") if noise_weight else 0.0
    if parts[0] is None or parts[1] is None:
        return None
    return round(parts[0] + noise_weight * parts[1], 6)


def _cell_figures(best: Candidate) -> dict[str, float]:
    """Return the accuracies of the chosen cell, trained alone on the data and on noise."""
    figures = {"cell_validation_accuracy": best.validation.accuracy}
    if best.noise is not None:
        figures["cell_noise_accuracy"] = best.noise.accuracy
    return figures


class SearchOutputs(pl.Callback):
    """A callback that writes the cell and α after every epoch, and the drawings at the end.

    Args:
        run: folder of the run.
        chance: the accuracy of the best constant answer, for the curves.

    Attributes:
        history: the history of α. A checkpoint holds it too, so a resumed run does not need the
            file.
    """

    def __init__(self, run: Path, chance: float) -> None:
        self.run, self.chance = run, chance
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
            if self.history is not None:  # also if a resumed run had no epoch left
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
        """Write ``genotype.json``, and ``alpha.json`` with α and the relaxed weights."""
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
        """Add the finished epoch to ``history.json``."""
        space = module.arch.space
        history = self.history or AlphaHistory(
            operations=space.operations,
            edges=tuple(space.edges),
            macro={name: tuple(map(as_text, values)) for name, values in space.macro},
        )
        weights = {k: w.tolist() for k, w in module.arch.expected().items()}
        moment = Moment(module.current_epoch + 1, module.genotype(), weights)
        self.history = history.with_moment(moment)
        write_history(self.run / HISTORY, self.history)

    def draw(self, module: SearchModule) -> None:
        """Write the drawings of the search so far."""
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
            drawn["curves"] = draw_curves(
                self.run / "metrics.csv", module.num_classes, chance=self.chance
            )
        for name, figure in drawn.items():
            save_figure(figure, self.run / name)
