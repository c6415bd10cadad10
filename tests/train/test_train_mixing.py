"""MixUp and CutMix: labels have the shares of the pixels, drawn from seed and number."""

import pytest
import torch
import torch.nn.functional as F
from small_runs import small_module, small_trainer

from darts_noise.data.batches import EpochLoader
from darts_noise.train.mixing import BatchMixing


def constant_images(B=6, side=12):
    """Image i has the value i everywhere and the label i, so that a pixel tells its origin."""
    labels = torch.arange(B)
    return labels.float()[:, None, None, None].expand(B, 3, side, side).clone(), labels


def shares_of_pixels(images):
    """(B, B): which share of image i's pixels, or of each pixel, came from image j.

    Computed from the values alone: with partner p, the mean over the pixels of a mixed image i is
    (1 - s) i + s p, for MixUp and for CutMix alike.
    """
    B = len(images)
    i = torch.arange(B)
    partner = i.roll(1)
    s = (images.mean((1, 2, 3)) - i) / (partner - i)
    return torch.diag(1 - s) + torch.zeros(B, B).index_put((i, partner), s)


@pytest.mark.parametrize(("mixup", "cutmix"), [(1.0, 0.0), (0.0, 1.0), (0.4, 0.4)])
def test_labels_are_the_combination_that_the_pixels_are(mixup, cutmix):
    mixing = BatchMixing(mixup, cutmix, num_classes=6, seed=0)
    images, labels = constant_images()
    shares = set()
    for number in range(20):
        mixed, targets = mixing(images, labels, number)
        torch.testing.assert_close(targets, shares_of_pixels(mixed), rtol=0, atol=1e-5)
        torch.testing.assert_close(targets.sum(1), torch.ones(6))
        shares.add(round(targets[0, 0].item(), 6))
    assert len(shares) > 9
    assert torch.equal(images, constant_images()[0])  # the caller's batch is left alone


def test_each_way_mixes_as_its_name_says_and_both_take_turns():
    def whole_pixels(mixup, cutmix, number):
        mixed, _ = BatchMixing(mixup, cutmix, 6, seed=0)(*constant_images(), number)
        return torch.equal(mixed, mixed.round())

    numbers = range(60)
    assert all(whole_pixels(0.0, 1.0, n) for n in numbers)  # CutMix
    assert not any(whole_pixels(1.0, 0.0, n) for n in numbers)  # MixUp
    assert 15 < sum(whole_pixels(1.0, 1.0, n) for n in numbers) < 45  # 30 ± 4 σ


def test_the_share_is_drawn_from_the_beta():
    """Var of Beta(α, α) is 1 / (4 (2α + 1)): a small α mixes little, a large one half and half."""
    images, labels = constant_images(B=2, side=1)
    for alpha in (0.2, 1.0, 8.0):
        mixing = BatchMixing(alpha, 0.0, 2, seed=1)
        drawn = torch.stack([mixing(images, labels, n)[1][0, 0] for n in range(500)])
        expected = 1 / (4 * (2 * alpha + 1))
        assert drawn.var().item() == pytest.approx(expected, rel=0.2)
        assert drawn.mean().item() == pytest.approx(0.5, abs=4 * (expected / 500) ** 0.5)


def test_it_depends_on_seed_and_number_alone_and_disturbs_no_other_draw():
    images, labels = constant_images()

    def drawn(seed, *number):
        return BatchMixing(1.0, 1.0, 6, seed)(images, labels, *number)[1]

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = drawn(0, 3, 4, 0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(first, drawn(0, 3, 4, 0))
    for other in [(1, 3, 4, 0), (0, 4, 4, 0), (0, 3, 5, 0), (0, 3, 4, 1)]:
        assert not torch.equal(first, drawn(*other))


@pytest.mark.parametrize("number", range(4))
def test_loss_smooths_the_mixed_labels_and_accuracy_takes_the_stronger_one(number):
    module = small_module(mixup=1.0, label_smoothing=0.1, seed=5)
    x, y = torch.randn(6, 1, 8, 8), torch.arange(6)
    images, targets = BatchMixing(1.0, 0.0, 10, seed=5)(x, y, 0, number, 0)
    stronger = y if targets[0, 0] > 0.5 else y.roll(1)
    logits = torch.randn(6, 10) + 10 * F.one_hot(stronger, 10)
    seen = []
    module.net.forward = lambda images: seen.append(images) or logits
    loss = module.training_step((x, y), number)
    assert torch.equal(seen[0], images)
    smoothed = 0.9 * targets + 0.01
    torch.testing.assert_close(loss, -(smoothed * logits.log_softmax(-1)).sum(-1).mean())
    assert module.metrics.collect("train")["train/accuracy"] == 1


def test_no_two_batches_of_a_run_have_the_same_number(digits):
    module = small_module(mixup=1.0)
    numbers, mixing = [], module.mixing
    module.mixing = lambda x, y, *number: numbers.append(number) or mixing(x, y, *number)
    small_trainer(2, accumulate_grad_batches=3).fit(module, datamodule=digits())
    assert numbers == [(epoch, k, 0) for epoch in range(2) for k in range(3)]


def test_the_auxiliary_head_learns_the_mixed_labels_too():
    module = small_module(cutmix=1.0, auxiliary_weight=0.4, stem="cifar", in_channels=3)
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    torch.manual_seed(0)
    loss = module.training_step((x, y), 0)
    images, targets = BatchMixing(0.0, 1.0, 10, seed=0)(x, y, 0, 0, 0)
    logits, auxiliary = module.net(images)
    expected = F.cross_entropy(logits, targets) + 0.4 * F.cross_entropy(auxiliary, targets)
    torch.testing.assert_close(loss, expected)


def test_evaluation_is_not_mixed(digits):
    data = digits()
    images = data.normalisation(data.test.images)
    results = []
    for settings in ({}, {"mixup": 1.0, "cutmix": 1.0}):
        module = small_module(**settings)
        seen = []
        module.net.register_forward_pre_hook(lambda net, args, seen=seen: seen.append(args[0]))
        loader = EpochLoader(data.test_dataloader().stream)
        results += small_trainer().test(module, loader, verbose=False)
        assert torch.equal(torch.cat(seen), images)
    assert results[0] == results[1]
