"""The protocol ``quick``: one training on noise with the recipe of the clean run.

Source: Zhang et al., Understanding deep learning requires rethinking generalization, ICLR 2017,
arXiv:1611.03530, section 2: the architecture and the recipe stay, the data are replaced.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.loggers import Logger

from darts_noise.data.batches import BatchStream, EpochLoader
from darts_noise.data.seeds import Stream, derive_seed
from darts_noise.finite import NotFiniteError
from darts_noise.space.genotype import Genotype
from darts_noise.train.module import TrainModule
from darts_noise.train.networks import make_network
from darts_noise.train.noise_measurement import Measurement
from darts_noise.train.noise_record import NoiseFit


def quick_fit(measurement: Measurement, callbacks: Sequence[pl.Callback] = ()) -> NoiseFit:
    """The accuracy on the noise set after the last epoch; NaN where the training diverged.

    MixUp and CutMix are left out: the noise is never augmented, and mixing would pass for a failure
    to fit it. With several processes each takes its part of every batch, as in the clean run.

    Args:
        measurement: the network, the set and the recipe.
        callbacks: added to the Trainer, such as a progress bar.
    """
    m, started = measurement, time.perf_counter()
    key = derive_seed(m.seed, Stream.NOISE)
    pl.seed_everything(key, verbose=False)
    module = TrainModule(**{**m.recipe, "mixup": 0.0, "cutmix": 0.0})
    if isinstance(m.network, Genotype):
        module.build(m.network, *m.form)
    else:
        module.use(make_network(m.network, *m.form, m.recipe), *m.form)
    history = _History()
    run = pl.Trainer(
        **{
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": any(isinstance(c, ProgressBar) for c in callbacks),
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            **m.trainer,
            "max_epochs": m.epochs,
            "callbacks": list(callbacks),
            "logger": history,
        }
    )
    common: dict[str, Any] = {
        "drop_last": False,
        "device": run.strategy.root_device,
        "rank": run.global_rank,
        "world_size": run.world_size,
    }
    batch_size = min(m.batch_size, len(m.noise))
    batch_size -= batch_size % run.world_size
    train = BatchStream(m.noise, batch_size, m.normalisation, seed=key, **common)
    same = BatchStream(m.noise, 4 * m.batch_size, m.normalisation, shuffle=False, **common)
    try:
        run.fit(module, EpochLoader(train), EpochLoader(same))
        final = history.rows[-1]["val/accuracy"]
    except NotFiniteError:
        final = math.nan
    accuracies = [figures["val/accuracy"] for figures in history.rows]
    largest = max(accuracies, default=math.nan)
    seconds = time.perf_counter() - started
    return m.record("quick", final, largest, seconds, curve=tuple(accuracies))


class _History(Logger):
    """Keeps the figures of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

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
