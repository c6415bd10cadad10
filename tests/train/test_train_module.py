"""Training of the discrete network: its loss, schedules and evaluation."""

import statistics

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from small_runs import (
    ONE_NODE,
    SMALL,
    assert_equal_weights,
    small_module,
    small_trainer,
    weights,
)
from torch import nn

import darts_noise as dn
from darts_noise.nets.network import WithAuxiliary
from darts_noise.report.measured import count_parameters
from darts_noise.train import module as training
from darts_noise.train.factories import make_network


def fitted(data, epochs=2, callbacks=(), **settings):
    module = small_module("darts_v1", data.num_classes, data.in_channels, **settings)
    trainer = small_trainer(epochs, callbacks)
    trainer.fit(module, datamodule=data)
    return module, trainer


def short_fit(monkeypatch, digits, steps=100, **settings):
    """A training of two epochs with 20 steps each; its test accuracy and its module."""
    monkeypatch.setattr(training, "FEW_STEPS", steps)
    data = digits(train_samples=640, batch_size=32, validation_fraction=0.0)
    module, trainer = fitted(data, learning_rate=0.05, **settings)
    return trainer.test(module, datamodule=data, verbose=False)[0]["test/accuracy"], module, data


def test_a_short_training_is_tested_with_batch_norms_of_its_images(monkeypatch, digits):
    """Running averages that start at 0 and 1 have not arrived after 40 steps."""
    lagging, plain, _ = short_fit(monkeypatch, digits, steps=0)
    accuracy, module, data = short_fit(monkeypatch, digits)
    assert accuracy > lagging + 0.05
    for (name, a), b in zip(module.net.named_parameters(), plain.net.parameters(), strict=True):
        assert torch.equal(a, b), name  # training itself uses the statistics of a batch
    # The statistics are the mean over the training images, and part of the weights.
    stem = next(m for m in module.net.modules() if isinstance(m, nn.BatchNorm2d))
    seen = []
    stem.register_forward_hook(lambda norm, inputs, out: seen.append(inputs[0].detach()))
    module(data.normalisation(data.train.images))
    torch.testing.assert_close(stem.running_mean, seen[0].mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_validation_and_checkpoint_have_the_same_statistics(digits, tmp_path):
    keep = pl.callbacks.ModelCheckpoint(tmp_path, monitor="val/accuracy", mode="max")
    data = digits(train_samples=320, batch_size=32)
    fitted(data, callbacks=[keep], learning_rate=0.05)
    best = dn.TrainModule.load_from_checkpoint(keep.best_model_path)
    logits = best.eval()(data.normalisation(data.validation.images))
    accuracy = (logits.argmax(1) == data.validation.labels).float().mean().item()
    assert accuracy == pytest.approx(float(keep.best_model_score))


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


def test_the_rate_falls_by_a_factor_after_each_epoch(digits):
    """ImageNet's schedule of DARTS (arXiv:1806.09055, appendix A.3)."""
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    fitted(digits(), 3, [Watch()], learning_rate=0.1, learning_rate_decay=0.97)
    assert seen == pytest.approx([0.1] * 3 + [0.097] * 3 + [0.1 * 0.97**2] * 3)


def test_two_half_batches_accumulated_are_one_whole_batch(digits):
    """With clipping at work and the cosine by epochs; batch norms keep their statistics, since
    those of a half differ from those of the whole."""
    results = []
    for batch_size, accumulated in ((16, 1), (8, 2)):
        data = digits(train_samples=96, validation_fraction=0.0, batch_size=batch_size)
        module = small_module(drop_path=0.0, learning_rate=0.1)
        start = weights(module)
        for layer in module.net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
        rates, norms = [], []

        class Watch(pl.Callback):
            def on_before_optimizer_step(
                self, trainer, pl_module, optimizer, rates=rates, norms=norms
            ):
                gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
                norms.append(torch.nn.utils.get_total_norm(gradients).item())
                rates.append(optimizer.param_groups[0]["lr"])

        trainer = small_trainer(
            3,
            [Watch()],
            accumulate_grad_batches=accumulated,
            gradient_clip_val=0.5,
            precision="64-true",
        )
        trainer.fit(module, datamodule=data)
        assert trainer.global_step == 18
        results.append((weights(module), rates, norms))
    (whole, rates, norms), (halves, half_rates, half_norms) = results
    assert max(norms) > 0.5  # some gradients are clipped
    assert half_norms == pytest.approx(norms)
    assert rates == half_rates
    assert rates == pytest.approx([0.1] * 6 + [0.075] * 6 + [0.025] * 6)
    assert_equal_weights(whole, halves, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(start["classifier.weight"].double(), whole["classifier.weight"])


@pytest.mark.parametrize("cell", ["darts_v1", ONE_NODE], ids=["darts_v1", "one node"])
def test_the_parameters_decide_the_channels(cell):
    """In the training and in the measurement of noise alike; the weights are that width's."""
    module = small_module(cell, parameters=20_000, channels=4)
    channels = module.config.channels
    counts = [count_parameters(small_module(cell, channels=channels + d).net) for d in (-1, 0, 1)]
    assert min(counts, key=lambda count: abs(count - 20_000)) == count_parameters(module.net)
    assert_equal_weights(weights(module), weights(small_module(cell, channels=channels)))
    measured = make_network(
        dn.load_genotype(cell), 10, 1, dn.TrainConfig(**SMALL, parameters=20_000)
    )
    assert count_parameters(measured) == counts[1]


@pytest.mark.parametrize("parameters", [3, 10**11])
def test_parameters_out_of_reach_are_refused(parameters):
    with pytest.raises(ValueError, match=f"parameters: expected about .*, got {parameters:,}"):
        small_module(ONE_NODE, parameters=parameters)


def test_channels_last_changes_the_memory_and_not_the_logits():
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    results = []
    for channels_last in (False, True):
        settings = {"stem": "cifar", "auxiliary_weight": 0.4, "in_channels": 3, "mixup": 1.0}
        module = small_module(channels_last=channels_last, **settings)
        seen = []
        stem = module.net.stem.layers[0]
        stem.register_forward_pre_hook(lambda layer, args, seen=seen: seen.append(args[0]))
        loss = module.training_step((x, y), 0)
        module.eval()
        results.append((module(x), loss))
        formats = [t.is_contiguous(memory_format=torch.channels_last) for t in [*seen, stem.weight]]
        assert formats == [channels_last] * 3
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize("key", ["drop_path", "label_smoothing", "ema_decay"])
@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_shares_are_checked(key, value):
    with pytest.raises(ValueError, match=f"model.{key}: expected 0 or more and less than 1"):
        dn.TrainModule(**{key: value})


@pytest.mark.parametrize(
    "key",
    [
        "learning_rate",
        "momentum",
        "weight_decay",
        "auxiliary_weight",
        "mixup",
        "cutmix",
    ],
)
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_amounts_are_checked(key, value):
    with pytest.raises(ValueError, match=f"model.{key}: expected 0 or more, got {value}"):
        dn.TrainModule(**{key: value})


@pytest.mark.parametrize("value", [0.0, -0.5, 1.1, float("nan")])
def test_the_factor_on_the_rate_is_checked(value):
    expected = f"model.learning_rate_decay: expected more than 0 and at most 1, got {value}"
    with pytest.raises(ValueError, match=expected):
        dn.TrainModule(learning_rate_decay=value)


def test_everything_beyond_the_paper_is_off_by_default(digits):
    config = dn.TrainModule().config
    for key in ("mixup", "cutmix", "ema_decay", "compile"):  # channels_last changes no figure
        assert not getattr(config, key)
    assert config.learning_rate_decay is None
    module, trainer = fitted(digits(), 1)
    assert module.mixing is None
    assert module.compiled == []
    assert not any(isinstance(c, pl.callbacks.WeightAveraging) for c in trainer.callbacks)


def test_it_builds_its_network_for_the_trainers_data(digits):
    module = dn.TrainModule("darts_v2", channels=4, num_cells=3, stem="small", auxiliary_weight=0)
    trainer = pl.Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(module, datamodule=digits())
    assert module.net.genotype == dn.load_genotype("darts_v2")
    with pytest.raises(ValueError, match=r"TrainModule\(genotype=\.\.\.\)"):
        trainer.fit(dn.TrainModule(), datamodule=digits())


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_figures_of_another_precision_are_summed_exactly(digits, precision):
    """In bfloat16, a sum above 256 would not change by 1."""
    pl.seed_everything(0, verbose=False)
    losses, dtypes = [], set()

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            losses.append(outputs["loss"].item())
            dtypes.add(module.metrics.splits["train_split"]["loss"].mean_value.dtype)

    data = digits(train_samples=1000, batch_size=4, validation_fraction=0.1)
    form = {"channels": 2, "num_cells": 3, "stem": "small", "auxiliary_weight": 0}
    module = dn.TrainModule("darts_v1", adversarial_eps=0.01, adversarial_steps=1, **form)
    more = {"logger": False, "enable_checkpointing": False, "callbacks": [Watch()]}
    trainer = pl.Trainer(max_epochs=1, precision=precision, accelerator="cpu", **more)
    trainer.fit(module, datamodule=data)
    assert len(losses) == 225
    assert dtypes == {torch.float32}
    mean = trainer.callback_metrics["train/loss"].item()
    assert mean == pytest.approx(statistics.fmean(losses), rel=2e-3)


def test_a_limit_of_steps_shortens_the_schedules_of_sgd_and_drop_path(digits):
    seen = {"rate": [], "drop": []}

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if batch_idx == 0:
                seen["rate"].append(trainer.optimizers[0].param_groups[0]["lr"])
                seen["drop"].append(module.net.drop_path)

    ways = []
    steps = {"max_steps": 4 * 2}
    for limit in ({"max_epochs": 4}, {"max_epochs": 600, **steps}, {"max_epochs": -1, **steps}):
        seen = {"rate": [], "drop": []}
        data = digits(train_samples=160, batch_size=64, validation_fraction=0.2)
        module = dn.TrainModule(
            "darts_v1", channels=2, num_cells=3, stem="small", auxiliary_weight=0, drop_path=0.4
        )
        more = {"logger": False, "enable_checkpointing": False, "callbacks": [Watch()]}
        pl.Trainer(**limit, accelerator="cpu", **more).fit(module, datamodule=data)
        ways.append(seen)
    for key in seen:
        for way in ways[1:]:
            assert way[key] == pytest.approx(ways[0][key], rel=1e-6), key
    assert len(seen["rate"]) == 4
    assert seen["drop"] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_a_head_for_which_the_images_are_too_small_is_left_out(digits, tmp_path):
    """By default there is a head; a checkpoint knows that this network has none."""
    data = digits(train_samples=160)
    module = dn.TrainModule("darts_v1", channels=4, num_cells=3)
    trainer = pl.Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(module, datamodule=data)
    assert module.net.auxiliary is None
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    dn.TrainModule.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    more = {"trainer": {"accelerator": "cpu"}, "samples": 20, "epochs": 1}
    assert dn.noise_fit("darts_v1", data.train, **more).accuracy < 1


def test_a_checkpoint_alone_gives_the_trained_network(digits, tmp_path):
    module, trainer = fitted(digits(), 1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = dn.TrainModule.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(loaded.net.eval()(x), module.net.eval()(x))


def test_any_network_is_trained_and_its_checkpoint_says_what_it_needs(digits, tmp_path):
    data = digits(train_samples=400)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    module = dn.TrainModule(learning_rate=0.1).use(net, data.num_classes, data.in_channels)
    trainer = small_trainer(5)
    trainer.fit(module, datamodule=data)
    [result] = trainer.test(module, datamodule=data, verbose=False)
    assert result["test/accuracy"] > 0.8
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="call use again"):
        dn.TrainModule.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    again = dn.TrainModule().use(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), 10, 1)
    again.load_state_dict(state)
    assert_equal_weights(weights(again), weights(module))
