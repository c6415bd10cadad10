"""The moving average of the weights: its recurrence, where it is used, kept and resumed."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import ModelCheckpoint
from small_runs import assert_equal_weights, small_module, small_trainer, weights

from darts_noise.data.batches import BatchStream, EpochLoader
from darts_noise.train import module as training


class History(pl.Callback):
    """Keeps the weights after each step, and those that validation runs on."""

    def __init__(self):
        self.steps, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step > len(self.steps):
            self.steps.append(weights(pl_module))

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.validated.append(weights(pl_module))


def average(steps, decay):
    """The textbook sum: decay^(T-1) w_1 + (1 - decay) Σ_{t>1} decay^(T-t) w_t."""
    T = len(steps)
    return {
        name: decay ** (T - 1) * steps[0][name]
        + (1 - decay) * sum(decay ** (T - 1 - t) * steps[t][name] for t in range(1, T))
        for name, value in steps[0].items()
        if value.is_floating_point()
    }


def floating(state):
    return {k: v for k, v in state.items() if v.is_floating_point()}


@pytest.fixture
def arrived(monkeypatch):
    """Keeps the running averages of batch norms, as after many steps."""
    monkeypatch.setattr(training, "FEW_STEPS", 0)


CLOSE = {"rtol": 1e-4, "atol": 1e-6}


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_after_few_steps_the_average_has_statistics_of_its_own(digits, share):
    """Also without a validation: batch norms keep the statistics of the averaged weights."""
    data = digits(train_samples=128, validation_fraction=share)
    module = small_module(ema_decay=0.98, learning_rate=0.05)
    small_trainer(2, []).fit(module, datamodule=data)
    kept = {k: v.clone() for k, v in module.net.state_dict().items() if "running" in k}
    module._recompute_statistics()
    for name, value in module.net.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(value, kept[name])


@pytest.mark.usefixtures("arrived")
@pytest.mark.parametrize("accumulated", [1, 2])
def test_it_is_the_closed_form_and_what_is_evaluated(digits, accumulated):
    """Weights and BN statistics, for validation, after the training and for the test."""
    data = digits(train_samples=128)  # 64 are for training: 4 batches
    module, seen = small_module(ema_decay=0.8, learning_rate=0.05), History()
    trainer = small_trainer(2, [seen], accumulate_grad_batches=accumulated)
    trainer.fit(module, datamodule=data)
    per_epoch = 4 // accumulated
    assert len(seen.steps) == 2 * per_epoch
    for epoch, validated in enumerate(seen.validated):
        steps = seen.steps[: (epoch + 1) * per_epoch]
        assert_equal_weights(average(steps, 0.8), floating(validated), **CLOSE)
    final = weights(module)
    assert_equal_weights(average(seen.steps, 0.8), floating(final), **CLOSE)
    [result] = trainer.test(module, datamodule=data, verbose=False)
    assert_equal_weights(final, weights(module))
    module.eval()
    with torch.no_grad():
        logits = module(data.normalisation(data.test.images))
    loss = F.cross_entropy(logits, data.test.labels).item()
    assert result["test/loss"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.usefixtures("arrived")
def test_it_does_not_change_the_training(digits):
    plain, averaged = History(), History()
    for decay, seen in ((0.0, plain), (0.9, averaged)):
        small_trainer(2, [seen]).fit(small_module(ema_decay=decay), datamodule=digits())
    for a, b in zip(plain.steps, averaged.steps, strict=True):
        assert_equal_weights(a, b)
    assert_equal_weights(plain.steps[-1], plain.validated[-1])


@pytest.mark.parametrize("stop", ["within an epoch", "between epochs"])
def test_a_resumed_run_ends_as_an_unbroken_one(digits, tmp_path, stop):
    """With everything on that is random or has a state: average, mixing, schedule, drop path."""
    data = digits(crop_padding=0)
    in_order = BatchStream(data.train, 16, data.normalisation, shuffle=False)
    settings = {"ema_decay": 0.8, "mixup": 1.0, "cutmix": 1.0, "learning_rate": 0.05}
    settings |= {"drop_path": 0.0, "learning_rate_decay": 0.7}
    when = {"every_n_train_steps": 5} if stop == "within an epoch" else {"every_n_epochs": 1}
    keep = ModelCheckpoint(
        tmp_path, "{step}", save_top_k=-1, save_on_train_epoch_end="every_n_epochs" in when, **when
    )
    unbroken, seen = small_module(**settings), History()
    small_trainer(3, [seen, keep]).fit(unbroken, EpochLoader(in_order))  # 3 batches an epoch
    step = 5 if stop == "within an epoch" else 3
    path = tmp_path / f"step={step}.ckpt"

    held = torch.load(path, weights_only=True)
    saved = {k.removeprefix("net."): v for k, v in held["state_dict"].items()}
    assert saved.keys() == unbroken.net.state_dict().keys()
    assert_equal_weights(average(seen.steps[:step], 0.8), floating(saved), **CLOSE)

    resumed, rest = small_module(**settings), History()
    rest.steps = seen.steps[:step]
    torch.manual_seed(123)  # what was random before the stop is gone
    small_trainer(3, [rest]).fit(resumed, EpochLoader(in_order), ckpt_path=path, weights_only=True)
    assert len(rest.steps) == 9
    for a, b in zip(seen.steps, rest.steps, strict=True):
        assert_equal_weights(a, b)
    assert_equal_weights(weights(unbroken), weights(resumed))


def test_drop_path_is_scheduled_in_a_run_that_resumes_within_an_epoch(digits, tmp_path):
    rates = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            rates.append(pl_module.net.drop_path)

    keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=5)
    module = small_module(drop_path=0.3)
    small_trainer(3, [keep]).fit(module, datamodule=digits())
    path = tmp_path / "step=5.ckpt"
    trainer = small_trainer(3, [Watch()])
    trainer.fit(small_module(drop_path=0.3), datamodule=digits(), ckpt_path=path, weights_only=True)
    assert rates == pytest.approx([0.1, 0.2, 0.2, 0.2])
