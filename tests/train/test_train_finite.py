"""A training ends before the first update from a loss or a gradient that is not finite."""

import math
import re

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from small_runs import SMALL, small_module, small_trainer, weights

import darts_noise as dn
from darts_noise.finite import NotFiniteError

TRAIN = {"loss": "the training loss", "first": "a gradient", "last": "a gradient"}


@pytest.mark.parametrize("term", TRAIN)
@pytest.mark.parametrize(
    ("step", "read"), [(0, "at once"), (2, "at once"), (3, "at once"), (0, "late"), (3, "late")]
)
def test_a_training_ends_before_the_update(term, step, read, digits, tmp_path, monkeypatch):
    """Batches of an epoch: 3. The last checkpoint is that of the last whole epoch."""
    if read == "late":
        monkeypatch.setattr("darts_noise.finite.reads_at_once", lambda device: False)
    module = small_module(learning_rate=0.1)
    seen = []

    def spoil(gradient):
        return gradient * math.nan if len(seen) == step + 1 else gradient

    def before(net, inputs):
        if net.training:
            seen.append(weights(module))
            if term == "loss" and len(seen) == step + 1:
                return (inputs[0] * math.nan,)
        return None

    module.net.register_forward_pre_hook(before)
    if term != "loss":
        list(module.net.parameters())[0 if term == "first" else -1].register_hook(spoil)
    keep = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True)
    trainer = small_trainer(callbacks=[keep])
    data = digits(train_samples=96, batch_size=16)
    with pytest.raises(
        NotFiniteError, match=re.escape(f"{TRAIN[term]} is not finite at step {step + 1} ")
    ):
        trainer.fit(module, datamodule=data)
    parameters = dict(module.net.named_parameters())
    assert all(torch.equal(value, seen[step][name]) for name, value in parameters.items())
    files = list(tmp_path.glob("*.ckpt"))
    assert len(files) == (step >= 3)
    if files:
        held = torch.load(files[0], weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in held.values())


def test_noise_on_which_a_training_diverges_is_no_evidence(digits):
    train = digits(train_samples=96, batch_size=16).train
    recipe, on_cpu = {**SMALL, "learning_rate": 1e30}, {"accelerator": "cpu"}
    fit = dn.noise_fit("darts_v1", train, samples=32, epochs=2, recipe=recipe, trainer=on_cpu)
    assert math.isnan(fit.accuracy)
    assert fit.to_dict()["accuracy"] is None
