"""Run a training and its noise check from the settings to the card."""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import WandbLogger
from rich.console import Console

from darts_noise.atomic import write_text
from darts_noise.attacks.settings import AttackConfig
from darts_noise.checkpoints.checkpoint_io import LAST
from darts_noise.data.module import ImageDataModule
from darts_noise.distributed.collectives import on_first_process
from darts_noise.errors import SettingError, counted, within
from darts_noise.finite import NotFiniteError
from darts_noise.nets.network import Network
from darts_noise.nets.synchronised import SynchronisedNorms
from darts_noise.noise.datasets import root_of_others
from darts_noise.noise.families import describe_noise, make_noise, require_noise
from darts_noise.pretrained.bundle import save_pretrained, start_from
from darts_noise.pretrained.config import BundleImages
from darts_noise.pretrained.shipped import OF_A_RUN
from darts_noise.report.card import (
    describe_wrong_labels,
    finite,
    percent,
    without_diverged,
    write_card,
)
from darts_noise.report.cells import save_cells
from darts_noise.report.curves import draw_curves
from darts_noise.report.measured import count_multiply_adds, count_parameters
from darts_noise.report.metrics_table import MetricsTable
from darts_noise.report.style import save_figure
from darts_noise.report.tracking import finish, set_axis, use_artifact
from darts_noise.runs.cores import WORTHWHILE, Ahead, spare_processes
from darts_noise.runs.folder import (
    CONFIG,
    UNFINISHED,
    has_ended,
    point_latest,
    read_run_config,
    require_free,
)
from darts_noise.runs.robustness import attack
from darts_noise.runs.run import Interrupted, Run, cell_artifact, stated_settings, with_epochs
from darts_noise.runs.settings import RunConfig, TrainerConfig
from darts_noise.runs.stops import interruptible
from darts_noise.runs.trainer import figures_of, silent_trainer
from darts_noise.space.genotype import Genotype
from darts_noise.space.genotype_text import has_genotype
from darts_noise.space.json_file import read_json
from darts_noise.space.published import list_genotypes, load_genotype
from darts_noise.train.control_networks import CONTROL_NETWORKS, WITH_BATCH_NORM, with_batch_norm
from darts_noise.train.factories import Factory, NetworkLike, loaded, suited_network
from darts_noise.train.module import TrainModule
from darts_noise.train.noise_fit import default_samples, noise_fit, require_samples
from darts_noise.train.noise_record import NoiseFit
from darts_noise.train.noisy_labels import shown_method
from darts_noise.train.progress import quiet_lightning
from darts_noise.train.quick import NoiseCurve
from darts_noise.train.run_file import RunFile
from darts_noise.train.settings import NoiseConfig, NoiseFamily, NoiseGrid, TrainConfig

EPOCHS = 600
"""Default number of passes over the training images, as in DARTS (arXiv:1806.09055)."""
NOISE_FIGURE = "noise/accuracy"
"""A figure of the training on noise. Its epochs are not steps of the run."""
PROGRESS = {"train/loss": "loss", "val/accuracy": "noise acc"}
"""Figures in the progress of the quick check, which is validated on the noise itself."""
FROM_CLEAN_RUN = (
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "precision",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "accumulate_grad_batches",
)
"""Arguments of the Trainer that the quick check takes from the clean run."""
CONTROL = "control"
"""The kind of the run that trains a control. Its folder is inside the folder of the run."""
BATCH_NORM = "batch_norm"
"""The name of that run."""
NOISE_RUNS = "noise_runs.json"
NOISE_EPOCHS = "noise_epochs"
"""Folder of the last epoch of an unfinished quick check."""


@dataclass(frozen=True)
class TrainResult:
    """The result of a training.

    Attributes:
        net: the trained network.
        noise: how well the same cell fits noise, for the first family. None: not measured.
        card: the figures of ``card.json``. Empty in all processes except the first.
        path: the run's folder.
        bundle: the folder of the trained network for `load_pretrained`, or None.
        other_noise: the same measurement for each further family.
    """

    net: Network
    noise: NoiseFit | None
    card: dict[str, Any]
    path: Path
    bundle: Path | None = None
    other_noise: tuple[NoiseFit, ...] = ()


def train(
    genotype: Genotype | str | Path,
    data: ImageDataModule,
    config: TrainConfig | None = None,
    *,
    noise: NoiseConfig | None = None,
    trainer: TrainerConfig | None = None,
    run: RunConfig | None = None,
    console: Console | None = None,
) -> TrainResult:
    """Train a network of a cell on data and on noise, and write ``runs/train/<name>``.

    Args:
        genotype: the cell: a `Genotype`, a published name, a path to a ``.json``, or the folder of
            a search.
        data: the images.
        config: the network and its recipe.
        noise: the measurement of noise fit after the training. Default: with the noise family of
            the search that found the cell. ``NoiseConfig(check=False)``: no measurement.
        trainer: Lightning's Trainer: devices, precision, epochs (default: 600).
        run: the folder, the tracking, and the stopped run to resume.
        console: where to show progress. None: standard output.

    Raises:
        SettingError: an invalid setting. Its key names the setting.
        ValueError: unusable data, or a training that diverged.
        Interrupted: a signal stopped the run. It can be resumed.

    >>> import darts_noise as dn
    >>> dn.train("darts_v2", dn.ImageDataModule("digits"), dn.TrainConfig())  # doctest: +SKIP
    """
    trainer = with_epochs(trainer or TrainerConfig(), EPOCHS)
    more = (config or TrainConfig(), noise or NoiseConfig(), trainer, run or RunConfig(), console)
    return _train("train", genotype, data, *more)


def _train(
    kind: str,
    genotype: Genotype | str | Path,
    data: ImageDataModule,
    config: TrainConfig,
    noise: NoiseConfig,
    trainer: TrainerConfig,
    run: RunConfig,
    console: Console | None,
) -> TrainResult:
    """Do the work of `train`, for a run of this kind."""
    if run.resume is None:
        require_free(run.runs, kind, run.name)
    cell = genotype
    try:
        genotype = genotype if isinstance(genotype, Genotype) else load_genotype(genotype)
    except ValueError as error:
        raise SettingError("model.genotype", error) from None
    families = measured_families(noise, genotype)
    noise = replace(noise, family=families[0] if len(families) == 1 else families)
    if has_genotype(str(cell)):  # a text, which is no name for the card
        cell = genotype
    with quiet_lightning():
        with within("noise_"):
            for family in families:
                require_noise(family)
        data.setup()
        _require_test(trainer, data)
        checks = [
            NoiseCheck(family, noise, data, config, trainer, number)
            for number, family in enumerate(families if noise.check else (), 1)
        ]
        module = _module(
            genotype, data, config if run.resume is None else replace(config, init=None)
        )
        session = Run(
            kind,
            data,
            lambda path: all_settings(path, cell, genotype, config, noise, data, trainer, run),
            trainer,
            run,
            monitor="val/accuracy" if len(data.validation) else None,
            console=console,
        )
        if config.auxiliary_weight and not module.config.auxiliary_weight:
            size = data.image_shape[1:]
            session.console.print(f"no auxiliary head: images of {size} pixels are too small")
        wanted = noise.check and noise.protocol == "quick" and noise.controls is None
        other = with_batch_norm(genotype) if wanted else None
        control = None
        if other is not None:
            alike = replace(
                trainer,
                callbacks=deepcopy(trainer.callbacks),  # before this run changes their state
                logger=None,
                profiler=None,
                default_root_dir=None,
            )
            control = partial(_control, session, other, config, noise, alike, run)
        with session.open(module.config.channels), ExitStack() as processes:
            if trainer.deterministic is None:  # which only this process knows
                for check in checks[: max(0, spare_processes())]:
                    check.begin(session, module, processes)
            return _run(session, module, genotype, cell, checks, control)


@dataclass(frozen=True)
class Trained:
    """A trained network without files.

    Attributes:
        module: the module. Its ``net`` is the network.
        data: the images.
        trainer: the Trainer that trained it.
        figures: figures of the last epoch, or of the last complete epoch if the training diverged.
        epochs: number of epochs.
        diverged: whether the training ended because a loss or a gradient was not finite.
    """

    module: TrainModule
    data: ImageDataModule
    trainer: pl.Trainer
    figures: dict[str, float]
    epochs: int
    diverged: bool

    def test(self) -> dict[str, float]:
        """Return the figures of the network on the test images."""
        with quiet_lightning(), interruptible():
            return dict(self.trainer.test(self.module, datamodule=self.data, verbose=False)[0])


def train_network(
    network: Genotype | Factory, data: ImageDataModule, config: TrainConfig, trainer: TrainerConfig
) -> Trained:
    """Train a network without writing files. For a cell, `train` trains the same network.

    Args:
        network: a cell, or a function (num_classes, in_channels) → module.
        data: the images.
        config: the network and its recipe.
        trainer: Lightning's Trainer.

    Raises:
        ValueError: as for `train`, except for a training that diverged.
        KeyboardInterrupt: a Ctrl-C.
    """
    with quiet_lightning(), interruptible():
        data.setup()
        module = _module(network, data, config)
        fitted, diverged = silent_trainer(with_epochs(trainer, EPOCHS)), False
        try:
            fitted.fit(module, datamodule=data)
        except NotFiniteError:
            diverged = True
    return Trained(module, data, fitted, figures_of(fitted), fitted.current_epoch, diverged)


def _module(network: Genotype | Factory, data: ImageDataModule, config: TrainConfig) -> TrainModule:
    """Return the module of a training, seeded and built for data that are set up."""
    pl.seed_everything(config.seed, workers=True, verbose=False)
    module = TrainModule(config)
    sizes = (data.num_classes, data.in_channels)
    if isinstance(network, Genotype):
        module.leave_out_head(network, data.image_shape)
        module.build(network, *sizes)
        if config.init is not None:
            try:
                start_from(module.net, config.init)
            except ValueError as error:
                raise SettingError("model.init", error) from None
        return module
    return module.use(network(*sizes), *sizes, partial(network, *sizes))


def _require_test(trainer: TrainerConfig, data: ImageDataModule) -> None:
    """Raise the error of a limit that Lightning would refuse only after the training."""
    limit, batches = trainer.limit_test_batches, len(data.test_dataloader())
    if isinstance(limit, float) and 0 < limit * batches < 1:
        raise SettingError(
            "trainer.limit_test_batches",
            f"expected 0, or {1 / batches:.3g} of the {batches} batches or more, got {limit}",
        )


def _run(
    session: Run,
    module: TrainModule,
    genotype: Genotype,
    cell: Genotype | str | Path,
    checks: Sequence["NoiseCheck"],
    control: Callable[[], dict[str, Any]] | None,
) -> TrainResult:
    """Train, test, measure noise fit, train the control, and write all files."""
    run, data = session.path, session.data
    if session.is_first:
        origin = _origin(run, cell)
        point_latest(run)
        artifact = cell_artifact(cell_name(origin), run / "genotype.json")
        use_artifact(session.wandb, *artifact)
        set_axis(session.wandb, "epoch", [NOISE_FIGURE])
        save_cells(genotype, run / "cells")
        session.console.print(f"cell: {origin} | data: {data.name}")
    session.fit(module)
    test = session.test(module)
    noisy = bool(data.config.wrong_labels) or module.selection is not None
    best = session.test_best(module) if noisy else {}
    card: dict[str, Any] = {}
    if session.is_first:
        card = train_card(module, session, origin, test, noise_rows(None, NoiseGrid(), False))
        if noisy:
            card |= noisy_label_rows(module, session, best)
        if module.adversary is not None:
            card |= adversarial_rows(module, session)
        if checks:  # write the result of the training before the checks
            pending = f"not finished; resume it with train.py --resume {run.name}"
            clean = {**card, UNFINISHED: pending}
            _draw_curves(session)
            _bundle(session, module, clean)
            write_card(run, clean)
    # The control comes first: a resumed run has its card, but repeats a noise check that had ended.
    beside = {} if control is None else control()
    measured = [check.measure(session, module) for check in checks]
    if beside:
        found = [beside["noise_accuracy"], *beside["other_noise"]]
        measured = [
            replace(noise, controls={WITH_BATCH_NORM: math.nan if accuracy is None else accuracy})
            for noise, accuracy in zip(measured, found, strict=True)
        ]
    noise, others = next(iter(measured), None), tuple(measured[1:])
    if not session.is_first:
        return TrainResult(module.net, noise, {}, run, other_noise=others)
    unfit = noise is not None and math.isnan(noise.accuracy)
    grid = checks[0].config.grid if checks else NoiseGrid()
    card |= noise_rows(noise, grid, unfit)
    if others:
        card["other_noise"] = [noise_rows(o, grid, math.isnan(o.accuracy)) for o in others]
    if beside:
        card["control"] = beside
    card |= session.origin(module.config.seed)
    if noise is not None and not unfit:
        card["objective"] = objective(session.table.figures.get("val/accuracy"), noise)
    card = without_diverged(card, ["noise_accuracy"] if unfit else [])
    _draw_curves(session)  # now with the curve of the noise
    bundle = _bundle(session, module, card)
    session.close(
        card,
        {name: run / f"{name}.png" for name in ("cells", "curves")},
        (f"model-{run.name}", "model", sorted(bundle.iterdir())),
    )
    return TrainResult(module.net, noise, card, run, bundle, others)


def _control(
    session: Run,
    genotype: Genotype,
    config: TrainConfig,
    noise: NoiseConfig,
    trainer: TrainerConfig,
    run: RunConfig,
) -> dict[str, Any]:
    """Train the control of a run on data and on noise, as the run itself, or resume that.

    Args:
        session: the run. The control gets a folder inside its folder.
        genotype: the cell of the control.
        config: the recipe of the run.
        noise: the noise check of the run.
        trainer: the Trainer settings of the control.
        run: the settings of the run.

    Returns:
        What the card of the run says about the control. Empty if its training failed.

    Raises:
        Interrupted: a signal. It names the run, not the control.
    """
    folder = session.path / CONTROL / BATCH_NORM
    with suppress(OSError):
        folder.rmdir()  # of a start that was killed at once
    ended, started = on_first_process(lambda: (has_ended(folder), (folder / CONFIG).is_file()))
    own = replace(
        run,
        runs=str(session.path),
        name=BATCH_NORM,
        resume=BATCH_NORM if started else None,
        wandb="off",
        plugins=(),
    )
    try:
        if not ended:
            _train(
                CONTROL,
                genotype,
                copy(session.data),
                replace(config, init=None),
                replace(noise, controls=[]),
                trainer,
                own,
                session.console,
            )
    except Interrupted as stop:
        finish(session.wandb)
        raise Interrupted(session.path, stop.status, *stop.hints) from None
    except ValueError as error:
        session.console.print(f"control: left out, because it failed: {error}")
        return {}
    card = on_first_process(lambda: read_json(folder / "card.json"))
    keys = ("test_accuracy", "noise_accuracy", "parameters", "multiply_adds", "genotype")
    others = [rows["noise_accuracy"] for rows in card.get("other_noise", ())]
    return {"network": WITH_BATCH_NORM, **{k: card[k] for k in keys}, "other_noise": others}


def _draw_curves(session: Run) -> None:
    curves = draw_curves(
        session.path / "metrics.csv", session.data.num_classes, chance=session.data.train.chance
    )
    save_figure(curves, session.path / "curves")


def _bundle(session: Run, module: TrainModule, card: dict[str, Any]) -> Path:
    """Write the trained network for `load_pretrained` and return its folder."""
    folder, images = session.path / OF_A_RUN, trained_images(session.data)
    return save_pretrained(module.net, folder, images=images, card=finite(card))


def all_settings(
    path: Path,
    cell: Genotype | str | Path,
    genotype: Genotype,
    config: TrainConfig,
    noise: NoiseConfig,
    data: ImageDataModule,
    trainer: TrainerConfig,
    run: RunConfig,
) -> dict[str, Any]:
    """Return all settings of the run, and write the run's own copy of the cell, which they name.

    A published name stays. Any other path may hold another cell later. The path of the copy is
    absolute, because the config may be read from any folder.
    """
    genotype.to_json(path / "genotype.json")
    published = isinstance(cell, str) and cell.lower() in list_genotypes()
    named = str(cell) if published else str((path / "genotype.json").resolve())
    keys = ("check", "family", "protocol", "samples", "epochs", "controls", "runs")
    more: dict[str, Any] = {f"noise_{key}": getattr(noise, key) for key in keys}
    more["noise_grid"] = vars(noise.grid)
    init = config.init
    if init is not None and Path(init).exists():
        init = str(Path(init).resolve())
    config = replace(config, genotype=named, init=init)
    return stated_settings(config.seed, run, trainer, config, data.config, **more)


def _origin(run: Path, cell: Genotype | str | Path) -> str:
    """Return the origin of the cell at the start of the run, also if the run is resumed."""
    kept = run / "origin.json"
    if not kept.is_file():
        made = f"the same cell {WITH_BATCH_NORM}" if run.parent.name == CONTROL else "a Genotype"
        origin = made if isinstance(cell, Genotype) else str(cell)
        write_text(kept, json.dumps({"cell": origin}) + "\n")
    return str(json.loads(kept.read_text("utf-8"))["cell"])


def cell_name(cell: str) -> str:
    """Return the name of the cell in W&B: its published name, or the run that found it.

    >>> cell_name("darts_v2"), cell_name("runs/search/a"), cell_name("runs/search/a/genotype.json")
    ('darts_v2', 'a', 'a')
    """
    path = Path(cell).resolve()  # `latest` is a link
    return path.parent.name if path.name == "genotype.json" else path.name


def measured_families(noise: NoiseConfig, genotype: Genotype) -> list[NoiseFamily]:
    """Return the noise families to measure. Default: the family of the cell's search.

    >>> measured_families(NoiseConfig(), load_genotype("darts_v2"))
    ['uniform']
    """
    if isinstance(noise.family, list):
        return noise.family
    return [noise.family or genotype.meta.get("noise_family") or "uniform"]


def _log_noise(session: Run, epoch: int, accuracy: float) -> None:
    """Log the accuracy on noise after an epoch of the quick check among the run's figures."""
    for logger in session.trainer.loggers:
        ours = isinstance(logger, MetricsTable | WandbLogger)  # which draw it over `epoch`
        logger.log_metrics({"epoch": epoch, NOISE_FIGURE: accuracy}, None if ours else epoch)
        logger.save()


def train_card(
    module: TrainModule,
    session: Run,
    cell: str,
    test: dict[str, float],
    noise: dict[str, Any],
) -> dict[str, Any]:
    """Return the card of a training: the row that a paper would print.

    Args:
        module: the trained module.
        session: the run.
        cell: the name of the cell, or where it was found.
        test: the test figures. Empty without a test.
        noise: the rows of the noise check.
    """
    data, genotype, config = session.data, module.net.genotype, module.config
    weight = genotype.meta.get("noise_weight")
    return {
        "kind": "train",
        "dataset": data.name,
        "cell": cell,
        "num_classes": data.num_classes,
        "chance": data.train.chance,
        "genotype": genotype.to_dict(),
        "macro": dict(genotype.macro) or None,
        "channels": config.channels,
        "num_cells": config.num_cells,
        "noise_weight": weight,
        "noise_family": genotype.meta.get("noise_family") if weight else None,
        "test_accuracy": test.get("test/accuracy"),
        "test_chance": data.test.chance,
        "test_loss": test.get("test/loss"),
        **noise,
        "parameters": count_parameters(module.net),
        "multiply_adds": count_multiply_adds(module.net, data.image_shape),
        "epochs": session.trainer.current_epoch,
        "train_samples": len(data.train),
        **session.origin(config.seed),
    }


def adversarial_rows(module: TrainModule, session: Run) -> dict[str, Any]:
    """Attack the test images as the training attacked its own, and return the rows of a card.

    Args:
        module: the trained module.
        session: the run.
    """
    c, device = module.config, session.trainer.strategy.root_device
    attacks = AttackConfig(
        c.adversarial_norm, (c.adversarial_eps,), ("pgd",), seed=session.data.config.seed
    )
    found = attack(module.net.to(device), session.data, attacks)
    for warning in found.warnings:
        session.console.print(f"warning: {warning}")
    size = f"{c.adversarial_norm}, eps {c.adversarial_eps:g} with pixels from 0 to 1"
    return {
        "adversarial": f"{size}, {counted(c.adversarial_steps, 'step')}",
        "robust_accuracy": found.accuracy()[-1],
        "robust_attack": f"pgd: {size}, {attacks.steps} steps from each of {attacks.starts} "
        f"random starts, {counted(len(found.strongest), 'test image')}",
        **({"robust_warnings": "; ".join(found.warnings)} if found.warnings else {}),
    }


def noisy_label_rows(
    module: TrainModule, session: Run, best: Mapping[str, float]
) -> dict[str, Any]:
    """Return the rows of a card about wrong labels.

    Args:
        module: the trained module.
        session: the run.
        best: the figures of `Run.test_best`.
    """
    return {
        "wrong_labels": describe_wrong_labels(session.data.config),
        "noisy_labels": shown_method(module.config.noisy_labels),
        "label_precision": session.table.figures.get("train/label_precision"),
        "best_test_accuracy": best.get("test/accuracy"),
        "best_epoch": best.get("epoch"),
    }


def objective(validation_accuracy: float | None, noise: NoiseFit) -> float | None:
    """Return what a sweep minimises: the validation error plus the share of noise memorised.

    That share is 0 at the best constant answer and 1 if the network fits all of the noise. The test
    images are not used.

    Args:
        validation_accuracy: after the last epoch; None without validation images.
        noise: the record; the protocol ``selectivity`` has no objective.

    >>> fit = NoiseFit("quick", "uniform", 0.55, 0.55, 0.1, 1000, 9, 0, "", 1.0)
    >>> objective(0.9, fit)
    0.6
    """
    if validation_accuracy is None or noise.protocol == "selectivity":
        return None
    memorised = max(0.0, noise.accuracy - noise.chance) / (1 - noise.chance)
    return round(1 - validation_accuracy + memorised, 6)


def trained_images(data: ImageDataModule) -> BundleImages:
    """Return a bundle's description of the training images."""
    height, width = data.image_shape[1:]
    return BundleImages(
        data.name,
        (height, width),
        data.normalisation.mean,
        data.normalisation.std,
        data.dataset.train.classes,
        data.config.crop_pct,
    )


def bundle_run(run: Path, folder: Path) -> Path:
    """Write the network of a training run, at the end of its training, as a bundle.

    Args:
        run: the folder of the run. The data must still be in their place.
        folder: folder of the bundle.

    Returns:
        The folder.

    Raises:
        ValueError: the folder is not a training run, or the data are missing. The message names the
            file.
        OSError: the folder cannot be written to.
    """
    card = read_json(run / "card.json")
    try:
        settings = read_run_config(run)
        is_search = "space" in settings.get("model", {})
        data = ImageDataModule(**settings["data"])
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{run / CONFIG}: not the config of a training") from None
    if is_search:
        raise ValueError(
            f"{run}: expected a training, got a search; train its cell first, with "
            f"train.py --model.genotype {run.name}"
        )
    data.setup()
    module = TrainModule.load_from_checkpoint(run / "checkpoints" / LAST)
    return save_pretrained(module.net, folder, images=trained_images(data), card=card)


class NoiseCheck:
    """The measurement of noise fit that follows a training.

    It is made before the training, so that its errors appear before the long work.

    Args:
        family: one noise set.
        config: the measurement.
        data: the images of the training, set up.
        recipe: settings of the training.
        trainer: Trainer settings of the training.
        number: number of this check among the checks of the run, from 1.

    Raises:
        SettingError: an invalid setting.
    """

    def __init__(
        self,
        family: NoiseFamily,
        config: NoiseConfig,
        data: ImageDataModule,
        recipe: TrainConfig,
        trainer: TrainerConfig,
        number: int = 1,
    ) -> None:
        self.family, self.config, self.data, self.number = family, config, data, number
        beside = "" if number == 1 else f"_{number}"
        self.files = {
            "runs": NOISE_RUNS.replace(".", f"{beside}."),
            "epochs": f"{NOISE_EPOCHS}{beside}",
        }
        self.root = root_of_others(data.name, data.config.root)
        self.trainer = {key: getattr(trainer, key) for key in FROM_CLEAN_RUN}
        self.lengths = _shortened(trainer)
        if trainer.sync_batchnorm:
            self.trainer["plugins"] = [SynchronisedNorms()]
        self.epochs = config.epochs
        if config.protocol == "quick":
            self.trainer |= self.lengths
            if self.epochs is None:
                self.epochs = 1 if trainer.fast_dev_run else trainer.max_epochs
        self.ahead: Ahead | None = None
        with within("noise_"):
            self.controls = self._controls(recipe)
            self.samples = self._samples(recipe.seed)
            if config.runs is not None:
                self._require_runs(Path(config.runs))

    def begin(self, session: Run, module: TrainModule, processes: ExitStack) -> None:
        """Begin a long quick check on a CPU in a process of its own; see `Ahead`.

        Args:
            session: the run.
            module: the module, for its cell and its recipe.
            processes: ends the process.
        """
        steps = (self.epochs or 0) * math.ceil(self.samples / self.data.config.batch_size)
        long = self.config.protocol == "quick" and steps >= WORTHWHILE and not self.lengths
        on_cpu = session.trainer.strategy.root_device.type == "cpu"
        by_name = type(self.data) is ImageDataModule  # the settings say all of it
        if not (long and on_cpu and by_name and session.trainer.world_size == 1):
            return
        shown = session.settings.enable_progress_bar is not False
        with suppress(TypeError, OSError):  # an object among the arguments; no further process
            self.ahead = processes.enter_context(
                Ahead(
                    module.net.genotype,
                    self.data.config,
                    console=session.console,
                    progress=(self._title(session), PROGRESS) if shown else None,
                    path=str(session.path / self.files["epochs"]),
                    **self._arguments(module),
                )
            )

    def measure(self, session: Run, module: TrainModule) -> NoiseFit:
        """Train the cell of a trained module on noise, from scratch.

        Args:
            session: the run.
            module: the module, for its cell and its recipe.

        Raises:
            Interrupted: a signal.
        """
        runs, config = session.path / self.files["runs"], self.config
        own: dict[str, Any]
        if config.protocol == "quick":
            callbacks: list[pl.Callback] = [*session.progress(self._title(session), PROGRESS)]
            if self.number == 1:  # the row and the curve of a run are of its first family
                callbacks.append(NoiseCurve(partial(_log_noise, session)))
            own = {"callbacks": callbacks, "path": session.path / self.files["epochs"]}
        else:
            # If these files exist, the measurement continues from them.
            if config.runs is not None and session.is_first and not runs.exists():
                shutil.copyfile(config.runs, runs)
            own = {"grid": config.grid, "path": runs, "progress": session.console}
            own |= {} if self.controls is None else {"controls": self.controls}
        if config.protocol != "quick" and self.lengths:
            session.console.print(
                f"noise: {config.protocol} does not follow {', '.join(self.lengths)}; "
                "--noise_samples, --noise_epochs and --noise_grid.enough make it shorter"
            )
        try:
            if self.ahead is not None:
                self.ahead.wait()
            return noise_fit(
                module.net.genotype,
                self.data.train,
                normalisation=self.data.normalisation,
                **self._arguments(module),
                **own,
            )
        except (ValueError, RuntimeError, MisconfigurationException) as error:
            problem = " ".join(str(error).split())
            if isinstance(error, SettingError) and error.key == "path":
                problem = error.problem  # the message names the file of an earlier start
            raise ValueError(
                f"noise check: {problem}; the card and the bundle of the training are written, "
                f"and train.py --resume {session.path.name} repeats the check"
            ) from error
        except (KeyboardInterrupt, SystemExit):  # Lightning turns a Ctrl-C into SystemExit
            hint = f"noise so far, also for another run: --noise_runs {runs}"
            session.interrupted(*([hint] if runs.exists() else []))

    def _arguments(self, module: TrainModule) -> dict[str, Any]:
        """Return the arguments of `noise_fit`, except the network, the images and the progress."""
        return {
            "protocol": self.config.protocol,
            "family": self.family,
            "samples": self.samples,
            "root": str(self.root),
            "epochs": self.epochs,
            "batch_size": self.data.config.batch_size,
            "seed": module.config.seed,
            "recipe": replace(module.config, genotype=None, init=None),
            "trainer": self.trainer,
        }

    def _title(self, session: Run) -> str:
        title = f"{describe_noise(self.family)} noise"
        return f"{CONTROL}, {title}" if session.kind == CONTROL else title

    def _samples(self, seed: int) -> int:
        config, images = self.config, self.data.train
        if config.samples is None:
            return default_samples(config.protocol, self.family, images, self.root)
        require_samples(config.protocol, config.samples, images)
        make_noise(self.family, config.samples, images, seed, self.root)
        return config.samples

    def _controls(self, recipe: TrainConfig) -> dict[str, NetworkLike] | None:
        """Return the networks with these names, for images of this data."""
        if self.config.controls is None:
            return None
        controls: dict[str, NetworkLike] = {}
        for name in self.config.controls:
            try:
                network = CONTROL_NETWORKS.get(name) or loaded(name)
                suited_network(name, network, self.data.num_classes, self.data.image_shape, recipe)
                controls[name] = network
            except ValueError as error:
                valid = ", ".join(CONTROL_NETWORKS)
                problem = f"expected {valid} or a cell: {error}"
                raise SettingError("controls", problem) from None
        return controls

    @staticmethod
    def _require_runs(path: Path) -> None:
        if not path.is_file():
            raise SettingError("runs", f"expected the {NOISE_RUNS} of a run, got {str(path)!r}")
        try:
            RunFile(path, {})
        except SettingError as error:
            raise SettingError("runs", error.problem) from None


def _shortened(trainer: TrainerConfig) -> dict[str, Any]:
    """Return the stated arguments of the Trainer that shorten a training.

    >>> _shortened(TrainerConfig(limit_train_batches=5, max_time="00:01:00:00"))
    {'limit_train_batches': 5, 'max_time': '00:01:00:00'}
    >>> _shortened(TrainerConfig(fast_dev_run=True))
    {'limit_train_batches': 1}
    """
    found = {
        # The check reads the whole noise set, so these two limit only the training.
        "limit_train_batches": int(trainer.fast_dev_run)
        or trainer.overfit_batches
        or trainer.limit_train_batches,
        "max_time": trainer.max_time,
    }
    if trainer.max_steps >= 0:
        found["max_steps"] = trainer.max_steps
    return {key: value for key, value in found.items() if value is not None}


def noise_rows(noise: NoiseFit | None, grid: NoiseGrid, diverged: bool) -> dict[str, Any]:
    """Return the noise rows of a card.

    Args:
        noise: the record. None: not measured.
        grid: its trainings. The protocol ``quick`` has none.
        diverged: whether the measurement diverged. Its accuracies then mean nothing.
    """
    if noise is None:
        return dict.fromkeys(("noise_accuracy", "noise_protocol", "noise", "positive_control"))
    record = noise.to_dict()
    if diverged:
        record |= {"accuracy": None, "accuracy_largest": None}
    rows = {
        # With selectivity a run ends when half of the noise is fitted.
        "noise_accuracy": None if noise.protocol == "selectivity" else record["accuracy"],
        "noise_protocol": _describe(noise),
        "noise": record,
        "positive_control": _describe_controls(noise),
    }
    if noise.real_samples is not None:
        rows["noise_real"] = _describe_real(noise)
    if noise.runs:
        rows["noise_grid"] = str(grid)
        rows["noise_diverged"] = f"{len(noise.diverged)} of {len(noise.runs)}"
    if noise.protocol == "selectivity":
        unlearnt = "not measured: no training reached half of the real images"
        rows["selectivity"] = noise.shown_selectivity or unlearnt
    return rows


def _describe(noise: NoiseFit) -> str:
    at_most = "" if noise.protocol == "quick" else "at most "
    epochs = len(noise.curve) or noise.epochs  # a limit on steps or time makes fewer
    return (
        f"{noise.protocol}: {counted(noise.samples, f'{noise.family} image')}, "
        f"{at_most}{counted(epochs, 'epoch')}, "
        f"best constant answer {100 * noise.chance:.1f} %"
    )


def _describe_real(noise: NoiseFit) -> str:
    """Return a text about the same trainings on real images.

    >>> _describe_real(NoiseFit("converged", "uniform", 0.2, 0.2, 0.1, 1000, 9, 0, "", 1.0,
    ...                         real_accuracy=0.954, real_samples=1000))
    '1,000 real images fitted to 95.40 %'
    """
    accuracy = "diverged" if noise.real_accuracy is None else percent(noise.real_accuracy)
    weak = "" if noise.real_reached else " (too little: the noise accuracy proves nothing)"
    return f"{noise.real_samples:,} real images fitted to {accuracy}{weak}"


def _describe_controls(noise: NoiseFit) -> str | None:
    if not noise.controls:
        return None
    shown = [
        f"{name} {'diverged' if math.isnan(accuracy) else percent(accuracy)}"
        for name, accuracy in noise.controls.items()
    ]
    weak = "" if noise.control_reached else " (too little: the measurement was too weak)"
    return ", ".join(shown) + weak
