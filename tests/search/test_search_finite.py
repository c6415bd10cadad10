"""A search ends before the first update with a figure that is not finite, and names it."""

import math
import re

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

import darts_noise as dn
from darts_noise.finite import NotFiniteError

TINY = {"nodes": 1, "channels": 4, "num_cells": 3, "stem": "small"}
BATCHES = 3


class Spoil:
    """A value of one group's update becomes NaN or infinite at a step."""

    def __init__(self, group, field, at):
        self.group, self.field, self.at = group, field, at
        self.step, self.before = -1, {}

    def __call__(self, monkeypatch, module):
        real = module._require_finite

        def look(terms, optimiser):
            names = [name for name, _ in terms]
            gradient = f"the gradient of {self.group}"
            own = gradient in names
            if own:
                self.step += 1
                assert len(dict(terms)[gradient]) == len(module.trained()[self.group])
            if own and self.step == self.at:
                self.before = {k: p.detach().clone() for k, p in module.named_parameters()}
                chosen = next(tensors for name, tensors in terms if self.field in name)
                with torch.no_grad():
                    chosen[-1].view(-1)[-1:] = math.inf if self.field == "L_" else math.nan
            real(terms, optimiser)

        monkeypatch.setattr(module, "_require_finite", look)


def assert_no_update(monkeypatch, data, folder, accelerator, space, group, field, named, at):
    """A search in which that figure is spoilt at a step ends with what it was before that step."""
    torch.manual_seed(0)
    module = dn.SearchModule(**TINY, space=space, noise_samples=32)
    spoil = Spoil(group, field, at)
    spoil(monkeypatch, module)
    keep = ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True)
    run = pl.Trainer(
        max_epochs=2,
        limit_train_batches=BATCHES,
        limit_val_batches=1,
        accelerator=accelerator,
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[keep],
    )
    rate = 3e-4 if group == "α" else 0.025 if at < BATCHES else 0.013
    epoch = at // BATCHES
    where = f"{named} is not finite at step {at + 1} (epoch {epoch + 1}), learning rate {rate}"
    with pytest.raises(NotFiniteError, match=re.escape(where)):
        run.fit(module, datamodule=data)
    after = dict(module.named_parameters())
    assert all(torch.equal(after[k].cpu(), value.cpu()) for k, value in spoil.before.items())
    held = list(folder.glob("*.ckpt"))
    assert len(held) == epoch
    for file in held:
        state = torch.load(file, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in state.values())


@pytest.mark.parametrize(
    ("group", "field", "named"),
    [
        ("α", "L_val", "L_val, the loss of w on validation"),
        ("α", "P", "P, the penalty"),
        ("α", "gradient", "the gradient of α"),
        ("w", "L_", "L_train, the loss of w on training"),
        ("w", "gradient", "the gradient of w"),
        ("v", "L_", "L_noise, the loss of v on noise"),
        ("v", "gradient", "the gradient of v"),
    ],
)
@pytest.mark.parametrize("space", ["darts", pytest.param("noise", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("at", "read"), [(1, "at once"), (BATCHES + 1, "at once"), (1, "late")])
def test_no_update_from_what_is_not_finite(
    group, field, named, at, read, space, digits, tmp_path, monkeypatch
):
    """Read late, as CUDA's answers are, the steps that follow until then must be none as well."""
    if read == "late":
        monkeypatch.setattr("darts_noise.finite.reads_at_once", lambda device: False)
    assert_no_update(monkeypatch, digits(), tmp_path, "cpu", space, group, field, named, at)


@pytest.mark.cuda
@pytest.mark.parametrize("at", [1, BATCHES + 1])
@pytest.mark.parametrize(
    ("group", "field", "named"),
    [
        ("α", "gradient", "the gradient of α"),
        ("w", "gradient", "the gradient of w"),
        ("v", "L_", "L_noise, the loss of v on noise"),
    ],
)
def test_no_update_on_a_gpu(group, field, named, at, digits, tmp_path, monkeypatch):
    data = digits(grey=False)
    assert_no_update(monkeypatch, data, tmp_path, "cuda", "darts", group, field, named, at)
