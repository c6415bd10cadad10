"""How long a network takes to fit true and random labels."""

import torch
from examined import blobs, require_shown, subject

from darts_noise.data.wrong_labels import with_random_labels
from darts_noise.examine.section import Pieces
from darts_noise.examine.time_to_fit import RANDOM, TRUE, TimeToFitSection


def test_more_random_labels_take_longer_and_none_are_the_clean_images():
    examined = subject(epochs=60)
    section = TimeToFitSection(shares=(0.3,))
    found = section.measure(examined, Pieces())
    curve: list[float] = []
    clean = examined.fit(
        examined.train, target=0.99, watch=lambda epoch, accuracy: curve.append(accuracy)
    )
    true, partly, random = found[TRUE], found["30% random labels"], found[RANDOM]
    assert list(true.accuracies[: len(curve)]) == curve
    assert true.steps is not None
    assert true.steps <= clean.reached < true.steps + found.per_epoch  # read more often
    assert true.steps < partly.steps < random.steps
    assert "times as long" in section.sentence(found)
    require_shown(section, found)
    assert [row[0] for row in section.tables(found)[0].rows] == [fit.name for fit in found.fits]


def test_what_is_never_fitted_is_a_bound():
    found = TimeToFitSection(shares=()).measure(subject(epochs=2), Pieces())
    assert found[RANDOM].steps is None
    assert len(found[RANDOM].accuracies) == 2
    assert found.epochs_of(found[RANDOM]) is None


def test_a_training_that_diverges_is_not_called_slow():
    section = TimeToFitSection(shares=())
    found = section.measure(subject(epochs=2, optimiser="sgd", learning_rate=1e30), Pieces())
    assert section.sentence(found).startswith("The training on true labels diverged")


def test_a_larger_share_replaces_further_labels():
    data = blobs(200, classes=10)
    some, more, every = (with_random_labels(data, share, 0).labels for share in (0.2, 0.6, 1.0))
    first, then = some != data.labels, more != data.labels
    assert torch.equal(with_random_labels(data, 0.0, 0).labels, data.labels)
    assert torch.equal(some[first], more[first])
    assert torch.equal(more[then], every[then])
    assert 20 <= int(first.sum()) <= 40  # one in ten draws its own label again
    assert 0.05 < float((every == data.labels).float().mean()) < 0.16
