"""``python search.py``: finds a cell; see README.md."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pytorch_lightning.cli import LightningArgumentParser

from darts_noise.cli.parser import ScriptCLI, UserError, fail
from darts_noise.cli.plugins import import_plugins
from darts_noise.cli.program import called
from darts_noise.cli.resume import take_up
from darts_noise.cli.run_directory import runs_option
from darts_noise.cli.search_outputs import (
    CANDIDATES,
    DRAWINGS,
    STEPS,
    SearchOutputs,
    figure_names,
    weights_tables,
)
from darts_noise.cli.session import Session, cell_artifact, quiet_lightning
from darts_noise.noise.families import describe_noise
from darts_noise.report.card import count_parameters, row
from darts_noise.report.tracking import require_mode, set_axis
from darts_noise.search.candidate import Candidate, read_candidates, write_candidates
from darts_noise.search.candidates import choose
from darts_noise.search.module import SearchModule


class SearchCLI(ScriptCLI):
    """The command line of the search."""

    kind = "search"
    description = "Searches a cell that learns the data and cannot learn noise."
    max_epochs = 50

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("seed", "model.seed")
        super().add_arguments_to_parser(parser)


def check_settings(cli: ScriptCLI) -> None:
    """Raises `UserError` for settings that Lightning takes and a search cannot follow."""
    model, trainer = cli.config["model"], cli.config["trainer"]
    # α moves by steps that are lost where it is held in half precision.
    if str(trainer["precision"]) in ("16", "16-mixed", "16-true", "bf16-true"):
        raise UserError("trainer.precision: the search runs in 32-true or bf16-mixed")
    if trainer["gradient_clip_val"]:
        raise UserError("trainer.gradient_clip_val: a search clips by model.gradient_clip instead")
    if trainer["accumulate_grad_batches"] != 1:
        raise UserError(
            "trainer.accumulate_grad_batches: expected 1, since a search takes a step each batch; "
            f"got {trainer['accumulate_grad_batches']}. Larger batches are data.batch_size"
        )
    if trainer["max_epochs"] <= model["warmup_epochs"]:
        raise UserError(
            "trainer.max_epochs: expected more than model.warmup_epochs "
            f"({model['warmup_epochs']}), in which α stands still; got {trainer['max_epochs']}"
        )


def search_card(
    module: SearchModule, session: Session, best: Candidate | None = None
) -> dict[str, Any]:
    """What the search says of itself.

    Its figures are the supernet's; the found cell's own come from its training, and `best`, where
    candidates were measured, has them on the images of the search.
    """
    data = session.cli.datamodule
    hparams = module.hparams
    family = describe_noise(hparams["noise_family"])
    figures = session.table.figures
    return {
        "kind": "search",
        "dataset": data.name,
        "num_classes": data.num_classes,
        "space": module.space.name,
        "macro": dict(module.genotype().macro) or None,
        "channels": hparams["channels"],
        "num_cells": hparams["num_cells"],
        "hypergradient": hparams["hypergradient"],
        "variants": hparams["variants"] or None,
        "noise_weight": hparams["noise_weight"],
        "noise_penalty": hparams["penalty"] if hparams["noise_weight"] else None,
        "noise_family": family if hparams["noise_weight"] else None,
        "noise_samples": hparams["noise_samples"],
        "noise_fingerprint": module.noise_fingerprint,
        "validation_accuracy": figures.get("val/accuracy"),
        "twin_noise_accuracy": None if module.twin is None else figures.get("noise/accuracy"),
        "penalty": figures.get("noise/penalty"),
        "candidates": module.genotype().meta.get("candidates"),
        "parameters": count_parameters(module.net),
        "epochs": session.trainer.current_epoch,
        "train_samples": len(data.train),
        **({} if best is None else cell_figures(best)),
        "genotype": str(session.run / "genotype.json"),
        **session.origin(),
    }


def cell_figures(best: Candidate) -> dict[str, float]:
    """The accuracies of the chosen cell, trained alone on the data and, where λ > 0, on noise."""
    figures = {"cell_validation_accuracy": best.validation.accuracy}
    if best.noise is not None:
        figures["cell_noise_accuracy"] = best.noise.accuracy
    return figures


def choose_cell(module: SearchModule, session: Session) -> Candidate:
    """Measures the cells that α proposes, writes the figures, and takes and returns the best."""
    console, count = session.console, module.hparams["candidates"]
    file, known = session.run / CANDIDATES, []
    with suppress(ValueError):  # of a run that was stopped; a damaged file costs only time
        known = read_candidates(file)
    console.print(f"measuring up to {count} cells that α proposes")

    def told(found: Sequence[Candidate]) -> None:
        measured = {candidate.genotype for candidate in found}
        write_candidates(file, [*found, *(c for c in known if c.genotype not in measured)])
        console.print(f"candidate {len(found)}/{count}  {found[-1]}")

    try:
        found = choose(module, session.cli.datamodule, told, known)
    except (KeyboardInterrupt, SystemExit):
        session.interrupted()
    write_candidates(file, found)
    outputs = SearchOutputs(session.run)
    outputs.write(module)
    outputs.draw(module)
    return found[0]


def main(argv: list[str] | None = None) -> None:
    """Searches a cell and leaves it in ``runs/search/<name>``.

    Args:
        argv: the arguments; those of the process by default.

    Raises:
        SystemExit: 2 after one line about what the user can put right; 130 after a Ctrl-C and 143
            after a SIGTERM; 0 for a run to resume that has ended.
    """
    quiet_lightning()
    try:
        argv = import_plugins(sys.argv[1:] if argv is None else argv)
        argv, resumed = take_up(argv, SearchCLI.kind)
    except ValueError as error:
        fail(error)
    cli = SearchCLI(SearchModule, argv)
    module = cli.model
    assert isinstance(module, SearchModule)
    try:
        require_mode(cli.config["wandb"])
        check_settings(cli)
        cli.datamodule.setup()
        module.build(cli.datamodule)
        session = Session(cli, lambda run: [SearchOutputs(run)], "val/accuracy", resumed)
    except (OSError, ValueError) as error:
        cli.fail(error)
    with session.one_line_errors():
        set_axis(session.wandb, STEPS, figure_names(module))
        session.fit(module)
        if not session.is_first:
            return
        best = choose_cell(module, session) if module.hparams["candidates"] > 1 else None
        card = search_card(module, session, best)
        session.close(
            card,
            {name: session.run / f"{name}.png" for name in DRAWINGS},
            cell_artifact(session.run.name, session.run / "genotype.json"),
            weights_tables(module.arch),
        )
    if module.stopped_because:
        session.console.print(module.stopped_because)
    session.console.print(row(card))
    session.console.print(f"cell: {session.run / 'genotype.json'}")
    size = module.hparams["candidate_parameters"]
    options = f" --model.parameters {size}" if size and module.hparams["candidates"] > 1 else ""
    session.console.print(f"next: {called('train')}{options}{runs_option(cli.config['runs'])}")
