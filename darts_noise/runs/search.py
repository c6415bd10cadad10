"""Run a search from its settings to its card, and write its files."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from torch import Tensor

from darts_noise.configured import require_kinds
from darts_noise.data.module import ImageDataModule
from darts_noise.distributed.collectives import on_first_process
from darts_noise.errors import counted
from darts_noise.noise.families import describe_noise
from darts_noise.report.alpha_history import edge_name
from darts_noise.report.card import describe_wrong_labels
from darts_noise.report.measured import count_parameters
from darts_noise.report.tracking import Table, set_axis
from darts_noise.runs.folder import require_free
from darts_noise.runs.run import Run, cell_artifact, stated_settings, with_epochs
from darts_noise.runs.search_outputs import (
    DRAWINGS,
    STEPS,
    SearchOutputs,
    moment_of,
    read_known,
    write_measured,
)
from darts_noise.runs.settings import RunConfig, TrainerConfig, check_trainer
from darts_noise.runs.strategy import measure_proposals
from darts_noise.search.architecture import Architecture
from darts_noise.search.asking import budget
from darts_noise.search.candidate import Candidate
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.final_cell import choose, of_race
from darts_noise.search.heat import Heat, Macro, differences, read_race, standing, write_race
from darts_noise.search.module import SearchModule
from darts_noise.search.race import combinations, narrowed, race, reference_cells, require_suited
from darts_noise.search.settings import SearchConfig
from darts_noise.space.genotype import Genotype
from darts_noise.space.macro import as_text
from darts_noise.train.progress import quiet_lightning

EPOCHS = 50
"""Default number of passes over the training images, as in DARTS (arXiv:1806.09055)."""
RACE = "race.json"
FLOAT32 = (None, 32, "32", "32-true")
"""Values of the precision that mean float32."""
SPLITS = ("train", "val", "noise")


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        genotype: the discrete cells.
        alpha: the architecture weights before the relaxation, by name. Empty if the strategy has
            no supernet.
        card: the figures of ``card.json``. Empty in all processes except the first.
        path: the run's folder.
        stopped_because: why a search variant or a strategy ended the search early, or None.
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
    require_kinds(
        data=(data, ImageDataModule),
        config=(config, SearchConfig),
        trainer=(trainer, TrainerConfig),
        run=(run, RunConfig),
    )
    config, run = config or SearchConfig(), run or RunConfig()
    trainer = with_epochs(trainer or TrainerConfig(), EPOCHS)
    check_trainer(config, trainer)
    if run.resume is None:
        require_free(run.runs, "search", run.name)
    with quiet_lightning():
        module = search_module(config, data)
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
        with session.open(config.channels):
            module.objectives.keep(session.path)
            if config.race or config.candidates > 1 or module.strategy is not None:
                _say_what_does_not_count(trainer, session)
            heats: list[Heat] = []
            found: list[Candidate] = []
            tables: dict[str, Table] = {}
            if module.strategy is not None:
                found = measure_proposals(module, session)
            else:
                raced: list[Candidate] = []
                heats = _race(config, module, session) if config.race else []
                if heats:
                    cells = reference_cells(module)
                    module = search_module(config, data, standing(heats)[0].macro)
                    raced = of_race(module, data, cells, heats)
                    module.objectives.keep(session.path)
                set_axis(session.wandb, STEPS, figure_names(module))
                session.fit(module)
                if session.is_first and config.candidates > 1:
                    found = _choose(module, session, raced)
                tables = {**weights_tables(module.arch), **race_table(heats)}
            card: dict[str, Any] = {}
            if session.is_first:
                card = search_card(module, session, found, heats)
                session.close(
                    card,
                    {name: session.path / f"{name}.png" for name in DRAWINGS},
                    cell_artifact(session.path.name, session.path / "genotype.json"),
                    tables,
                )
    alpha: dict[str, Tensor] = {}
    if module.strategy is None:
        alpha = {name: a.detach() for name, a in module.arch.named_parameters()}
    return SearchResult(module.genotype(), alpha, card, session.path, module.stopped_because)


def search_module(
    config: SearchConfig, data: ImageDataModule, winner: Macro | None = None
) -> SearchModule:
    """Return the module of a search, seeded and built for its data.

    Args:
        config: the settings.
        data: the images.
        winner: the macro choices of the combination that won the race. None: the race has not run,
            and the module has the first combination.

    Raises:
        SettingError: a setting that does not suit another one or the data.
    """
    pl.seed_everything(config.seed, workers=True, verbose=False)
    decided = narrowed(config, winner or combinations(config)[0]) if config.race else config
    module = SearchModule(decided)
    data.setup()
    if config.race:
        require_suited(config, data)
    (module.build if module.strategy is None else module.prepare)(data)
    return module


def _say_what_does_not_count(trainer: TrainerConfig, session: Run) -> None:
    """Print the stated settings of the Trainer that trainings of single cells do not follow."""
    stated = {
        "trainer.precision": trainer.precision not in FLOAT32,
        "trainer.max_time": trainer.max_time is not None,
        "trainer.fast_dev_run": bool(trainer.fast_dev_run),
    }
    if ignored := [key for key, is_stated in stated.items() if is_stated]:
        session.console.print(
            f"single networks are trained in full and in float32, without {', '.join(ignored)}"
        )


def _race(config: SearchConfig, module: SearchModule, session: Run) -> list[Heat]:
    """Race the macro choices, write the figures, and return them."""
    console, file = session.console, session.path / RACE
    cells, raced = reference_cells(module), combinations(config)

    def read() -> list[Heat]:
        with suppress(ValueError):  # from a stopped run; a damaged file costs only time
            of, heats = read_race(file)
            return heats if of == cells else []
        return []

    def told(heats: Sequence[Heat]) -> None:
        if session.is_first:
            write_race(file, cells, heats)
            session.has_results = True
        console.print(f"network {raced.index(dict(heats[-1].macro)) + 1}  {heats[-1]}")

    console.print(f"race of {len(raced)} networks with different macro choices")
    for number, choices in enumerate(differences(raced), start=1):
        console.print(f"network {number}: {choices}")
    heats = race(config, module, session.data, told, on_first_process(read))
    console.print(f"network {raced.index(dict(standing(heats)[0].macro)) + 1} wins the race")
    return heats


def race_table(heats: Sequence[Heat]) -> dict[str, Table]:
    """Return the table of a race, the winner first. Without a race, there is no table."""
    if not heats:
        return {}
    columns = (*heats[0].macro, "epochs", "validation_accuracy", "noise_accuracy", "objective")
    rows = [
        [*map(str, heat.macro.values()), heat.epochs[0], *heat.accuracies, heat.shown_objective]
        for heat in standing(heats)
    ]
    return {"race": (columns, rows)}


def _choose(module: SearchModule, session: Run, raced: Sequence[Candidate]) -> list[Candidate]:
    """Measure the cells that α proposes, write the figures, and return them, the best first."""
    console, known = session.console, read_known(session.path)
    count = module.config.candidates + len(raced)
    beside = f", beside {counted(len(raced), 'cell')} of the race" if raced else ""
    console.print(f"measuring up to {module.config.candidates} cells that α proposes{beside}")

    def told(found: Sequence[Candidate]) -> None:
        write_measured(session.path, found, known)
        console.print(f"candidate {len(found)}/{count}  {found[-1]}")

    found = choose(module, session.data, told, known, raced)
    write_measured(session.path, found, ())
    outputs = SearchOutputs(session.path, session.data.train.chance)
    outputs.write(module)
    outputs.draw(moment_of(module), module.space, module.num_classes)
    return found


def figure_names(module: SearchModule) -> list[str]:
    """Return the names of the logged figures that are drawn over the steps of the search."""
    of_splits = [f"{split}/{name}" for split in SPLITS for name in ("loss", "accuracy")]
    rates = [f"lr/{name}" for name in ("alpha", "weights", "twin")]
    terms = [f"objectives/{name}" for name in module.objectives.terms]
    return [*of_splits, "noise/penalty", "noise/lag", *terms, *module.arch.figures(), *rates]


def weights_tables(arch: Architecture) -> dict[str, Table]:
    """Return the relaxed weights as tables, with one row per edge and one column per operation."""
    choices = {name: tuple(map(as_text, values)) for name, values in arch.space.macro}
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
    data, config = session.data, module.config
    return {
        "kind": "search",
        "dataset": data.name,
        "num_classes": data.num_classes,
        "chance": data.train.chance,
        "space": module.space.name,
        "macro": dict(module.genotype().macro) or None,
        "channels": config.channels,
        "num_cells": config.num_cells,
        "noise_weight": config.noise_weight,
        "noise_penalty": config.penalty if config.noise_weight else None,
        "noise_family": describe_noise(config.noise_family) if config.noise_weight else None,
        "noise_samples": config.noise_samples,
        "noise_chance": None if module.noise_set is None else module.noise_set.chance,
        "noise_fingerprint": module.noise_fingerprint,
        "objectives": config.objectives or None,
        **_method_figures(module, session, best),
        "race": len(standing(heats)) or None,
        "candidates": module.genotype().meta.get("candidates"),
        "gradient_steps": sum(steps.values()),
        **{f"{part}_steps": number for part, number in steps.items() if number},
        "train_samples": len(data.train),
        "wrong_labels": describe_wrong_labels(data.config),
        **({} if best is None else _cell_figures(best)),
        "genotype": str(session.path / "genotype.json"),
        **session.origin(config.seed),
    }


def _method_figures(module: SearchModule, session: Run, best: Candidate | None) -> dict[str, Any]:
    """Return the figures of a search with α and a supernet, or of another strategy."""
    figures, config = session.table.figures, module.config
    if module.strategy is not None:
        assert best is not None
        trainings = CandidateTrainings(module, session.data)
        return {
            "strategy": config.strategy,
            "strategy_steps": budget(trainings),
            "objective": best.objective,
            "objective_values": best.terms or None,
            "parameters": trainings.parameters(best.genotype),
        }
    terms = dict(best.terms) if best is not None else of_objectives(module, figures)
    return {
        "hypergradient": config.hypergradient,
        "variants": config.variants or None,
        "validation_accuracy": figures.get("val/accuracy"),
        "twin_noise_accuracy": None if module.twin is None else figures.get("noise/accuracy"),
        "penalty": figures.get("noise/penalty"),
        "objective": objective(figures, config.noise_weight, best, module.objectives.total(terms)),
        "objective_values": {name: round(value, 6) for name, value in terms.items()} or None,
        "supernet_parameters": count_parameters(module.net),
        "epochs": session.trainer.current_epoch,
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


def of_objectives(module: SearchModule, figures: Mapping[str, float]) -> dict[str, float]:
    """Return the values of the further objectives in the last epoch. NaN: not measured."""
    return {name: figures.get(f"objectives/{name}", math.nan) for name in module.objectives.terms}


def objective(
    figures: Mapping[str, float],
    noise_weight: float,
    best: Candidate | None = None,
    others: float = 0.0,
) -> float | None:
    """Return F = validation loss + λ · penalty of the last epoch, or of the best candidate.

    Searches with equal weights can be ranked by it. ``others`` is Σ weight · T of further
    objectives.

    >>> objective({"val/loss": 0.5, "noise/penalty": 0.1}, 2.0)
    0.7
    """
    if best is not None:
        return best.objective
    parts = figures.get("val/loss"), figures.get("noise/penalty") if noise_weight else 0.0
    if parts[0] is None or parts[1] is None:
        return None
    found = parts[0] + noise_weight * parts[1] + others
    return None if math.isnan(found) else round(found, 6)


def _cell_figures(best: Candidate) -> dict[str, float]:
    """Return the accuracies of the chosen cell, trained alone on the data and on noise."""
    figures = {"cell_validation_accuracy": best.validation.accuracy}
    if best.noise is not None:
        figures["cell_noise_accuracy"] = best.noise.accuracy
    return figures
