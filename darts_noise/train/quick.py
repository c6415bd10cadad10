"""The protocol ``quick``: one training on noise with the recipe of the clean run.

Source: Zhang et al., Understanding deep learning requires rethinking generalization, ICLR 2017,
arXiv:1611.03530, section 2: the architecture and the recipe stay, the data are replaced.
"""

import math
from collections.abc import Callable, Sequence
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
from darts_noise.data.batches import BatchStream, EpochLoader, leaves_one
from darts_noise.data.module import place_of
from darts_noise.data.seeds import Stream, derive_seed
from darts_noise.distributed.collectives import on_first_process
from darts_noise.errors import SettingError
from darts_noise.finite import NotFiniteError
from darts_noise.reading import read_fit, whole_set
from darts_noise.space.genotype import Genotype
from darts_noise.train.factories import identify, make_network
from darts_noise.train.module import TrainModule
from darts_noise.train.noise_measurement import Measurement
from darts_noise.train.noise_record import NoiseFit
from darts_noise.train.settings import ALL


def quick_fit(
    measurement: Measurement,
    callbacks: Sequence[pl.Callback] = (),
    folder: str | Path | None = None,
) -> NoiseFit:
    """Return the accuracy on the noise set after the last epoch, or NaN if the training diverged.

    MixUp, CutMix, the selection of samples and adversarial training are left out: a mixed noise
    set, or one of which a part is never learnt, would look like one that the network cannot fit.
    Several processes share each batch, as in the clean run. The global generators of random numbers
    are seeded.

    Args:
        measurement: the network, the noise set and the recipe.
        callbacks: callbacks for the Trainer, such as a progress bar.
        folder: keeps the last complete epoch during the training. A later call with the same
            measurement continues from it. None (default): keep nothing.

    Raises:
        ValueError: the folder has epochs of another measurement, or no complete epoch.
    """
    m = measurement
    key = derive_seed(m.seed, Stream.NOISE)
    pl.seed_everything(key, verbose=False)
    module = _OnNoise(m.recipe, mixup=0.0, cutmix=0.0, noisy_labels=ALL, adversarial_eps=0.0)
    if isinstance(m.network, Genotype):
        module.leave_out_head(m.network, m.noise.shape)
        module.build(m.network, m.num_classes, m.in_channels)
    else:
        net = make_network(m.network, m.num_classes, m.in_channels, m.recipe)
        module.use(net, m.num_classes, m.in_channels)
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
        state.end(run, module)
        if history.rows[-1:] and "val/accuracy" not in history.rows[-1]:
            # A limit on steps or time ended the training within an epoch.
            device = run.strategy.root_device
            same = whole_set(m.noise, m.normalisation, device)
            history.rows[-1]["val/accuracy"] = read_fit(module.to(device).float(), same).accuracy
        final = _share(history.rows[-1]["val/accuracy"], len(m.noise))
    except NotFiniteError:
        final = math.nan
    accuracies = history.curve(len(m.noise))
    largest = max(accuracies, default=math.nan)
    if folder is not None and run.is_global_zero:
        for file in (LAST, PREVIOUS, BEST):
            (folder / file).unlink(missing_ok=True)
        with suppress(OSError):  # the folder has other files too
            folder.rmdir()
    return m.record("quick", final, largest, state.seconds, curve=tuple(accuracies))


def _share(accuracy: float, count: int) -> float:
    """Return an accuracy in float32 as the exact share of `count` images."""
    exact = round(accuracy * count) / count
    return exact if math.isclose(exact, accuracy, rel_tol=1e-6) else accuracy


class _OnNoise(TrainModule):
    """The training of the clean run, on noise. Batch norms get statistics of the noise images."""

    def images_for_statistics(self) -> BatchStream:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        return whole_set(data.measurement.noise, data.measurement.normalisation, self.device)


class _NoiseData(pl.LightningDataModule):
    """The noise set: shuffled for the training, in order for the evaluation.

    A checkpoint contains the number of used batches and the description of the measurement.
    """

    def __init__(self, m: Measurement, seed: int, network: str, folder: Path | None) -> None:
        super().__init__()
        recipe = {name: repr(value) for name, value in fields_of(m.recipe).items()}
        del recipe["genotype"]  # part of `network`
        self.about = {**m.about(), **recipe, "network": network}
        self.measurement, self.seed, self.folder = m, seed, folder
        self._given = 0

    def train_dataloader(self) -> EpochLoader:
        trainer, m = self._trainer, self.measurement
        batch_size = min(m.batch_size, len(m.noise))
        batch_size -= batch_size % trainer.world_size
        # A batch norm cannot train on one image. Each epoch leaves out another one.
        single = leaves_one(len(m.noise), batch_size, trainer.world_size)
        stream = self._stream(batch_size, seed=self.seed, drop_last=single)
        limit = trainer.limit_train_batches
        self._loader = EpochLoader(
            stream, limit if isinstance(limit, int) and limit else None, self._given
        )
        return self._loader

    def val_dataloader(self) -> EpochLoader:
        batch_size = 4 * self.measurement.batch_size
        batch_size -= batch_size % self._trainer.world_size
        return EpochLoader(self._stream(batch_size, shuffle=False, drop_last=False))

    def state_dict(self) -> dict[str, Any]:
        return {"about": self.about, **self._loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the batches that were used.

        Raises:
            ValueError: the checkpoint is from another measurement.
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
        m, place = self.measurement, place_of(self._trainer)
        return BatchStream(m.noise, batch_size, m.normalisation, **order, **place)


class NoiseCurve(pl.Callback):
    """Tells the accuracy after each epoch of `quick_fit` while the training goes on.

    Of a training that continues, the earlier epochs are told too.

    Attributes:
        count: epochs told so far.

    Args:
        tell: called with the epoch, from 0, and the accuracy.
    """

    def __init__(self, tell: Callable[[int, float], None]) -> None:
        self.tell, self.count = tell, 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tell(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tell(trainer)

    def _tell(self, trainer: pl.Trainer) -> None:
        assert isinstance(trainer.logger, _History)
        samples = len(trainer.datamodule.measurement.noise)  # type: ignore[attr-defined]
        for accuracy in trainer.logger.curve(samples)[self.count :]:
            self.tell(self.count, accuracy)
            self.count += 1


class _History(Logger):
    """A logger that keeps the metrics of each epoch in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []

    def replace(self, rows: Sequence[Row]) -> None:
        """Replace the rows."""
        self.rows = list(rows)

    def curve(self, samples: int) -> list[float]:
        """Return the accuracy on the noise set of each epoch that was read."""
        rows = [row for row in self.rows if "val/accuracy" in row]
        return [_share(row["val/accuracy"], samples) for row in rows]

    @property
    def name(self) -> str:
        return "history"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the record holds the settings."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append(metrics)
