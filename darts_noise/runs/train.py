"""Run a training, its noise check and its control from the settings to the card."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from darts_noise.atomic import write_text
from darts_noise.attacks.settings import AttackConfig
from darts_noise.checkpoints.checkpoint_io import LAST
from darts_noise.configured import fields_of, require_kinds
from darts_noise.data.module import ImageDataModule
from darts_noise.distributed.collectives import on_first_process
from darts_noise.errors import SettingError, about, counted, within
from darts_noise.finite import NotFiniteError
from darts_noise.nets.network import Network
from darts_noise.noise.families import require_noise
from darts_noise.pretrained.bundle import save_pretrained, start_from
from darts_noise.pretrained.config import BundleImages
from darts_noise.pretrained.shipped import OF_A_RUN
from darts_noise.report.card import (
    describe_wrong_labels,
    finite,
    without_diverged,
    write_card,
)
from darts_noise.report.cells import save_cells
from darts_noise.report.curves import draw_curves
from darts_noise.report.measured import count_multiply_adds, count_parameters
from darts_noise.report.style import save_figure
from darts_noise.report.tracking import finish, set_axis, use_artifact
from darts_noise.runs.cores import spare_processes
from darts_noise.runs.folder import (
    CONFIG,
    UNFINISHED,
    has_ended,
    point_latest,
    read_run_config,
    require_free,
)
from darts_noise.runs.noise_check import (
    NOISE_FIGURE,
    NoiseCheck,
    noise_rows,
    objective,
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
from darts_noise.train.control_networks import WITH_BATCH_NORM, with_batch_norm
from darts_noise.train.factories import Factory
from darts_noise.train.module import TrainModule
from darts_noise.train.noise_record import NoiseFit
from darts_noise.train.noisy_labels import shown_method
from darts_noise.train.progress import quiet_lightning
from darts_noise.train.settings import NoiseConfig, TrainConfig

EPOCHS = 600
"""Default number of passes over the training images, as in DARTS (arXiv:1806.09055)."""
CONTROL = "control"
"""The kind of the run that trains a control. Its folder is inside the folder of the run."""
BATCH_NORM = "batch_norm"
"""The name of that run."""


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
    require_classes(data, config, noise, trainer, run)
    trainer = with_epochs(trainer or TrainerConfig(), EPOCHS)
    more = (config or TrainConfig(), noise or NoiseConfig(), trainer, run or RunConfig(), console)
    return _train("train", genotype, data, *more)


def require_classes(
    data: object, config: object, noise: object, trainer: object, run: object
) -> None:
    """Raise a `SettingError` for the first argument of a training that has the wrong class."""
    require_kinds(
        data=(data, ImageDataModule),
        config=(config, TrainConfig),
        noise=(noise, NoiseConfig),
        trainer=(trainer, TrainerConfig),
        run=(run, RunConfig),
    )


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
    with about("model.genotype"):
        genotype = load_genotype(genotype)
    families = noise.families(genotype.meta)
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
            with about("model.init"):
                start_from(module.net, config.init)
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
    checks: Sequence[NoiseCheck],
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
        card = train_card(module, session, origin, test)
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
    grid = checks[0].config.grid if checks else None
    card |= noise_rows(noise, grid)
    if others:
        card["other_noise"] = [noise_rows(other, grid) for other in others]
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
        finish(session.wandb, stop.status)
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
    init = config.init
    if init is not None and Path(init).exists():
        init = str(Path(init).resolve())
    config = replace(config, genotype=named, init=init)
    of_noise = {f"noise_{key}": value for key, value in fields_of(noise).items()}
    return stated_settings(config.seed, run, trainer, config, data.config, **of_noise)


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


def train_card(
    module: TrainModule, session: Run, cell: str, test: dict[str, float]
) -> dict[str, Any]:
    """Return the card of a training before its noise check: the row that a paper would print.

    Args:
        module: the trained module.
        session: the run.
        cell: the name of the cell, or where it was found.
        test: the test figures. Empty without a test.
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
        **noise_rows(None),
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
