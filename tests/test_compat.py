"""The private attributes of libraries that the package relies on are there."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torchmetrics import MeanMetric

from darts_noise import compat


class Watched(pl.LightningModule):
    """Two batches of one parameter; what the compatibility functions see after the second."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch).mean()
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.step = compat.logged_step(self.trainer)
        self.figures = compat.figures_to_be_logged(self.trainer)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> pl.Trainer:
    folder = tmp_path_factory.mktemp("checkpoints")
    keeper = ModelCheckpoint(folder, save_on_train_epoch_end=True)
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    made = pl.Trainer(
        accelerator="cpu", max_epochs=1, log_every_n_steps=1, callbacks=[keeper], **quiet
    )
    made.fit(Watched(), torch.utils.data.DataLoader(torch.ones(2, 1)))
    return made


def test_lightning_tells_the_step_of_the_row_that_it_will_log(trainer: pl.Trainer) -> None:
    gone = "Lightning's epoch_loop._batches_that_stepped no longer counts batches: see compat.py"
    assert trainer.lightning_module.step == 1, gone


def test_lightning_holds_the_figures_that_it_will_log(trainer: pl.Trainer) -> None:
    gone = "Lightning's _logger_connector.metrics no longer tells what it will log: see compat.py"
    assert trainer.lightning_module.figures.keys() == {"loss"}, gone


def test_lightning_ends_after_the_step_where_the_flag_is_set(trainer: pl.Trainer) -> None:
    assert trainer.received_sigterm is False
    compat.ask_to_stop(trainer)
    gone = "Lightning's _signal_connector.received_sigterm no longer asks to stop: see compat.py"
    assert trainer.received_sigterm is True, gone


def test_ddp_runs_the_script_again() -> None:
    made = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False)
    gone = "Lightning's ddp no longer starts copies of the script: see compat.py"
    made.strategy._configure_launcher()
    assert compat.runs_the_script_again(made.strategy.launcher), gone


def test_torch_has_one_class_of_batch_norms() -> None:
    for norm in (nn.BatchNorm1d(1), nn.BatchNorm2d(1), nn.SyncBatchNorm(1)):
        assert isinstance(norm, compat.BatchNorm), "torch has no common class of batch norms"


def test_torch_says_whether_a_transform_is_under_way() -> None:
    seen = []
    torch.func.vmap(lambda x: seen.append(compat.in_functorch()) or x)(torch.ones(2))
    assert (seen, compat.in_functorch()) == ([True], False)


def test_a_metric_has_the_number_of_updates_that_was_set() -> None:
    metric = MeanMetric()
    compat.set_updates(metric, 3)
    assert metric.update_count == 3
