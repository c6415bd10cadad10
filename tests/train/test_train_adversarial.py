"""Adversarial training: its steps, its random numbers, and what it is for."""

import pytest
import torch
import torch.nn.functional as F
from small_runs import assert_equal_weights, small_trainer, weights
from torch import nn

import darts_noise as dn
from darts_noise.data.seeds import Stream, generator
from darts_noise.errors import SettingError

EPS, STEPS = 0.1, 3
FEW = {"train_samples": 64, "batch_size": 16, "validation_fraction": 0.0}


def adversarial(norm="linf"):
    """The training of a network with batch norm, at a constant rate."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)]
    own = {"adversarial_eps": EPS, "adversarial_steps": STEPS, "adversarial_norm": norm}
    module = dn.TrainModule(**own, learning_rate_decay=1.0)
    return module.use(nn.Sequential(*layers), 10, 1)


def by_hand(module, data, norm):
    """One epoch: the largest cross-entropy within the ball, in eval mode, and a step of SGD."""
    mean, std = (torch.tensor(x)[:, None, None] for x in vars(data.normalisation).values())
    c, net, stream = module.config, module.net, data.train_stream()
    sgd = torch.optim.SGD(net.parameters(), c.learning_rate, c.momentum, 0, c.weight_decay)
    for k in range(stream.batches_per_epoch):
        images, labels = stream.batch(k)
        pixels = images * std + mean
        random = generator(c.seed, Stream.ADVERSARIAL, 0, k, 0)
        if norm == "linf":
            change = EPS * (2 * torch.rand(pixels.shape, generator=random) - 1)
        else:
            change = torch.randn(pixels.shape, generator=random)
            radii = torch.rand(len(pixels), 1, 1, 1, generator=random) ** (1 / 64)
            change = EPS * radii * F.normalize(change.flatten(1)).reshape(pixels.shape)
        near = (pixels + change).clamp(0, 1)
        net.eval()
        for step in range(STEPS):
            near.requires_grad_()
            loss = F.cross_entropy(net((near - mean) / std), labels, reduction="sum")
            [gradient] = torch.autograd.grad(loss, near)
            length = 0.5 * EPS * (1 - step / STEPS)
            if norm == "linf":
                change = (near.detach() + length * gradient.sign() - pixels).clamp(-EPS, EPS)
            else:
                steepest = F.normalize(gradient.flatten(1)).reshape(pixels.shape)
                change = (near.detach() + length * steepest - pixels).flatten(1)
                change = change.renorm(2, 0, EPS).reshape(pixels.shape)
            near = (pixels + change).clamp(0, 1)
        net.train()
        sgd.zero_grad()
        F.cross_entropy(net((near - mean) / std), labels).backward()
        sgd.step()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_training_is_the_loop_of_madry_et_al(norm, digits):
    data = digits(**FEW)
    ours, other = adversarial(norm), adversarial(norm)
    start = weights(ours)
    small_trainer(1).fit(ours, datamodule=data)
    by_hand(other, data, norm)
    parameters = dict(other.net.named_parameters())
    for name, value in ours.net.named_parameters():
        torch.testing.assert_close(value, parameters[name], rtol=1e-3, atol=1e-5)
        assert not torch.equal(value, start[name])


def test_an_attack_leaves_the_network_and_all_other_random_numbers_as_they_are(digits):
    data, module = digits(**FEW), adversarial()
    images, labels = data.train_stream().batch(0)
    before, state = weights(module), torch.get_rng_state()
    module.net.eval()
    module.net[1].train()  # mixed modes
    modes = [m.training for m in module.net.modules()]

    def attacked(*number):
        return module.adversary(module.net, images, labels, data.normalisation, *number)

    first = attacked(0, 1, 0)
    assert torch.equal(first, attacked(0, 1, 0))
    assert not torch.equal(first, attacked(1, 1, 0))
    assert_equal_weights(weights(module), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in module.net.modules()] == modes
    assert all(p.grad is None for p in module.parameters())
    alone = module.adversary(module.net, images[:1], labels[:1], data.normalisation, 0, 1, 0)
    torch.testing.assert_close(alone, first[:1])  # whatever the other images are


def test_the_network_resists_attacks_better(digits):
    data = digits(train_samples=600, batch_size=100, validation_fraction=0.0)
    accuracies = []
    for eps in (0.0, 0.2):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        own = {"adversarial_eps": eps, "adversarial_steps": 4}
        module = dn.TrainModule(optimiser="adam", adam_learning_rate=1e-2, **own).use(net, 10, 1)
        small_trainer(16).fit(module, datamodule=data)
        attack = {"attacks": ("pgd",), "eps": (0.15,), "steps": 10, "starts": 1, "samples": 200}
        accuracies.append(dn.attack(net, data, **attack).accuracy())
    (clean, robust), (clean_adversarial, robust_adversarial) = accuracies
    assert min(clean, clean_adversarial) > 0.8
    assert robust_adversarial > robust + 0.2


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"adversarial_eps": -0.1}, "adversarial_eps"),
        ({"adversarial_eps": float("nan")}, "adversarial_eps"),
        ({"adversarial_steps": 0}, "adversarial_steps"),
        ({"adversarial_norm": "l1"}, "adversarial_norm"),
        ({"adversarial_eps": 0.1, "mixup": 0.2}, "adversarial_eps"),
        ({"adversarial_eps": 0.1, "cutmix": 0.2}, "adversarial_eps"),
        ({"adversarial_eps": 0.1, "noisy_labels": "small_loss"}, "adversarial_eps"),
    ],
)
def test_a_bad_setting_is_refused_with_its_key(settings, key):
    with pytest.raises(SettingError) as refused:
        dn.TrainConfig(**settings)
    assert refused.value.key == key


def test_data_without_a_known_normalisation_are_refused():
    loader = torch.utils.data.DataLoader([(torch.zeros(1, 8, 8), 0)] * 2, 2)
    with pytest.raises(SettingError, match="without an ImageDataModule"):
        small_trainer(1).fit(adversarial(), loader)
