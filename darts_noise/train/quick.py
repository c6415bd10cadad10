"""The protocol ``quick``: one training on noise with the recipe of the clean run.

Source: Zhang et al., Understanding deep learning requires rethinking generalization, ICLR 2017,
arXiv:1611.03530, section 2: the architecture and the recipe stay, the data are replaced.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.loggers import Logger

from darts_noise.checkpoints.checkpoint_io import (
    BEST,
    LAST,
    PREVIOUS,
    SealedCheckpointIO,
    resumable,
)
from darts_noise.checkpoints.kept import keep_checkpoints
from darts_noise.checkpoints.run_state import Row, RunState
from darts_noise.configured import fields_of
from darts_noise.data.batches import BatchStream, EpochLoader
from darts_noise.data.seeds import Stream, derive_seed
from darts_noise.distributed.collectives import on_first_process
from darts_noise.errors import SettingError
from darts_noise.finite import NotFiniteError
from darts_noise.space.genotype import Genotype
from darts_noise.train.module import TrainModule
from darts_noise.train.networks import identify, make_network
from darts_noise.train.noise_measurement import Measurement
from darts_noise.train.noise_record import NoiseFit


def quick_fit(
    measurement: Measurement,
    callbacks: Sequence[pl.Callback] = (),
    folder: str | Path | None = None,
) -> NoiseFit:
    """The accuracy on the noise set after the last epoch; NaN where the training diverged.

    MixUp and CutMix are left out: the noise is never augmented, and mixing would pass for a failure
    to fit it. With several processes each takes its part of every batch, as in the clean run.

    Args:
        measurement: the network, the set and the recipe.
        callbacks: added to the Trainer, such as a progress bar.
        folder: keeps the last whole epoch while the training lasts, and a later call with the same
            measurement goes on from there; nothing is kept when absent.

    Raises:
        ValueError: the folder holds the epochs of another measurement, or none that is whole.
    """
    m = measurement
    key = derive_seed(m.seed, Stream.NOISE)
    pl.seed_everything(key, verbose=False)
    module = TrainModule(m.recipe, mixup=0.0, cutmix=0.0)
    if isinstance(m.network, Genotype):
        module.build(m.network, *m.form)
    else:
        module.use(make_network(m.network, *m.form, m.recipe), *m.form)
    history = _History()
    state = RunState(history)
    kept: Path | None = None
    plugins = m.trainer.get("plugins") or []
    plugins = [*plugins] if isinstance(plugins, list) else [plugins]
    keep: list[pl.Callback] = []
    if folder is not None:
        folder = Path(folder)
        on_first_process(partial(folder.mkdir, parents=True, exist_ok=True))
        kept, _ = on_first_process(partial(resumable, folder))
        keep = list(keep_checkpoints(folder))
        plugins.append(SealedCheckpointIO(folder))
    run = pl.Trainer(
        **{
            "enable_checkpointing": folder is not None,
            "enable_model_summary": False,
            "enable_progress_bar": any(isinstance(c, ProgressBar) for c in callbacks),
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            **m.trainer,
            "max_epochs": m.epochs,
            "callbacks": [*callbacks, state, *keep],
            "plugins": plugins,
            "logger": history,
        }
    )
    try:
        data = _NoiseData(m, key, identify(m.network, module.net), folder)
        run.fit(module, datamodule=data, ckpt_path=kept, weights_only=True)
        final = _share(history.rows[-1]["val/accuracy"], len(m.noise))
    except NotFiniteError:
        final = math.nan
    accuracies = [_share(figures["val/accuracy"], len(m.noise)) for figures in history.rows]
    largest = max(accuracies, default=math.nan)
    if folder is not None and run.is_global_zero:
        for file in (LAST, PREVIOUS, BEST):
            (folder / file).unlink(missing_ok=True)
        with suppress(OSError):  # a folder that holds more than ours
            folder.rmdir()
    return m.record("quick", final, largest, state.seconds, curve=tuple(accuracies))


def _share(accuracy: float, count: int) -> float:
    """The share of so many images that an accuracy in float32 means, as exact as `chance` is."""
    exact = round(accuracy * count) / count
    return exact if math.isclose(exact, accuracy, rel_tol=1e-6) else accuracy


class _NoiseData(pl.LightningDataModule):
    """The noise set, shuffled to train on and in order to be read.

    A checkpoint holds how many batches were given, and of which measurement it is.
    """

    def __init__(self, m: Measurement, seed: int, network: str, folder: Path | None) -> None:
        super().__init__()
        recipe = {name: repr(value) for name, value in fields_of(m.recipe).items()}
        del recipe["genotype"]  # which is the network, told below
        self.about = {**m.about(), **recipe, "network": network}
        self.measurement, self.seed, self.folder = m, seed, folder
        self._given = 0

    def train_dataloader(self) -> EpochLoader:
        trainer, m = self._trainer, self.measurement
        batch_size = min(m.batch_size, len(m.noise))
        batch_size -= batch_size % trainer.world_size
        self._loader = EpochLoader(self._stream(batch_size, seed=self.seed), given=self._given)
        return self._loader

    def val_dataloader(self) -> EpochLoader:
        return EpochLoader(self._stream(4 * self.measurement.batch_size, shuffle=False))

    def state_dict(self) -> dict[str, Any]:
        return {"about": self.about, **self._loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Makes the training go on behind the batches that were given.

        Raises:
            ValueError: they were those of another measurement.
        """
        for key, value in self.about.items():
            if (found := state_dict["about"].get(key)) != value:
                raise SettingError(
                    "path",
                    f"{self.folder} holds the epochs of a measurement with {key} {found}, "
                    f"expected {value}; take another path or delete the folder",
                )
        self._given = state_dict["position"]

    @property
    def _trainer(self) -> pl.Trainer:
        assert self.trainer is not None
        return self.trainer

    def _stream(self, batch_size: int, **order: Any) -> BatchStream:
        trainer, m = self._trainer, self.measurement
        return BatchStream(
            m.noise,
            batch_size,
            m.normalisation,
            drop_last=False,
            device=trainer.strategy.root_device,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            **order,
        )


class _History(Logger):
    """Keeps the figures of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []

    def replace(self, rows: Sequence[Row]) -> None:
        """Makes these the rows."""
        self.rows = list(rows)

    @property
    def name(self) -> str:
        return "history"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The record that is returned says what was set."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append(metrics)
