"""``python train.py``: trains a network of a found cell on the data and on noise; see README.md."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.cli import LightningArgumentParser

from darts_noise.atomic import write_text
from darts_noise.cli.noise_card import noise_rows
from darts_noise.cli.noise_check import NoiseCheck, add_options, check_names
from darts_noise.cli.parser import ScriptCLI, UserError, fail
from darts_noise.cli.plugins import import_plugins
from darts_noise.cli.program import called
from darts_noise.cli.resume import take_up
from darts_noise.cli.run_directory import newest_run, point_latest, runs_option
from darts_noise.cli.session import Session, cell_artifact, quiet_lightning
from darts_noise.cli.shipped_configs import list_configs
from darts_noise.data.module import ImageDataModule
from darts_noise.pretrained.bundle import OF_A_RUN, save_pretrained
from darts_noise.pretrained.training import trained_images
from darts_noise.report.card import (
    count_multiply_adds,
    count_parameters,
    finite,
    row,
    without_diverged,
)
from darts_noise.report.cells import save_cells
from darts_noise.report.curves import draw_curves
from darts_noise.report.style import save_figure
from darts_noise.report.tracking import require_mode, set_axis, use_artifact
from darts_noise.space.genotype import Genotype
from darts_noise.space.published import list_genotypes, load_genotype
from darts_noise.train.module import TrainModule
from darts_noise.train.noise_record import NoiseFit

NOISE_FIGURES = ("noise/accuracy",)
"""Of the training on noise, whose epochs are not the steps of the run."""


class TrainCLI(ScriptCLI):
    """The command line of the training."""

    kind = "train"
    description = "Trains a network of a found or a published cell, on the data and on noise."
    max_epochs = 600

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add_options(parser)
        parser.link_arguments("seed", "model.seed")
        super().add_arguments_to_parser(parser)

    def resolved_config(self, run: Path) -> dict[str, Any]:
        """As for every script, with the cell that this run trains in place of a search's folder.

        A published name stays. Anything else may hold another cell tomorrow, so the run's own copy
        is named, from the root: the config is read in whatever folder the user is in. Where the
        run's folder has moved since, `find_genotype` takes the copy beside the config.
        """
        config = super().resolved_config(run)
        if str(config["model"]["genotype"]).lower() not in list_genotypes():
            config["model"]["genotype"] = str((run / "genotype.json").resolve())
        return config


def find_genotype(cli: ScriptCLI) -> tuple[Genotype, str]:
    """The genotype that the user named, or the newest search's, and where it was found.

    Raises:
        UserError: neither is there.
    """
    named = cli.config["model"]["genotype"]
    if named is not None:
        named = _beside_config(cli, named) or _by_name(cli, named) or named
        try:
            return load_genotype(named), named
        except ValueError as error:
            raise UserError(f"model.genotype: {error}") from None
    runs = cli.config["runs"]
    newest = newest_run(runs, "search")
    if newest is None:
        raise UserError(
            f"no search in {Path(runs) / 'search'}: run `{called('search')}{runs_option(runs)}` "
            "first, or name a cell, as in --model.genotype darts_v2"
        )
    return load_genotype(newest), str(newest)


def _by_name(cli: ScriptCLI, named: str) -> str | None:
    """The folder of the search of that name, unless it is a published cell's or a path."""
    if str(named).lower() in list_genotypes() or Path(named).exists() or Path(named).name != named:
        return None
    run = Path(cli.config["runs"]) / "search" / named
    return str(run) if (run / "genotype.json").is_file() else None


def _beside_config(cli: ScriptCLI, named: str) -> str | None:
    """The genotype beside the config that names it, where that run's folder has moved."""
    if Path(named).name != "genotype.json" or Path(named).exists():
        return None
    files = [Path(c.absolute) for c in cli.config["config"] or [] if c is not None]
    for file in reversed(files):
        beside = file.parent / "genotype.json"
        if beside.is_file() and file.is_file():
            model = yaml.safe_load(file.read_text("utf-8")).get("model") or {}
            if model.get("genotype") == named:
                return str(beside)
    return None


def _origin(run: Path, cell: str) -> str:
    """Where the cell came from when the run began, which its config no longer says; kept beside."""
    kept = run / "origin.json"
    if not kept.is_file():
        write_text(kept, json.dumps({"cell": cell}) + "\n")
    return str(json.loads(kept.read_text("utf-8"))["cell"])


def default_config(argv: list[str]) -> list[str]:
    """The arguments, with what suits the newest search where the user names no config.

    The data are the search's, from where the search had them; the rest comes from the config that
    is shipped for that data set or, where there is none, from the one for digits with the search's
    stem. Whatever the user gives comes later and so has the last word.
    """
    named = ("-c", "--config", "--model.genotype", "--data.name")
    if any(a.split("=")[0] in named for a in argv):
        return argv
    runs = next((a.partition("=")[2] for a in argv if a.startswith("--runs=")), "runs")
    if "--runs" in argv[:-1]:
        runs = argv[argv.index("--runs") + 1]
    newest = newest_run(runs, "search")
    if newest is None or not (newest / "config.yaml").is_file():
        return argv
    try:
        searched = yaml.safe_load((newest / "config.yaml").read_text("utf-8"))
        data, model = searched["data"], searched["model"]
        carried = {f"data.{key}": data.get(key) for key in ("name", "root", "image_size", "grey")}
        stem = {f"model.{key}": model.get(key) for key in ("stem", "stem_stride")}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, AttributeError, TypeError):
        raise UserError(f"{newest / 'config.yaml'}: not the config of a search") from None
    config = data["name"]
    if config not in list_configs("train"):
        config = "digits"
        carried |= stem
    options = [
        f"--{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in carried.items()
        if value is not None
    ]
    return ["--config", f"train/{config}", *options, *argv]


def cell_name(cell: str) -> str:
    """What W&B calls the cell: by its published name, or by the run that found it.

    >>> cell_name("darts_v2"), cell_name("runs/search/a"), cell_name("runs/search/a/genotype.json")
    ('darts_v2', 'a', 'a')
    """
    path = Path(cell).resolve()  # `latest` is a link
    return path.parent.name if path.name == "genotype.json" else path.name


def log_noise_curve(session: Session, noise: NoiseFit | None) -> None:
    """The accuracy on noise after each epoch, where there is one, among the figures of the run."""
    for epoch, accuracy in enumerate(noise.curve if noise is not None else ()):
        for logger in session.trainer.loggers:
            logger.log_metrics({"epoch": epoch, NOISE_FIGURES[0]: accuracy})


def train_card(
    module: TrainModule,
    session: Session,
    cell: str,
    test: dict[str, float],
    noise: dict[str, Any],
) -> dict[str, Any]:
    """The row that a paper would print.

    Args:
        module: trained.
        session: of the run.
        cell: the name of the cell, or where it was found.
        test: the test figures; empty where there are none.
        noise: the rows of the noise check.
    """
    data = session.cli.datamodule
    genotype = module.net.genotype
    return {
        "kind": "train",
        "dataset": data.name,
        "cell": cell,
        "num_classes": data.num_classes,
        "genotype": genotype.to_dict(),
        "macro": dict(genotype.macro) or None,
        "channels": module.config.channels,
        "num_cells": module.config.num_cells,
        "noise_weight": genotype.meta.get("noise_weight"),
        "noise_family": genotype.meta.get("noise_family")
        if genotype.meta.get("noise_weight")
        else None,
        "test_accuracy": test.get("test/accuracy"),
        "test_loss": test.get("test/loss"),
        **noise,
        "parameters": count_parameters(module.net),
        "multiply_adds": count_multiply_adds(module.net, data.image_shape),
        "epochs": session.trainer.current_epoch,
        "train_samples": len(data.train),
        **session.origin(),
    }


def write_bundle(
    run: Path, module: TrainModule, data: ImageDataModule, card: dict[str, Any]
) -> str:
    """Writes the trained network for `load_pretrained`, and says in one line where it is."""
    try:
        folder = save_pretrained(
            module.net, run / OF_A_RUN, images=trained_images(data), card=finite(card)
        )
    except ModuleNotFoundError as error:  # installed before safetensors was a dependency
        return f"no bundle, for which {error.name} is missing: pip install {error.name}"
    return f"bundle: {folder}"


def main(argv: list[str] | None = None) -> None:
    """Trains a cell and leaves the network in ``runs/train/<name>``.

    Args:
        argv: the arguments; those of the process by default.

    Raises:
        SystemExit: 2 after one line about what the user can put right; 130 after a Ctrl-C and 143
            after a SIGTERM; 0 for a run to resume that has ended.
    """
    quiet_lightning()
    try:
        argv = import_plugins(sys.argv[1:] if argv is None else argv)
        argv, resumed = take_up(argv, TrainCLI.kind)
        argv = default_config(argv)
    except ValueError as error:
        fail(error)
    cli = TrainCLI(TrainModule, argv)
    module, data = cli.model, cli.datamodule
    assert isinstance(module, TrainModule)
    try:
        require_mode(cli.config["wandb"])
        check_names(cli.config)
        genotype, cell = find_genotype(cli)
        data.setup()
        check = NoiseCheck(cli)
        head = module.config.auxiliary_weight > 0
        module.leave_out_head(genotype, data.image_shape)
        module.build(genotype, data.num_classes, data.in_channels)
        monitor = "val/accuracy" if len(data.validation) else None
        session = Session(cli, lambda run: [], monitor, resumed)
        if head and not module.config.auxiliary_weight:
            session.console.print(
                f"no auxiliary head: images of {data.image_shape[1:]} pixels are too small"
            )
    except (OSError, ValueError) as error:
        cli.fail(error)
    run = session.run
    with session.one_line_errors():
        if session.is_first:
            cell = _origin(run, cell)
            genotype.to_json(run / "genotype.json")
            point_latest(run)
            use_artifact(session.wandb, *cell_artifact(cell_name(cell), run / "genotype.json"))
            set_axis(session.wandb, "epoch", NOISE_FIGURES)
            save_cells(genotype, run / "cells")
        session.fit(module)
        test = session.test(module)
        noise = check.measure(session, module) if check.wanted else None
        if not session.is_first:
            return
        log_noise_curve(session, noise)
        unfit = noise is not None and math.isnan(noise.accuracy)
        save_figure(draw_curves(run / "metrics.csv", data.num_classes), run / "curves")
        rows = noise_rows(noise, check.grid, unfit)
        card = train_card(module, session, cell, test, rows)
        card = without_diverged(card, ["noise_accuracy"] if unfit else [])
        bundle = write_bundle(run, module, data, card)
        files = ["genotype.json", "checkpoints/best.ckpt", "card.json", "card.md", "config.yaml"]
        session.close(
            card,
            {name: run / f"{name}.png" for name in ("cells", "curves")},
            (f"model-{run.name}", "model", [run / name for name in files]),
        )
    session.console.print(row(card))
    session.console.print(f"card: {run / 'card.md'}\n{bundle}")
