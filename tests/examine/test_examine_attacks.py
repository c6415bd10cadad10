"""Attacks: they stay inside their limits, find what an independent library finds, and warn."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import darts_noise as dn
from darts_noise.attacks.gradient import advantage
from darts_noise.attacks.pixels import Ball, OnPixels
from darts_noise.attacks.square import _move_mass, _peak
from darts_noise.data.images import Normalisation
from darts_noise.data.seeds import generator
from darts_noise.examine.attacks import BY_NAME, attack_images
from darts_noise.examine.certificates import certified_radii
from darts_noise.nets.gain import Scaled

QUICK = dn.AttackConfig(steps=10, starts=1, queries=30, samples=None)


def linear():
    """A linear network on pixels: the least-squares fit to the classes. It hides no gradient."""
    train = dn.load_dataset("digits").train
    pixels = train.images.flatten(1).float() / 255
    known = torch.cat([pixels, torch.ones(len(pixels), 1)], dim=1).double()
    found = torch.linalg.lstsq(known, nn.functional.one_hot(train.labels, 10).double()).solution
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    net[1].weight.data, net[1].bias.data = found[:-1].T.float(), found[-1].float()
    return net


def digits(count=40, net=None):
    """A network of digits on pixels, by default the shipped one, and images that it knows."""
    trained, test = dn.pretrained_config("digits").images, dn.load_dataset("digits").test
    normalisation = Normalisation(trained.mean, trained.std)
    net = net or OnPixels(dn.load_pretrained("digits"), normalisation)
    images, labels = test.images[:count].float() / 255, test.labels[:count]
    right = net(images).argmax(1) == labels
    return net, images[right], labels[right]


def classes(net, images):
    with torch.no_grad():
        return net(images).argmax(1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", BY_NAME)
def test_a_change_is_within_its_limit_and_the_pixels_are_valid(norm, name):
    net, images, labels = digits()
    for size in (0.05, 0.6):
        ball = Ball(norm, size)
        near = BY_NAME[name](net, images, labels, ball, QUICK, generator(0))
        change = (near - images).flatten(1)
        order = float("inf") if norm == "linf" else 2
        assert 0 < torch.linalg.vector_norm(change, order, dim=1).max() <= size * (1 + 1e-5)
        assert near.min() >= 0
        assert near.max() <= 1
        inside = images + 0.5 * (near - images)
        torch.testing.assert_close(ball.project(inside, images), inside)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_linear_network_every_gradient_attack_finds_the_best_change(norm):
    """Which is known: the dual norm of the difference of two rows."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    images = 0.5 + 0.01 * torch.randn(40, 3, 2, 2)
    labels = classes(net, images)
    logits, row = net(images).detach(), (net[1].weight[0] - net[1].weight[1]).detach()
    dual = row.abs().sum() if norm == "linf" else row.norm()
    limits = (logits[:, 0] - logits[:, 1]).abs() / dual
    size = float(limits.median())
    for name in ("fgsm", "pgd"):
        near = BY_NAME[name](net, images, labels, Ball(norm, size), QUICK, generator(0))
        clear = (limits / size - 1).abs() > 0.02
        assert torch.equal((classes(net, near) != labels)[clear], (limits < size)[clear])


def test_the_advantage_has_the_direction_of_cross_entropy_and_is_not_rounded_to_zero():
    torch.manual_seed(0)
    labels = torch.arange(4)
    for scale, lost in ((1.0, False), (1e4, True)):
        logits = (scale * (torch.eye(4, 5) + 0.1 * torch.rand(4, 5))).requires_grad_()
        [mine] = torch.autograd.grad(advantage(logits, labels).sum(), logits)
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
        [usual] = torch.autograd.grad(loss, logits)
        assert (usual.abs().sum() == 0) == lost
        if not lost:
            torch.testing.assert_close(
                nn.functional.normalize(mine, dim=1), nn.functional.normalize(usual, dim=1)
            )
        assert (mine.norm(dim=1) > 1).all()


@pytest.mark.parametrize("side", [3, 4, 6])
def test_a_moved_square_uses_the_whole_limit_and_leaves_the_rest(side):
    random = generator(0)
    change = 0.01 * torch.randn(50, 3, 6, 7)
    moved = _move_mass(change, side, 0.8, random)
    torch.testing.assert_close(moved.flatten(1).norm(dim=1), torch.full((50,), 0.8))
    kept = (moved == change).all(1).flatten(1).sum(1)
    assert (kept >= 42 - 2 * side**2).all()
    assert float(_peak(side).norm()) == pytest.approx(1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_attack_beats_a_certificate(norm):
    net, images, labels = digits(20)
    radii = certified_radii(net.net, net.normalisation, images)
    config = replace(QUICK, norm=norm, eps=tuple(radii.quantile(torch.tensor([0.2, 1.0]).double())))
    found = attack_images(net, images, labels, config, radii)
    assert (found.strongest > found.radii).all()
    for certain, robust in zip(found.certified(), found.accuracy(), strict=True):
        assert certain <= robust
    assert (found.certified()[1] > 0.5) == (norm == "l2")


def test_accuracy_falls_with_eps_and_the_strongest_attack_is_the_worst_of_each_image():
    net, images, labels = digits(net=linear())
    labels = labels.clone()
    labels[0] = (labels[0] + 1) % 10  # wrong without an attack
    found = attack_images(net, images, labels, replace(QUICK, eps=(0.2, 0.05)))
    assert found.eps == (0.05, 0.2)
    assert found.accuracy()[0] == 1 - 1 / len(images)
    for name in (None, *found.smallest):
        accuracy = found.accuracy(name)
        assert list(accuracy) == sorted(accuracy, reverse=True)
        assert all(a >= b for a, b in zip(accuracy, found.accuracy(), strict=True))
    assert found.radii is None
    assert found.unlimited == 0
    assert not found.warnings
    again = attack_images(net, images, labels, replace(QUICK, eps=(0.2, 0.05), attacks=("pgd",)))
    assert torch.equal(again.smallest["pgd"], found.smallest["pgd"])


class Rounding(nn.Module):
    """A network without useful gradients: it rounds the pixels first."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, pixels):
        return self.net((4 * pixels).round() / 4 + 0 * pixels)


def test_masked_gradients_are_seen():
    net, images, labels = digits()
    masked = Rounding(net).eval()
    right = classes(masked, images) == labels
    config = replace(QUICK, eps=(0.2, 0.4), queries=150)
    found = attack_images(masked, images[right], labels[right], config)
    assert len(found.warnings) == 2
    assert all("masked" in warning for warning in found.warnings)
    assert found.unlimited > 0.02


def test_a_constant_network_has_no_masked_gradients():
    """It resists every attack, because nothing changes its answer."""
    _, images, labels = digits()
    constant = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 10)).eval()
    nn.init.zeros_(constant[1].weight)
    assert attack_images(constant, images, labels, replace(QUICK, eps=(0.2,))).warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_independent_library_finds_no_more(norm):
    """The Adversarial Robustness Toolbox, on the same network and images, at the same effort."""
    evasion = pytest.importorskip(
        "art.attacks.evasion", reason="needs the Adversarial Robustness Toolbox of the extra `dev`"
    )
    from art.estimators.classification import PyTorchClassifier

    net, images, labels = digits(150)
    # With its own logit scale, the cross-entropy of the library is rounded to 0.
    net = Scaled(net, 1 / 64).eval()
    size, order = (0.1, float("inf")) if norm == "linf" else (0.5, 2)
    theirs = PyTorchClassifier(net, nn.CrossEntropyLoss(), images.shape[1:], 10, clip_values=(0, 1))
    config = replace(QUICK, steps=40)
    settings = {"norm": order, "eps": size, "batch_size": 150}
    step = 2.5 * size / config.steps
    for name, attack in (
        ("fgsm", evasion.FastGradientMethod(theirs, **settings)),
        (
            "pgd",
            evasion.ProjectedGradientDescent(
                theirs, eps_step=step, max_iter=40, num_random_init=1, verbose=False, **settings
            ),
        ),
    ):
        near = BY_NAME[name](net, images, labels, Ball(norm, size), config, generator(0))
        other = torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))
        mine, known = (classes(net, x) != labels for x in (near, other))
        assert mine.sum() >= known.sum() - 2
        assert 0.02 < mine.float().mean() < 0.98
        if name == "fgsm":  # the same images, except where a gradient is almost 0
            same = (near - other).flatten(1).norm(dim=1) < 1e-4
            assert same.float().mean() > 0.9


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"norm": "l1"}, "norm: .*linf"),
        ({"attacks": ("pdg",)}, "attacks: .*did you mean 'pgd'"),
        ({"attacks": ()}, "attacks: expected one of"),
        ({"eps": (0.1, 0.0)}, "eps: expected more than 0"),
        ({"eps": (float("nan"),)}, "eps: expected more than 0"),
        ({"steps": 0}, "steps: expected 1 or more, got 0"),
        ({"stepz": 3}, "stepz: .*did you mean 'steps'"),
    ],
)
def test_a_wrong_setting_is_named(settings, problem):
    with pytest.raises(dn.SettingError, match=problem):
        dn.attack("digits", **settings)
