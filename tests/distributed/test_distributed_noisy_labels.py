"""Co-teaching by two processes: each selects from its own part, and all hold the same weights."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import nn
from two_processes import in_two_processes

import darts_noise as dn


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def trained(forget_rate: float) -> dict[str, Any]:
    torch.manual_seed(0)
    settings = {"forget_rate": forget_rate, "gradual_epochs": 1}
    module = dn.TrainModule(noisy_labels={"co_teaching": settings})
    module.use(perceptron(), 10, 1, perceptron)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        **({"devices": 2, "strategy": "ddp"} if dist.is_initialized() else {}),
    )
    data = dn.ImageDataModule("digits", train_samples=80, batch_size=16, wrong_labels=0.4)
    trainer.fit(module, datamodule=data)
    return {
        "weights": torch.cat([p.detach().flatten() for p in module.parameters()]),
        "precision": trainer.callback_metrics["train/label_precision"],
    }


def test_two_processes_teach_each_network_alike(tmp_path: Path) -> None:
    for forget_rate in (0.0, 0.5):
        folder = tmp_path / str(forget_rate)
        folder.mkdir()
        alone = trained(forget_rate)
        first, second = in_two_processes(trained, folder, forget_rate)
        for key in ("weights", "precision"):
            assert torch.equal(first[key], second[key]), key
        if forget_rate == 0:  # a batch is then the same, however it is divided
            torch.testing.assert_close(first, alone)
        else:
            assert not torch.allclose(first["weights"], alone["weights"])
