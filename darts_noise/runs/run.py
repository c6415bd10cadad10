"""A run: its folder, Trainer, checkpoints and loggers, from the start to the card."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import is_dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import WandbLogger
from rich.console import Console

from darts_noise.checkpoints.checkpoint_io import BEST, LAST, SealedCheckpointIO, resumable
from darts_noise.checkpoints.kept import keep_checkpoints
from darts_noise.checkpoints.run_state import RunState
from darts_noise.configured import fields_of
from darts_noise.data.module import ImageDataModule
from darts_noise.distributed.collectives import on_first_process
from darts_noise.distributed.launch import start_processes
from darts_noise.errors import SettingError
from darts_noise.report.card import finite, shown_figures, write_card
from darts_noise.report.measured import describe_hardware, versions
from darts_noise.report.metrics_table import MetricsTable
from darts_noise.report.tracking import (
    Table,
    finish,
    log_artifact,
    log_images,
    log_summary,
    log_tables,
    start_tracking,
)
from darts_noise.runs.cores import threads_for
from darts_noise.runs.folder import (
    CONFIG,
    RunLock,
    create_run,
    find_run,
    lacking_plugins,
    note_plugins,
    remove_run,
    write_config,
)
from darts_noise.runs.settings import RunConfig, TrainerConfig
from darts_noise.runs.stops import Stops
from darts_noise.runs.trainer import make_trainer
from darts_noise.train.progress import FIGURES, RunProgress

IN_CONFIG = ("seed", "channels", "num_cells", "space", "hypergradient", "noise_samples")
"""Settings on a card. W&B has them in the config of the run, and not in its summary as well."""


class Interrupted(KeyboardInterrupt):
    """The stop of a run by a signal. The run can be resumed.

    Attributes:
        run: the run's folder, or None where nothing was written.
        status: the exit status for this signal, as in a shell: 130 or 143.
        hints: further lines for the user.
    """

    def __init__(self, run: Path | None, status: int, *hints: str) -> None:
        super().__init__(f"interrupted; the results so far are in {run}")
        self.run, self.status, self.hints = run, status, hints


class Run:
    """A run with its folder and Trainer, which is closed however it ends.

    With several processes, only the first one writes files and prints.

    Attributes:
        path: the run's folder.
        is_first: whether this is the first process.
        trainer: Lightning's Trainer with the loggers, checkpoints and progress of this project.
        console: the console for all output to the user.
        has_results: whether the folder holds results from before the first step. Default: False.

    Args:
        kind: ``search``, ``train`` or ``control``.
        data: the images, set up.
        settings: a function of the run's folder that returns all settings by key, for
            ``config.yaml`` and W&B.
        trainer: arguments of the Trainer.
        config: the folder and the tracking of the run.
        callbacks: a function of the run's folder that returns further callbacks of the Trainer.
        monitor: the figure that decides ``best.ckpt``. None: keep only ``last.ckpt``.
        console: the console for output to the user. None: standard output.

    Raises:
        SettingError: unsuitable devices or batches, or a run that cannot be started or resumed.
    """

    def __init__(
        self,
        kind: str,
        data: ImageDataModule,
        settings: Callable[[Path], Mapping[str, Any]],
        trainer: TrainerConfig,
        config: RunConfig,
        callbacks: Callable[[Path], Sequence[pl.Callback]] = lambda run: [],
        monitor: str | None = None,
        console: Console | None = None,
    ) -> None:
        self.kind, self.data, self.config, self.settings = kind, data, config, trainer
        trusted = (config.trust or "").split(",")
        first = make_trainer(trainer, trusted)
        # Open the streams once, to refuse batches that do not suit the data or the processes.
        data.trainer = first
        data.train_stream()
        start_processes(first)
        self.is_first = first.is_global_zero
        self.console = console or Console(soft_wrap=True, highlight=False, markup=False)
        if not self.is_first:
            self.console = Console(quiet=True)
        self.resumes, self.has_results = config.resume is not None, False
        self.path = on_first_process(self._folder)
        folder = self.path / "checkpoints"
        self.table = MetricsTable(self.path / "metrics.csv")
        self.state = RunState(self.table)
        self.stops = Stops(folder / LAST)
        self.lock = RunLock(self.path)
        try:
            self.trainer = make_trainer(
                # In the run's folder, as everything else that Lightning's callbacks write.
                replace(trainer, default_root_dir=trainer.default_root_dir or self.path),
                trusted,
                folder=self.path,
                plugins=[SealedCheckpointIO(folder)],
                callbacks=[
                    *self.progress(kind),
                    self.state,
                    self.stops,
                    *callbacks(self.path),
                    *keep_checkpoints(folder, monitor),
                ],
            )
            self.checkpoint, notice = on_first_process(self._checkpoint)
        except ValueError:
            self.lock.release()
            self._remove()
            raise
        self.wandb: WandbLogger | None = None
        if self.is_first:
            stated = dict(settings(self.path))
            if not self.resumes:
                folder.mkdir()
                write_config(self.path, stated)
                note_plugins(self.path, config.plugins)
                self.lock.take()
            self.wandb, message = start_tracking(
                self.path,
                kind=kind,
                mode=config.wandb,
                project=config.wandb_project,
                config=stated,
            )
            self.console.print(f"{kind}: {self.path}\n{message}")
            for logger in self.trainer.loggers:  # those that the user has named
                logger.log_hyperparams(stated)
        lacking = lacking_plugins(self.path, config.plugins)
        for line in (notice, lacking):
            if line is not None:
                self.console.print(line)
        ours = [self.table] if self.wandb is None else [self.table, self.wandb]
        self.trainer.loggers = [*self.trainer.loggers, *ours]

    def progress(self, title: str, figures: Mapping[str, str] = FIGURES) -> list[RunProgress]:
        """Return the callback that shows progress, or none without ``enable_progress_bar``.

        Args:
            title: first word of the line.
            figures: metric → heading.
        """
        if self.settings.enable_progress_bar is False:
            return []
        return [RunProgress(title, self.console, figures)]

    def _folder(self) -> Path:
        config = self.config
        if config.resume is not None:
            return find_run(config.runs, self.kind, config.resume)
        return create_run(config.runs, self.kind, config.name, self.data.name)

    def _checkpoint(self) -> tuple[Path | None, str | None]:
        """Return the checkpoint to resume from and a message about it, and lock the run."""
        if self.config.resume is None:
            return None, None
        self.lock.take()
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        return resumable(folder)

    @contextmanager
    def open(self, channels: int) -> Iterator[None]:
        """Inside the context, signals stop the run as `Interrupted`. At the end, the run is closed.

        Lightning turns a Ctrl-C during a training into a `SystemExit`.

        A small network runs on one thread; see `threads_for`.

        An error that the user can solve, such as a full disk, gets a note with the run's folder. If
        a setting is refused before the first step, there are no results, and the folder is removed.

        Args:
            channels: channels of the first cell.
        """
        height, width = self.data.image_shape[1:]
        try:
            with self.stops, threads_for(self.data.config.batch_size * channels * height * width):
                yield
        except Interrupted:
            raise
        except (KeyboardInterrupt, SystemExit):
            self.interrupted()
        except (OSError, ValueError) as error:
            finish(self.wandb, status=1)
            begun = self.has_results or self.trainer.global_step > 0
            if isinstance(error, SettingError) and not begun:
                self._remove()
            else:
                error.add_note(f"the results so far are in {self.path}")
            raise
        finally:
            self.lock.release()

    def _remove(self) -> None:
        if self.is_first and not self.resumes:
            remove_run(self.path)

    def fit(self, module: pl.LightningModule) -> None:
        """Train, or resume the training.

        Raises:
            SettingError: a setting that the Trainer does not accept for these data.
        """
        try:
            self.trainer.fit(
                module, datamodule=self.data, ckpt_path=self.checkpoint, weights_only=True
            )
        except (MisconfigurationException, RuntimeError, ValueError) as error:
            refused = _refused_by_lightning(error)
            if refused is not None:
                raise refused from None
            title, *details = str(error).splitlines() or [""]
            if not title.startswith("Error(s) in loading state_dict"):
                raise
            raise ValueError(
                f"{self.path / CONFIG}: expected the settings of {self.checkpoint}; "
                f"{' '.join(details[0].split())}"
            ) from None
        self.state.end(self.trainer, module)

    def test(self, module: pl.LightningModule) -> dict[str, float]:
        """Return the figures of the module's weights on the test images.

        They are empty if ``trainer.limit_test_batches`` leaves no batch.
        """
        figures = self.trainer.test(module, datamodule=self.data, verbose=False)
        return dict(figures[0]) if figures else {}

    def test_best(self, module: pl.LightningModule) -> dict[str, float]:
        """Return the figures of `test` with the weights of the epoch with the best validation.

        ``epoch`` is its number, from 1. The figures are not logged, and the module keeps its
        weights. They are empty if there is no ``best.ckpt``.
        """
        best = on_first_process(self._best)
        if best is None:
            return {}
        weights, loggers = deepcopy(module.state_dict()), self.trainer.loggers
        module.load_state_dict(best["state_dict"])
        self.trainer.loggers = []
        figures = self.test(module)
        self.trainer.loggers = loggers
        module.load_state_dict(weights)
        return {**figures, "epoch": best["epoch"] + 1}

    def _best(self) -> dict[str, Any] | None:
        """Return weights and epoch of ``best.ckpt``, which only the first process may see."""
        file = self.path / "checkpoints" / BEST
        if not file.is_file():
            return None
        held = SealedCheckpointIO(file.parent).load_checkpoint(file, weights_only=True)
        return {key: held[key] for key in ("state_dict", "epoch")}

    def interrupted(self, *hints: str) -> NoReturn:
        """End the run after a signal; see `Interrupted`."""
        finish(self.wandb, self.stops.status)
        raise Interrupted(self.path, self.stops.status if self.is_first else 0, *hints) from None

    def origin(self, seed: int) -> dict[str, Any]:
        """Return the part of a card with the seed, time, hardware and versions."""
        return {
            "seed": seed,
            "wall_time_s": round(self.state.seconds, 1),
            "hardware": describe_hardware(self.trainer.strategy.root_device),
            "precision": str(self.trainer.precision),
            "versions": versions(),
        }

    def close(
        self,
        card: dict[str, Any],
        images: dict[str, Path],
        artifact: tuple[str, str, list[Path]],
        tables: Mapping[str, Table] | None = None,
    ) -> None:
        """Write the card, upload everything to W&B and end the W&B run.

        Args:
            card: the result card.
            images: name → PNG file.
            artifact: name, type and files of the W&B artifact.
            tables: name → column names and rows. The card becomes another table.
        """
        write_card(self.path, card)
        log_images(self.wandb, images)
        shown = list(shown_figures(finite(card)).items())
        log_tables(self.wandb, {**(tables or {}), "card": (("figure", "value"), shown)})
        figures = {
            key: value
            for key, value in card.items()
            if isinstance(value, int | float | str) and key not in IN_CONFIG
        }
        log_summary(self.wandb, figures)
        log_artifact(self.wandb, *artifact)
        finish(self.wandb)


def _refused_by_lightning(error: Exception) -> SettingError | None:
    """Return the error of an option that Lightning itself cannot follow; None for other errors."""
    [*_, (frame, _)] = traceback.walk_tb(error.__traceback__)
    module: str = frame.f_globals.get("__name__", "")
    text = " ".join(str(error).split())
    if module.startswith(pl.callbacks.__name__):  # such as a monitor that is never logged
        return SettingError("trainer.callbacks", text)
    if isinstance(error, MisconfigurationException) or (
        isinstance(error, ValueError) and module.startswith(pl.__name__)
    ):
        return SettingError("trainer", text)
    return None


def stated_settings(
    seed: int, run: RunConfig, trainer: TrainerConfig, model: Any, data: Any, **more: Any
) -> dict[str, Any]:
    """Return all settings of a run by key, as in its ``config.yaml``.

    Args:
        seed: seed of the run.
        run: its settings, except those that only the command line may state.
        trainer: its settings. Objects are named by their class.
        model: a `SearchConfig` or a `TrainConfig`.
        data: a `DataConfig`.
        more: further keys.
    """
    own = {k: v for k, v in fields_of(run).items() if k not in ("resume", "trust", "plugins")}
    groups = {"trainer": trainer, "model": model, "data": data}
    stated = {"seed": seed, **own, **more, **{k: fields_of(c) for k, c in groups.items()}}
    values: dict[str, Any] = plain(stated)
    return values


def plain(value: Any) -> Any:
    """Return a value as plain YAML or JSON. Settings become mappings of their fields."""
    if is_dataclass(value) and not isinstance(value, type):
        value = fields_of(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, timedelta):  # as the Trainer reads it
        minutes, seconds = divmod(value.seconds, 60)
        return f"{value.days:02}:{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
    return f"{type(value).__module__}.{type(value).__qualname__}"


def with_epochs(trainer: TrainerConfig, default: int) -> TrainerConfig:
    """Return the Trainer's arguments, with `default` epochs if they state none."""
    return trainer if trainer.max_epochs is not None else replace(trainer, max_epochs=default)


def cell_artifact(name: str, genotype: Path) -> tuple[str, str, list[Path]]:
    """Return name, type and file of the W&B artifact that a search makes and a training uses."""
    return f"cell-{name}", "cell", [genotype]
