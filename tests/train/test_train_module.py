"""Training of the discrete network: its loss, schedules and evaluation."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F

import darts_noise as dn
from darts_noise.nets.network import WithAuxiliary

SMALL = {"channels": 4, "num_cells": 3, "stem": "small", "auxiliary_weight": 0.0}


def fitted(data, epochs=2, callbacks=(), **settings):
    torch.manual_seed(0)
    module = dn.TrainModule(**{**SMALL, **settings})
    module.build(dn.load_genotype("darts_v1"), data.num_classes, data.in_channels)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
    )
    trainer.fit(module, datamodule=data)
    return module, trainer


def test_loss_is_cross_entropy_plus_the_weighted_auxiliary_loss():
    torch.manual_seed(0)
    module = dn.TrainModule(
        channels=4, num_cells=3, stem="cifar", auxiliary_weight=0.4, label_smoothing=0.1
    )
    module.build(dn.load_genotype("darts_v1"), 10, 3)
    module.eval()  # so that two passes agree; the head is asked for below
    x, y = torch.randn(4, 3, 32, 32), torch.tensor([1, 2, 3, 4])
    a, b = torch.randn(4, 10), torch.randn(4, 10)
    module.net.forward = lambda images: WithAuxiliary(a, b)

    def smoothed(logits):
        target = 0.9 * F.one_hot(y, 10) + 0.01
        return -(target * logits.log_softmax(-1)).sum(-1).mean()

    expected = smoothed(a) + 0.4 * smoothed(b)
    torch.testing.assert_close(module.training_step((x, y), 0), expected)


def test_drop_path_rises_linearly_and_the_rate_falls_to_zero(digits):
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 0:
                seen.append((pl_module.net.drop_path, trainer.optimizers[0].param_groups[0]["lr"]))

    _, trainer = fitted(digits(), 4, [Watch()], drop_path=0.2, learning_rate=0.1)
    assert [d for d, _ in seen] == pytest.approx([0.0, 0.05, 0.1, 0.15])
    expected = [0.1 * (1 + torch.cos(torch.tensor(torch.pi * e / 4)).item()) / 2 for e in range(4)]
    assert [r for _, r in seen] == pytest.approx(expected)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
    assert float(trainer.callback_metrics["lr/weights"]) == pytest.approx(expected[-1])


def test_test_accuracy_is_that_of_the_last_weights_on_every_image(digits):
    data = digits(train_samples=400)
    module, trainer = fitted(data, 3, learning_rate=0.1)
    [result] = trainer.test(module, datamodule=data, verbose=False)
    module.eval()
    with torch.no_grad():
        logits = module(data.normalisation(data.test.images))
    expected = (logits.argmax(-1) == data.test.labels).float().mean().item()
    assert result["test/accuracy"] == pytest.approx(expected, abs=1e-6)
    assert result["test/loss"] == pytest.approx(
        F.cross_entropy(logits, data.test.labels).item(), rel=1e-4
    )


@pytest.mark.parametrize("key", ["drop_path", "label_smoothing"])
@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_shares_are_checked(key, value):
    with pytest.raises(ValueError, match=f"model.{key}: expected 0 or more and less than 1"):
        dn.TrainModule(**{key: value})


@pytest.mark.parametrize("key", ["learning_rate", "momentum", "weight_decay", "auxiliary_weight"])
def test_amounts_are_checked(key):
    with pytest.raises(ValueError, match=f"model.{key}: expected 0 or more, got -1"):
        dn.TrainModule(**{key: -1.0})
