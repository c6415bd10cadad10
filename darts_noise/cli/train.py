"""``python train.py``: trains a network of a found cell on the data and on noise; see README.md."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.cli import LightningArgumentParser

from darts_noise.cli.parser import CONFIGS, ScriptCLI, UserError, fail
from darts_noise.cli.run_directory import newest_run
from darts_noise.cli.session import Session, quiet_lightning
from darts_noise.nets.network import auxiliary_fits
from darts_noise.noise.families import require_noise
from darts_noise.report.card import count_multiply_adds, count_parameters, row
from darts_noise.report.cells import save_cells
from darts_noise.report.curves import draw_curves
from darts_noise.report.progress import RunProgress
from darts_noise.report.style import save_figure
from darts_noise.report.tracking import require_mode
from darts_noise.space.genotype import Genotype
from darts_noise.space.published import load_genotype
from darts_noise.train.module import TrainModule
from darts_noise.train.noise_fit import NoiseFit, noise_fit

NOISE_FIGURES = {"train/loss": "loss", "val/accuracy": "noise acc"}
"""In the noise check, what is validated on is the noise itself."""


class TrainCLI(ScriptCLI):
    """The command line of the training."""

    kind = "train"
    description = "Trains a network of a found or a published cell, on the data and on noise."
    max_epochs = 600

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--noise_check", type=bool, default=True, help="also train the cell on noise"
        )
        parser.add_argument(
            "--noise_family", type=str, default="uniform", help="what the noise check trains on"
        )
        parser.link_arguments("seed", "model.seed")
        super().add_arguments_to_parser(parser)


def find_genotype(cli: ScriptCLI) -> Genotype:
    """The genotype that the user named, or the newest search's.

    Raises:
        UserError: neither is there.
    """
    named = cli.config["model"]["genotype"]
    if named is not None:
        try:
            return load_genotype(named)
        except ValueError as error:
            raise UserError(f"model.genotype: {error}") from None
    newest = newest_run(cli.config["runs"], "search")
    if newest is None:
        raise UserError(
            f"no search in {Path(cli.config['runs']) / 'search'}: run `python search.py` first, "
            "or name a cell, as in --model.genotype darts_v2"
        )
    return load_genotype(newest)


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
    config = CONFIGS / "train" / f"{data['name']}.yaml"
    if config not in (CONFIGS / "train").glob("*.yaml"):
        config = CONFIGS / "train" / "digits.yaml"
        carried |= stem
    options = [f"--{key}={json.dumps(v)}" for key, v in carried.items() if v is not None]
    return ["--config", str(config), *[o.replace('"', "") for o in options], *argv]


def train_card(
    module: TrainModule, session: Session, test: dict[str, float], noise: NoiseFit | None
) -> dict[str, Any]:
    """The row that a paper would print."""
    data = session.cli.datamodule
    genotype = module.net.genotype
    return {
        "kind": "train",
        "dataset": data.name,
        "genotype": genotype.to_dict(),
        "noise_weight": genotype.meta.get("noise_weight"),
        "test_accuracy": test["test/accuracy"],
        "test_loss": test["test/loss"],
        "noise_accuracy": noise.accuracy if noise else None,
        "noise_protocol": _protocol(noise),
        "noise": noise.to_dict() if noise else None,
        "positive_control": None,
        "parameters": count_parameters(module.net),
        "multiply_adds": count_multiply_adds(module.net, data.image_shape),
        "epochs": session.trainer.current_epoch,
        "train_samples": len(data.train),
        **session.origin(),
    }


def _protocol(noise: NoiseFit | None) -> str | None:
    if noise is None:
        return None
    return (
        f"{noise.protocol}: {noise.samples:,} {noise.family} images, {noise.epochs} epochs, "
        f"best constant answer {100 * noise.chance:.1f} %"
    )


def main(argv: list[str] | None = None) -> None:
    """Trains a cell and leaves the network in ``runs/train/<name>``.

    Args:
        argv: the arguments; those of the process by default.

    Raises:
        SystemExit: 2 after one line about what the user can put right; 130 after a Ctrl-C.
    """
    quiet_lightning()
    try:
        argv = default_config(sys.argv[1:] if argv is None else argv)
    except ValueError as error:
        fail(error)
    cli = TrainCLI(TrainModule, argv)
    module, data = cli.model, cli.datamodule
    assert isinstance(module, TrainModule)
    hparams = module.hparams
    try:
        require_mode(cli.config["wandb"])
        require_noise(cli.config["noise_family"])
        genotype = find_genotype(cli)
        data.setup()
        head = hparams["auxiliary_weight"] > 0
        if head and not auxiliary_fits(
            data.image_shape[1:], hparams["stem"], hparams["stem_stride"]
        ):
            hparams["auxiliary_weight"] = 0.0
            print(f"no auxiliary head: images of {data.image_shape[1:]} pixels are too small")
        module.build(genotype, data.num_classes, data.in_channels)
        monitor = "val/accuracy" if len(data.validation) else None
        session = Session(cli, lambda run: [], monitor=monitor)
    except ValueError as error:
        fail(error)
    run = session.run
    genotype.to_json(run / "genotype.json")
    save_cells(genotype, run / "cells")
    session.fit(module)
    test = session.test(module)
    noise = _check_noise(session, module) if cli.config["noise_check"] else None
    save_figure(draw_curves(run / "metrics.csv", data.num_classes), run / "curves")
    card = train_card(module, session, test, noise)
    session.close(card, {name: run / f"{name}.png" for name in ("cells", "curves")})
    session.console.print(row(card))
    session.console.print(f"card: {run / 'card.md'}")


def _check_noise(session: Session, module: TrainModule) -> NoiseFit:
    """The same cell, recipe and epochs from scratch on as many noise images as there are real."""
    cli, trainer = session.cli, session.trainer
    same = (
        "accelerator",
        "devices",
        "precision",
        "gradient_clip_val",
        "gradient_clip_algorithm",
        "accumulate_grad_batches",
    )
    recipe = {k: v for k, v in module.hparams.items() if k != "genotype"}
    try:
        return noise_fit(
            module.net.genotype,
            cli.datamodule.train,
            family=cli.config["noise_family"],
            epochs=trainer.max_epochs or 1,
            batch_size=cli.datamodule.batch_size,
            seed=cli.config["seed"],
            recipe=recipe,
            trainer={key: cli.config["trainer"][key] for key in same},
            callbacks=[RunProgress("noise", session.console, NOISE_FIGURES)],
        )
    except SystemExit:
        session.interrupted()
