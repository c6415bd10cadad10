"""The settings of a run and of Lightning's Trainer, in a module that imports neither."""

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from darts_noise.configured import naming_arguments, require_fields
from darts_noise.errors import SettingError, unknown
from darts_noise.search.settings import SearchConfig

PLAIN = "at most 100 letters, digits, '.', '_' and '-', the first a letter or a digit"
"""The rule of `is_plain`, in words."""
WANDB_MODES = ("auto", "online", "offline", "off")
PRECISIONS = (
    *("16-mixed", "16-true", "32-true", "64-true", "bf16-mixed", "bf16-true"),
    *("16", "32", "64", "bf16", "transformer-engine", "transformer-engine-float16"),
)
"""The precisions of Lightning, for all devices."""
CLIPPING = ("norm", "value")
DEVICES = r"auto|-1|0*[1-9]\d*|(\d+,)+\d*"
"""The texts that state devices."""
LEAST = {
    **dict.fromkeys(("max_epochs", "num_nodes", "accumulate_grad_batches"), 1),
    **dict.fromkeys(("min_epochs", "min_steps", "fast_dev_run", "log_every_n_steps"), 0),
    **dict.fromkeys(("reload_dataloaders_every_n_epochs", "gradient_clip_val"), 0),
    "num_sanity_val_steps": -1,
}
"""The smallest valid value of each number."""
SHARES = (
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"),
    *("overfit_batches", "val_check_interval"),
)
"""Numbers of batches, or shares from 0 to 1."""
UNITS = ("weeks", "days", "hours", "minutes", "seconds")
OBJECTS = ("accelerator", "callbacks", "logger", "plugins", "profiler", "strategy")
"""Arguments of the Trainer that may be objects."""


def is_plain(name: str) -> bool:
    """Return whether a name is valid for a file or folder: one part of a path, of plain characters.

    >>> is_plain("mnist-1"), is_plain("../mnist")
    (True, False)
    """
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) is not None


@naming_arguments
@dataclass(frozen=True)
class RunConfig:
    """The folder and the tracking of a run.

    Args:
        name: name of the run. null: the data set and the time of day.
        resume: name or folder of a stopped run to resume. Empty: the newest run. null: start a new
            run.
        runs: folder of all runs.
        wandb: Weights & Biases: auto (online with a key, otherwise offline), online, offline or
            off.
        wandb_project: project in Weights & Biases. null: WANDB_PROJECT of the environment, or
            darts_noise.
        trust: packages whose classes a config file may name, separated by commas. Lightning is
            always trusted.
        plugins: Python files that ran first, to register operations, spaces and so on. The run
            notes their paths and contents.

    Raises:
        SettingError: the name is not a plain file name, or the mode does not exist.
    """

    name: str | None = None
    resume: str | None = None
    runs: str = "runs"
    wandb: str = "auto"
    wandb_project: str | None = None
    trust: str | None = None
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name is not None and (not is_plain(self.name) or self.name == "latest"):
            raise SettingError("name", f"expected {PLAIN} (and not 'latest'), got {self.name!r}")
        if self.wandb not in WANDB_MODES:
            raise SettingError("wandb", unknown("mode", self.wandb, WANDB_MODES))


@naming_arguments
@dataclass(frozen=True)
class TrainerConfig:
    """Arguments of Lightning's Trainer. All are accepted; the most useful ones are described here.

    Callbacks, loggers and plugins may be objects or, in a config file, ``class_path`` and
    ``init_args``.

    Args:
        accelerator: cpu, gpu or auto.
        strategy: how several devices work together: auto or ddp.
        devices: number of devices, or a list of them.
        num_nodes: number of machines.
        precision: 32-true, bf16-mixed or (on CUDA) 16-mixed. null: 32-true.
        max_epochs: passes over the training images. null: 50 in a search, 600 in a training.
        max_steps: largest number of search steps, or of optimiser steps in a training. -1: no
            limit.
        enable_progress_bar: show progress.
        sync_batchnorm: compute the statistics of batch norms over the batches of all devices.

    Raises:
        SettingError: an unknown precision or algorithm; less than one epoch, step, training batch
            or interval between validations; a time that is not written as DD:HH:MM:SS.
    """

    accelerator: Any = "auto"
    strategy: Any = "auto"
    devices: list[int] | str | int = "auto"
    num_nodes: int = 1
    precision: str | int | None = None
    logger: Any = None
    callbacks: Any = None
    fast_dev_run: int | bool = False
    max_epochs: int | None = None
    min_epochs: int | None = None
    max_steps: int = -1
    min_steps: int | None = None
    max_time: str | timedelta | dict[str, int] | None = None
    limit_train_batches: int | float | None = None
    limit_val_batches: int | float | None = None
    limit_test_batches: int | float | None = None
    limit_predict_batches: int | float | None = None
    overfit_batches: int | float = 0.0
    val_check_interval: int | float | str | timedelta | dict[str, int] | None = None
    check_val_every_n_epoch: int | None = 1
    num_sanity_val_steps: int | None = 0
    log_every_n_steps: int | None = 1
    enable_checkpointing: bool | None = None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = False
    accumulate_grad_batches: int = 1
    gradient_clip_val: int | float | None = None
    gradient_clip_algorithm: str | None = None
    deterministic: bool | str | None = None
    benchmark: bool | None = None
    inference_mode: bool = True
    use_distributed_sampler: bool = True
    profiler: Any = None
    detect_anomaly: bool = False
    barebones: bool = False
    plugins: Any = None
    sync_batchnorm: bool = False
    reload_dataloaders_every_n_epochs: int = 0
    default_root_dir: str | Path | None = None
    enable_autolog_hparams: bool = True
    model_registry: str | None = None

    def __post_init__(self) -> None:
        if self.precision is not None and str(self.precision) not in PRECISIONS:
            raise SettingError("precision", unknown("precision", str(self.precision), PRECISIONS))
        self._check_devices()
        require_fields(self, **LEAST)
        if self.max_steps < 1 and self.max_steps != -1:
            raise SettingError("max_steps", f"expected 1 or more, or -1, got {self.max_steps}")
        clipping = self.gradient_clip_algorithm
        if clipping is not None and clipping not in CLIPPING:
            raise SettingError("gradient_clip_algorithm", unknown("algorithm", clipping, CLIPPING))
        if self.limit_train_batches == 0:
            raise SettingError("limit_train_batches", "expected more than 0, got 0")
        if self.deterministic not in (None, True, False, "warn"):
            problem = f"expected true, false or warn, got {self.deterministic!r}"
            raise SettingError("deterministic", problem)
        for key in ("max_time", "val_check_interval"):
            _check_time(key, getattr(self, key))
        for key in ("check_val_every_n_epoch", "val_check_interval"):
            value = getattr(self, key)
            if isinstance(value, int | float) and value <= 0:
                raise SettingError(
                    key,
                    f"expected more than 0, got {value}; without validation: limit_val_batches 0",
                )
        for key in SHARES:
            value = getattr(self, key)
            if isinstance(value, int | float) and (value < 0 or (value > 1 and value % 1)):
                expected = "expected a share from 0 to 1 or a whole number of batches"
                raise SettingError(key, f"{expected}, got {value}")

    def _check_devices(self) -> None:
        given = self.devices
        if isinstance(given, str):
            valid = re.fullmatch(DEVICES, given) is not None
        elif isinstance(given, int):
            valid = given == -1 or given > 0
        else:
            valid = given == [-1] or (min(given, default=-1) >= 0 and len({*given}) == len(given))
        if not valid:
            raise SettingError(
                "devices",
                f"expected auto, a number from 1, -1 (all), or a list as in 0,1, got {given!r}",
            )


def _check_time(key: str, time: Any) -> None:
    """Raise a `SettingError` for a text or a mapping that states no time."""
    if isinstance(time, str) and not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", time):
        raise SettingError(key, f"expected DD:HH:MM:SS, got {time!r}")
    for unit in time if isinstance(time, dict) else ():
        if unit not in UNITS:
            raise SettingError(key, unknown("unit", unit, UNITS))


def check_trainer(config: SearchConfig, trainer: TrainerConfig) -> None:
    """Raise a `SettingError` for the first setting that a search does not support."""
    # In half precision, the small steps of α would be rounded away.
    if str(trainer.precision) not in ("None", "32", "32-true", "bf16", "bf16-mixed"):
        raise SettingError(
            "trainer.precision",
            f"the search runs in 32-true or bf16-mixed, got {trainer.precision}",
        )
    if trainer.gradient_clip_val:
        raise SettingError(
            "trainer.gradient_clip_val", "a search clips by model.gradient_clip instead"
        )
    if trainer.accumulate_grad_batches != 1:
        raise SettingError(
            "trainer.accumulate_grad_batches",
            "expected 1, because a search makes a step for each batch; got "
            f"{trainer.accumulate_grad_batches}. Larger batches are data.batch_size",
        )
    if trainer.max_epochs is not None and trainer.max_epochs <= config.warmup_epochs:
        raise SettingError(
            "trainer.max_epochs",
            f"expected more than model.warmup_epochs ({config.warmup_epochs}), in which α stands "
            f"still; got {trainer.max_epochs}",
        )
