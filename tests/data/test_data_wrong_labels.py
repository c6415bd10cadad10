"""Planted wrong labels: how many, which, and only among the training images."""

import pytest
import torch

import darts_noise as dn
from darts_noise.data.batches import EpochLoader
from darts_noise.data.images import LabelledImages
from darts_noise.data.wrong_labels import with_wrong_labels

LABELS = torch.arange(3000) % 10
DATA = LabelledImages(
    torch.zeros(3000, 1, 2, 2, dtype=torch.uint8), LABELS, tuple(map(str, range(10)))
)


@pytest.mark.parametrize("share", [0.2, 0.45, 0.6])
def test_a_pairwise_wrong_label_is_the_next_class(share):
    made = with_wrong_labels(DATA, share, "pairwise", seed=0)
    wrong = made.labels != LABELS
    assert wrong.sum() == round(3000 * share)
    assert torch.equal(made.labels[wrong], (LABELS[wrong] + 1) % 10)
    assert torch.equal(made.true_labels, LABELS)
    assert torch.equal(made.with_true_labels().labels, LABELS)


def test_a_symmetric_wrong_label_is_each_other_class_equally_often():
    made = with_wrong_labels(DATA, 0.6, "symmetric", seed=0)
    wrong = made.labels != LABELS
    assert wrong.sum() == 1800
    steps = torch.bincount((made.labels - LABELS)[wrong] % 10, minlength=10)
    assert steps[0] == 0
    assert (steps[1:] - 200).abs().max() < 4 * 200**0.5
    classes = torch.bincount(LABELS[wrong], minlength=10)
    assert (classes - 180).abs().max() < 4 * 180**0.5


def test_the_seed_decides_and_a_larger_share_adds_to_a_smaller_one():
    def made(share, seed=0):
        return with_wrong_labels(DATA, share, "symmetric", seed).labels

    assert torch.equal(made(0.4), made(0.4))
    assert not torch.equal(made(0.4), made(0.4, seed=1))
    few, many = made(0.2), made(0.4)
    wrong = few != LABELS
    assert torch.equal(few[wrong], many[wrong])


def test_only_training_images_have_wrong_labels(digits):
    clean = digits(validation_fraction=0.3)
    noisy = digits(validation_fraction=0.3, wrong_labels=0.4)
    for part in ("train", "validation", "test"):
        before, after = getattr(clean, part), getattr(noisy, part)
        assert torch.equal(before.images, after.images)
        share = 0.4 if part == "train" else 0
        assert (before.labels != after.labels).sum() == round(share * len(before)), part
    assert noisy.validation.true_labels is None


def test_a_batch_of_the_loader_has_its_true_labels(digits):
    clean, noisy = digits(), digits(wrong_labels=0.4)
    right = 0
    for plain, planted in zip(
        EpochLoader(clean.train_stream()), EpochLoader(noisy.train_stream()), strict=True
    ):
        images, labels, true = planted
        assert torch.equal(images, plain[0])
        assert torch.equal(true, plain[1])
        right += int((labels == true).sum())
    assert 0 < right < len(noisy.train)


def test_noise_of_real_images_has_their_true_labels(digits):
    """A measurement of noise fit is one of the network, whatever labels its training was given."""
    recipe = {"channels": 2, "num_cells": 3, "stem": "small", "auxiliary_weight": 0.0}
    own = {"family": "vertical_flip", "epochs": 1, "samples": 20, "recipe": recipe}
    seen = [
        dn.noise_fit("darts_v1", digits(wrong_labels=share).train, **own).accuracy
        for share in (0.0, 0.6)
    ]
    assert seen[0] == seen[1]
