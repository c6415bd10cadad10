"""Planted wrong labels, and what finds them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from examined import blobs, hidden, linear, require_shown, subject

from darts_noise.examine.section import Pieces, Subject
from darts_noise.examine.wrong_labels import (
    METHODS,
    WrongLabelsSection,
    confident_errors,
    held_out_probabilities,
)
from darts_noise.train.loop import Training


def test_every_method_finds_all_of_an_easy_set():
    section = WrongLabelsSection(shares=(0.1,), epochs=10)
    found = section.measure(subject(linear, blobs(96, noise=10), learning_rate=0.05), Pieces())
    assert [(f.method, f.kind) for f in found.found] == [
        (method, kind) for kind in ("symmetric", "pairwise") for method in METHODS
    ]
    for one in found.found:
        assert (one.precision, one.average_precision) == (1, 1), one
        if one.method == "confident learning":  # it names only those that are above the mean
            assert one.recall >= 0.7
        else:
            assert (one.flagged, one.recall) == (10, 1), one
    require_shown(section, found)


def drawn(seed):
    """Probabilities and labels of which a part is wrong; one class has no label."""
    random = np.random.default_rng(seed)
    classes = 5
    true = random.integers(0, classes - 1, 300)
    labels = np.where(random.random(300) < 0.3, random.integers(0, classes - 1, 300), true)
    logits = 2.0 * np.eye(classes)[true] + random.normal(size=(300, classes))
    return torch.tensor(logits).softmax(1), torch.tensor(labels)


@pytest.mark.parametrize("seed", range(3))
def test_confident_learning_equals_cleanlab(seed):
    find_label_issues = pytest.importorskip("cleanlab.filter").find_label_issues
    probabilities, labels = drawn(seed)
    wanted = find_label_issues(
        labels.numpy(), probabilities.numpy(), filter_by="confident_learning", n_jobs=1
    )
    assert wanted.sum() > 20
    assert confident_errors(probabilities, labels).tolist() == wanted.tolist()


def test_confident_learning_is_its_definition():
    probabilities, labels = drawn(0)
    thresholds = {k: float(probabilities[labels == k, k].mean()) for k in set(labels.tolist())}
    for p, label, is_wrong in zip(
        probabilities, labels.tolist(), confident_errors(probabilities, labels), strict=True
    ):
        confident = [k for k, threshold in thresholds.items() if p[k] >= threshold]
        guess = None
        if confident:
            guess = confident[0] if len(confident) == 1 else int(p.argmax())
        expected = guess is not None and label not in (guess, int(p.argmax()))
        assert bool(is_wrong) == expected


def test_each_seed_of_an_examination_has_its_own_folds_and_weights(monkeypatch):
    seeds = []

    def trained(self, data, recipe=None, seed=0):
        seeds.append(seed)
        return Training(self.untrained(), 0, False, False)

    monkeypatch.setattr(Subject, "trained", trained)
    for seed in (0, 1):
        examined = subject(linear, seed=seed)
        held_out_probabilities(examined, examined.train, 1, 3)
    assert len(set(seeds)) == 6


def test_a_probability_is_by_a_network_that_has_not_seen_the_image():
    """Random labels cannot be guessed from other images, but they can be memorised."""
    examined = subject(hidden)
    noisy = torch.randint(4, (96,), generator=torch.Generator().manual_seed(0))
    data = replace(examined.train, labels=noisy)
    held_out = held_out_probabilities(examined, data, 20, 2)
    assert (held_out.argmax(1) == noisy).float().mean() < 0.5
    training = examined.trained(data)
    assert (examined.logits(training.net, data).argmax(1) == noisy).float().mean() > 0.8
