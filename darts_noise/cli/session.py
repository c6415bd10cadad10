"""What both scripts do around their work: the run's directory, loggers, the Trainer, the ending."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any, NoReturn

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException
from rich.console import Console

from darts_noise.checkpoints.checkpoint_io import LAST, SealedCheckpointIO, resumable
from darts_noise.checkpoints.kept import keep_checkpoints
from darts_noise.checkpoints.run_state import RunState
from darts_noise.cli.parser import ScriptCLI
from darts_noise.cli.plugins import plugin_options
from darts_noise.cli.program import called
from darts_noise.cli.run_directory import CONFIG, create_run, write_config
from darts_noise.cli.run_lock import RunLock
from darts_noise.cli.stops import Stops
from darts_noise.distributed.collectives import on_first_process
from darts_noise.distributed.launch import start_processes
from darts_noise.report.card import (
    describe_hardware,
    finite,
    shown_figures,
    versions,
    write_card,
)
from darts_noise.report.metrics import MetricsTable
from darts_noise.report.tracking import (
    Table,
    finish,
    log_artifact,
    log_images,
    log_summary,
    log_tables,
    start_tracking,
)
from darts_noise.train.progress import FIGURES, RunProgress


def quiet_lightning() -> None:
    """Leaves to Lightning what a user must know, and its notices about devices and workers out."""
    for name in ("pytorch_lightning", "lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*LeafSpec.*",
        ".*AMP with fp16 is not supported on CPU.*",  # refused by us, in one line
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*Experiment logs directory .* exists and is not empty.*",
        ".*lr_scheduler.step.*before.*optimizer.step.*",
        "It is recommended to use .*sync_dist=True.*",  # all processes log the same figures
        "Total length of .* across ranks is zero.*",  # no validation images, as a config may say
    ):
        warnings.filterwarnings("ignore", message=message)


class Session:
    """One run of a script: makes its directory and Trainer, and closes it however it ends.

    Of several processes the first alone writes and speaks.

    Attributes:
        run: the run's directory.
        is_first: whether this is the first process.
        trainer: Lightning's Trainer with the loggers, checkpoints and progress of this project.
        console: where everything that a person reads is printed.

    Args:
        cli: the parsed command line.
        callbacks: made from the run's directory, added to the Trainer.
        monitor: the figure by which ``best.ckpt`` is kept; None keeps the last only.
        resumed: the folder of the run that goes on; None begins a new one.
    """

    def __init__(
        self,
        cli: ScriptCLI,
        callbacks: Callable[[Path], Sequence[pl.Callback]],
        monitor: str | None,
        resumed: Path | None = None,
    ) -> None:
        config = cli.config
        self.cli = cli
        first = cli.make_trainer()
        # Opens the streams once, so that batches that do not suit the data or the processes are
        # refused here.
        cli.datamodule.trainer = first
        cli.datamodule.train_stream()
        start_processes(first)
        self.is_first = first.is_global_zero
        self.console = Console(
            soft_wrap=True, highlight=False, markup=False, quiet=not self.is_first
        )
        self.run = on_first_process(
            lambda: (
                resumed or create_run(config["runs"], cli.kind, config["name"], cli.datamodule.name)
            )
        )
        folder = self.run / "checkpoints"
        self.table = MetricsTable(self.run / "metrics.csv")
        self.state = RunState(self.table)
        self.stops = Stops(folder / LAST)
        self.lock = RunLock(self.run / CONFIG)
        try:
            self.trainer = cli.make_trainer(
                plugins=[SealedCheckpointIO(folder)],
                callbacks=[
                    *self.progress(cli.kind),
                    self.state,
                    self.stops,
                    *callbacks(self.run),
                    *keep_checkpoints(folder, monitor),
                ],
            )
            self.checkpoint, notice = on_first_process(lambda: self._checkpoint(resumed))
        except ValueError:
            self.lock.release()
            if self.is_first and resumed is None:
                self.run.rmdir()
            raise
        self.wandb: WandbLogger | None = None
        if self.is_first:
            resolved = cli.resolved_config(self.run)
            if resumed is None:
                folder.mkdir()
                write_config(self.run, resolved)
                self.lock.take()
            self.wandb, message = start_tracking(
                self.run,
                kind=cli.kind,
                mode=config["wandb"],
                project=config["wandb_project"],
                config=resolved,
            )
            self.console.print(f"{cli.kind}: {self.run}\n{message}")
        if notice is not None:
            self.console.print(notice)
        ours = [self.table] if self.wandb is None else [self.table, self.wandb]
        self.trainer.loggers = [*self.trainer.loggers, *ours]

    def progress(self, title: str, figures: Mapping[str, str] = FIGURES) -> list[RunProgress]:
        """What shows how far a training is; nothing where ``trainer.enable_progress_bar`` is false.

        Args:
            title: what the line begins with.
            figures: metric → heading.
        """
        if self.cli.config["trainer"]["enable_progress_bar"] is False:
            return []
        return [RunProgress(title, self.console, figures)]

    def _checkpoint(self, resumed: Path | None) -> tuple[Path | None, str | None]:
        """The one to go on from, and what is to be said about it; nobody else may go on."""
        if resumed is None:
            return None, None
        self.lock.take()
        folder = resumed / "checkpoints"
        folder.mkdir(exist_ok=True)
        return resumable(folder)

    @contextmanager
    def one_line_errors(self) -> Iterator[None]:
        """Ends the program in one line on an error that the user can put right, such as a full
        disk, and answers the signals that stop it; what has been written stays."""
        try:
            with self.stops:
                yield
        except (OSError, ValueError) as error:
            finish(self.wandb)
            self.cli.fail(error, f"; what was found so far is in {self.run}")
        finally:
            self.lock.release()

    def fit(self, module: pl.LightningModule) -> None:
        """Trains, or goes on to; a signal ends the program after what was found is on disk."""
        data = self.cli.datamodule
        try:
            self.trainer.fit(module, datamodule=data, ckpt_path=self.checkpoint, weights_only=True)
        except (SIGTERMException, SystemExit):  # the second is how Lightning answers a Ctrl-C
            self.interrupted()
        except RuntimeError as error:
            title, *details = str(error).splitlines()
            if not title.startswith("Error(s) in loading state_dict"):
                raise
            raise ValueError(
                f"{self.run / CONFIG}: expected the settings that {self.checkpoint} was made with; "
                f"{' '.join(details[0].split())}"
            ) from None
        if not self.state.ended:
            callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
            for callback in callbacks:
                callback.on_train_end(self.trainer, module)

    def test(self, module: pl.LightningModule) -> dict[str, float]:
        """The test figures of the module's present weights; a Ctrl-C ends as in `fit`.

        Empty where ``trainer.limit_test_batches`` leaves no batch.
        """
        try:
            figures = self.trainer.test(module, datamodule=self.cli.datamodule, verbose=False)
        except SystemExit:
            self.interrupted()
        return dict(figures[0]) if figures else {}

    def interrupted(self) -> NoReturn:
        """Says where things are and how to go on, and ends the program."""
        finish(self.wandb)
        self.console.print(f"interrupted; what was found so far is in {self.run}")
        how = f"--resume {quote(str(self.run))}{plugin_options()}"
        self.console.print(f"to go on: {called(self.cli.kind)} {how}")
        raise SystemExit(self.stops.status if self.is_first else 0)

    def origin(self) -> dict[str, Any]:
        """The part of a card that says where and when it was made."""
        return {
            "seed": self.cli.config["seed"],
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
        """Writes the card, gives everything to W&B and ends its run.

        Args:
            card: the result card.
            images: name → PNG file.
            artifact: name, type and files of what the run has made.
            tables: name → the names of the columns, and rows; the card is one more.
        """
        write_card(self.run, card)
        log_images(self.wandb, images)
        shown = list(shown_figures(finite(card)).items())
        log_tables(self.wandb, {**(tables or {}), "card": (("figure", "value"), shown)})
        figures = {key: v for key, v in card.items() if isinstance(v, int | float | str)}
        log_summary(self.wandb, figures)
        log_artifact(self.wandb, *artifact)
        finish(self.wandb)


def cell_artifact(name: str, genotype: Path) -> tuple[str, str, list[Path]]:
    """Name, type and file of a cell in W&B: what a search makes and a training uses."""
    return f"cell-{name}", "cell", [genotype]
