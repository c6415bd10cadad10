"""The noise check of a training run: the measurement of noise fit, and its rows of the card."""

import math
import shutil
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import WandbLogger

from darts_noise.data.module import ImageDataModule
from darts_noise.errors import SettingError, counted, within
from darts_noise.nets.synchronised import SynchronisedNorms
from darts_noise.noise.datasets import root_of_others
from darts_noise.noise.families import describe_noise, make_noise
from darts_noise.report.card import percent
from darts_noise.report.metrics_table import MetricsTable
from darts_noise.runs.cores import WORTHWHILE, Ahead
from darts_noise.runs.run import Run
from darts_noise.runs.settings import TrainerConfig
from darts_noise.train.control_networks import CONTROL_NETWORKS
from darts_noise.train.factories import NetworkLike, loaded, suited_network
from darts_noise.train.module import TrainModule
from darts_noise.train.noise_fit import default_samples, noise_fit, require_samples
from darts_noise.train.noise_record import NoiseFit
from darts_noise.train.quick import NoiseCurve
from darts_noise.train.run_file import RunFile
from darts_noise.train.settings import NoiseConfig, NoiseFamily, NoiseGrid, TrainConfig

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
NOISE_RUNS = "noise_runs.json"
NOISE_EPOCHS = "noise_epochs"
"""Folder of the last epoch of an unfinished quick check."""


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
        return title if session.kind == "train" else f"{session.kind}, {title}"

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


def _log_noise(session: Run, epoch: int, accuracy: float) -> None:
    """Log the accuracy on noise after an epoch of the quick check among the run's figures."""
    for logger in session.trainer.loggers:
        ours = isinstance(logger, MetricsTable | WandbLogger)  # which draw it over `epoch`
        logger.log_metrics({"epoch": epoch, NOISE_FIGURE: accuracy}, None if ours else epoch)
        logger.save()


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


def noise_rows(noise: NoiseFit | None, grid: NoiseGrid | None = None) -> dict[str, Any]:
    """Return the noise rows of a card. After a divergence, the accuracies are None.

    Args:
        noise: the record. None: not measured.
        grid: its trainings. The protocol ``quick`` has none.
    """
    if noise is None:
        return dict.fromkeys(("noise_accuracy", "noise_protocol", "noise", "positive_control"))
    record = noise.to_dict()
    if math.isnan(noise.accuracy):  # the accuracies before the divergence mean nothing
        record["accuracy_largest"] = None
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
        f"best constant answer {100 * noise.chance:.1f}%"
    )


def _describe_real(noise: NoiseFit) -> str:
    """Return a text about the same trainings on real images.

    >>> _describe_real(NoiseFit("converged", "uniform", 0.2, 0.2, 0.1, 1000, 9, 0, "", 1.0,
    ...                         real_accuracy=0.954, real_samples=1000))
    '1,000 real images fitted to 95.40%'
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
