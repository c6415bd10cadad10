"""Training with wrong labels: which samples train which network."""

import doctest

import pytest
import torch
import torch.nn.functional as F
from small_runs import ONE_NODE, SMALL, assert_equal_weights, small_module, small_trainer, weights
from torch import nn

import darts_noise as dn
from darts_noise.errors import SettingError
from darts_noise.nets.network import WithAuxiliary
from darts_noise.train import noisy_labels
from darts_noise.train.noisy_labels import BatchLosses, make_selection

LOSSES = torch.tensor([[0.1, 0.9, 0.5, 0.3, 0.7], [0.9, 0.2, 0.6, 0.8, 0.1]])


def batch(epoch=10, wrong_labels=0.0, losses=LOSSES):
    return BatchLosses(losses, torch.zeros(losses.shape[1], dtype=torch.int64), epoch, wrong_labels)


def chosen(name, inputs, **settings):
    return [index.tolist() for index in make_selection({name: settings})(inputs)]


def test_each_network_learns_what_the_other_finds_easy():
    assert chosen("co_teaching", batch(), forget_rate=0.4) == [[1, 2, 4], [0, 2, 3]]
    assert chosen("small_loss", batch(losses=LOSSES[:1]), forget_rate=0.4) == [[0, 2, 3]]


def test_the_forgotten_share_rises_to_the_share_of_wrong_labels():
    losses = torch.rand(1, 100)
    counts = [len(chosen("small_loss", batch(t, 0.4, losses))[0]) for t in (0, 1, 5, 10, 99)]
    assert counts == [100, 96, 80, 60, 60]
    settings = {"forget_rate": 0.2, "gradual_epochs": 2}
    counts = [len(chosen("small_loss", batch(t, 0.4, losses), **settings)[0]) for t in (0, 1, 2, 3)]
    assert counts == [100, 90, 80, 80]
    assert chosen("small_loss", batch(99, losses=losses[:, :1]), forget_rate=0.9) == [[0]]


def test_without_planted_labels_the_share_to_forget_is_asked_for():
    with pytest.raises(SettingError, match="noisy_labels: expected a forget_rate") as refused:
        make_selection("co_teaching")(batch())
    assert refused.value.key == "noisy_labels"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"noisy_labels": "co_teching"}, "model.noisy_labels"),
        ({"noisy_labels": {"small_loss": {"forget_rate": 1.0}}}, "small_loss.forget_rate"),
        ({"noisy_labels": {"small_loss": {"gradual_epochs": 0}}}, "small_loss.gradual_epochs"),
        ({"noisy_labels": {"none": {"forget_rate": 0.1}}}, "model.noisy_labels"),
        ({"noisy_labels": "small_loss", "mixup": 0.2}, "model.noisy_labels"),
        ({"noisy_labels": "co_teaching", "init": "digits"}, "model.init"),
    ],
)
def test_a_bad_setting_is_refused_with_its_key(settings, key):
    with pytest.raises(SettingError) as refused:
        dn.TrainModule(**settings)
    assert refused.value.key.endswith(key)


def linear_module(**settings):
    """A module of linear networks, which take hardly any time."""

    def make():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    return dn.TrainModule(**settings).use(make(), 10, 1, make)


def fitted(data, epochs=2, method="none", trainer=None, **settings):
    module = small_module(ONE_NODE, noisy_labels=method, **settings)
    trainer = small_trainer(epochs, **(trainer or {}))
    trainer.fit(module, datamodule=data)
    return module, trainer


@pytest.mark.parametrize(("method", "optimiser"), [("small_loss", "sgd"), ("co_teaching", "adam")])
def test_a_network_that_forgets_nothing_is_that_of_a_plain_training(method, optimiser, digits):
    """Bit for bit, with drop path and a clipped gradient: a peer disturbs nothing."""
    own = {"drop_path": 0.3, "optimiser": optimiser, "trainer": {"gradient_clip_val": 0.5}}
    few = {"train_samples": 64, "batch_size": 8}
    plain, _ = fitted(digits(**few), **own)
    state = torch.get_rng_state()
    module, _ = fitted(digits(**few), method={method: {"forget_rate": 0.0}}, **own)
    assert_equal_weights(weights(module), weights(plain))
    assert torch.equal(torch.get_rng_state(), state)
    rates = [network.drop_path for network in module.networks]
    assert rates == [0.15] * (2 if method == "co_teaching" else 1)


def test_the_peer_learns_alone_and_from_other_weights(digits):
    """Its weights are those that it gets without the first network: with its clipping alone."""
    method = {"co_teaching": {"forget_rate": 0.0}}
    module = small_module(ONE_NODE, noisy_labels=method, drop_path=0.0)
    start = {name: value.clone() for name, value in module.peer.state_dict().items()}
    assert not torch.equal(start["classifier.weight"], module.net.classifier.weight)
    alone = small_module(ONE_NODE, drop_path=0.0)
    alone.net.load_state_dict(start)
    for each in (module, alone):
        trainer = small_trainer(1, gradient_clip_val=0.5)
        trainer.fit(each, datamodule=digits(train_samples=64, batch_size=8))
    for (name, a), b in zip(module.peer.named_parameters(), alone.net.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_the_losses_are_those_of_the_chosen_samples_with_the_auxiliary_head(monkeypatch):
    method = {"co_teaching": {"forget_rate": 0.5, "gradual_epochs": 1}}
    module = small_module(
        auxiliary_weight=0.4, stem="cifar", in_channels=3, noisy_labels=method, label_smoothing=0.1
    )
    torch.manual_seed(1)
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    outs = [WithAuxiliary(torch.randn(4, 10), torch.randn(4, 10)) for _ in range(2)]
    for network, out in zip(module.networks, outs, strict=True):
        network.forward = lambda images, out=out: out
    monkeypatch.setattr(module, "log", lambda *args, **more: None)
    module.trainer = small_trainer()
    module.trainer.fit_loop.epoch_progress.current.completed = 1

    def loss(logits, index=slice(None), reduction="mean"):
        return F.cross_entropy(logits[index], y[index], label_smoothing=0.1, reduction=reduction)

    easy = [loss(out.logits, reduction="none").argsort()[:2].sort().values for out in outs]
    assert not torch.equal(*easy)
    expected = sum(
        loss(out.logits, index) + 0.4 * loss(out.auxiliary, index)
        for out, index in zip(outs, easy[::-1], strict=True)
    )
    torch.testing.assert_close(module.training_step((x, y), 0), expected)


def test_the_precision_is_the_share_of_right_labels_among_the_chosen(digits):
    class Watched(noisy_labels.SmallLoss):
        def __call__(self, inputs):
            found = super().__call__(inputs)
            seen.append((inputs.labels, found[0]))
            return found

    seen, data = [], digits(wrong_labels=0.4)
    module = linear_module(noisy_labels="small_loss")
    module.selection = Watched(gradual_epochs=1)
    true = []
    step = module.training_step
    module.training_step = lambda batch, batch_idx: true.append(batch[2]) or step(batch, batch_idx)
    trainer = small_trainer(2)
    trainer.fit(module, datamodule=data)
    last = list(zip(seen, true, strict=True))[len(seen) // 2 :]
    right = [(labels == truth)[index] for (labels, index), truth in last]
    assert {len(index) for (_, index), _ in last} == {10}  # of 16
    precision = torch.cat(right).float().mean()
    torch.testing.assert_close(trainer.callback_metrics["train/label_precision"], precision)


def test_selection_finds_the_right_labels(digits):
    """What the method is for: after a few epochs, more of the kept labels are right than of all."""
    data = digits(train_samples=400, wrong_labels=0.4, batch_size=40, validation_fraction=0.0)
    module = linear_module(noisy_labels={"co_teaching": {"gradual_epochs": 2}}, learning_rate=0.02)
    trainer = small_trainer(4)
    trainer.fit(module, datamodule=data)
    assert trainer.callback_metrics["train/label_precision"] > 0.75


def test_another_method_is_one_class(digits, monkeypatch):
    monkeypatch.setattr(noisy_labels, "_METHODS", dict(noisy_labels._METHODS))

    @dn.register_noisy_labels("first_half")
    class FirstHalf(dn.SampleSelection):
        def __call__(self, inputs):
            return [torch.arange(inputs.losses.shape[1] // 2)]

    assert "first_half" in dn.list_noisy_labels()
    with pytest.raises(ValueError, match="registered already"):
        dn.register_noisy_labels("first_half")
    small_trainer(1).fit(linear_module(noisy_labels="first_half"), datamodule=digits())


def test_a_network_of_ones_own_needs_a_second_one():
    module = dn.TrainModule(**SMALL, noisy_labels={"co_teaching": {"forget_rate": 0.2}})
    with pytest.raises(SettingError, match="`make` of a second network"):
        module.use(nn.Linear(2, 2), 2, 1)
    module.use(nn.Linear(2, 2), 2, 1, lambda: nn.Linear(2, 2))
    assert not torch.equal(module.net.weight, module.peer.weight)


def test_a_checkpoint_makes_both_networks(digits, tmp_path):
    data = digits(wrong_labels=0.2, train_samples=32)
    module, trainer = fitted(data, 1, "co_teaching")
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    again = dn.TrainModule.load_from_checkpoint(tmp_path / "c.ckpt")
    for a, b in zip(module.networks, again.networks, strict=True):
        assert all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


def test_mixed_precision(digits):
    trainer = small_trainer(1, precision="bf16-mixed")
    trainer.fit(linear_module(noisy_labels="co_teaching"), datamodule=digits(wrong_labels=0.2))
    assert torch.isfinite(trainer.callback_metrics["train/loss"])


def test_examples():
    assert doctest.testmod(noisy_labels).failed == 0
