"""Real images with random labels or places: what stays, and what is random."""

import pytest
import torch
from numbered_images import coloured, number_of, numbered

from darts_noise.data.splits import stratified_subset
from darts_noise.noise.families import make_noise

PERMUTED = ["shuffled_pixels", "random_pixels"]


def colours(image):
    """The pixels (H·W, C) of an image, in an order that does not depend on their places."""
    return sorted(map(tuple, image.flatten(1).T.tolist()))


@pytest.mark.parametrize("family", PERMUTED)
def test_an_image_keeps_its_colours_and_nothing_stays_in_place(family):
    real = coloured()
    made = make_noise({family: {"labels": "own"}}, len(real), real, seed=1)
    histograms = {str(colours(image)): i for i, image in enumerate(real.images)}
    origin = [histograms.pop(str(colours(image))) for image in made.images]  # each real one once
    assert torch.equal(made.labels, real.labels[origin])
    same = (made.images == real.images[origin]).float().mean()
    assert same < 0.05


def permutation(image):
    """Where each pixel of a numbered image came from; its last place is that of its number."""
    order = image.flatten().long()
    return torch.where(order >= 200, len(order) - 1, order)


def test_shuffled_pixels_are_one_permutation_that_can_be_undone():
    real = numbered()
    made = make_noise("shuffled_pixels", len(real), real, seed=2)
    orders = torch.stack([permutation(image) for image in made.images])
    assert (orders == orders[0]).all()
    assert torch.equal(orders[0].sort().values, torch.arange(30))
    inverse = orders[0].argsort()
    undone = made.images.flatten(2)[:, :, inverse].view_as(made.images)
    assert torch.equal(undone, real.images[number_of(made.images)])


def test_the_one_permutation_is_that_of_the_seed_and_the_size_of_the_images():
    """Not of how many there are, of their channels, or of which they are."""

    def order(real, size, seed=2):
        return permutation(make_noise("shuffled_pixels", size, real, seed).images[0, 0])

    first = order(numbered(), 30)
    assert torch.equal(first, order(numbered(), 7))
    assert torch.equal(first, order(numbered(20, channels=3), 4))
    assert not torch.equal(first, order(numbered(), 30, seed=3))


def test_random_pixels_are_a_permutation_for_each_image():
    made = make_noise("random_pixels", 30, numbered(), seed=2)
    orders = {tuple(permutation(image).tolist()) for image in made.images}
    assert len(orders) == 30
    assert all(sorted(order) == list(range(30)) for order in orders)


def test_random_pixels_go_everywhere_equally_often(monkeypatch):
    """The first pixel's place is uniform, also where the images are permuted in several chunks."""
    monkeypatch.setattr("darts_noise.noise.randomised._CHUNK", 7)
    real = numbered(50, height=2, width=2)
    places = torch.cat(
        [
            (make_noise("random_pixels", 50, real, seed).images.flatten(1) == 0).long().argmax(1)
            for seed in range(40)
        ]
    )
    share = torch.bincount(places, minlength=4) / len(places)
    assert (share - 0.25).abs().max() < 0.04  # four standard deviations


@pytest.mark.parametrize("family", PERMUTED)
def test_channels_of_a_pixel_move_together(family):
    images = make_noise(family, 20, numbered(20, channels=3), seed=4).images.long()
    ordinary = images[:, 0] < 200
    for channel in (1, 2):
        shift = (images[:, channel] - images[:, 0])[ordinary]
        assert (shift == 30 * channel).all()


@pytest.mark.parametrize("family", PERMUTED)
def test_labels_are_random_unless_the_images_own_are_asked_for(family):
    real = numbered(50)
    own = make_noise(f"{family}:own", 50, real, seed=1)
    assert torch.equal(own.labels, real.labels[number_of(own.images)])
    drawn = make_noise(family, 50, real, seed=1)
    assert torch.equal(drawn.images, own.images)
    assert (drawn.labels == own.labels).float().mean() < 0.5


@pytest.mark.parametrize("family", [*PERMUTED, "random_labels", "blur", "label_permutation"])
def test_real_images_are_distinct_and_there_are_no_more_than_there_are(family):
    real = numbered()
    chosen = stratified_subset(real.labels, 10, seed=0)
    with pytest.raises(ValueError, match=f"{family}' has 10 real images, got 11"):
        make_noise(family, 11, real.subset(chosen))
    if family not in ("blur",):
        numbers = number_of(make_noise(family, 25, real).images)
        assert len(set(numbers.tolist())) == 25


def test_random_phases_keep_the_spectrum_of_each_channel_and_of_each_pair():
    real = coloured()
    real.images.div_(4, rounding_mode="floor").add_(96)  # no pixel needs clipping
    made = make_noise("random_phases", len(real), real, seed=1)
    assert (
        made.images.float()
        .mean((2, 3))
        .sort(0)
        .values.allclose(real.images.float().mean((2, 3)).sort(0).values, atol=0.5)
    )

    def spectra(images):
        waves = torch.fft.rfft2(images.double())
        pairs = torch.einsum("nchw,ndhw->ncdhw", waves, waves.conj())
        return pairs.real[..., 1:, 1:]

    before, after = spectra(real.images), spectra(made.images)
    errors = (after[:, None] - before[None]).abs().flatten(2).mean(2) / before.abs().mean()
    assert errors.min(1).values.max() < 0.2  # rounding; each image has its own spectrum
    assert errors.argmin(1).unique().numel() == len(real)
    assert not torch.equal(made.images[errors.argmin(1).argsort()], real.images)


def test_random_phases_clip_what_leaves_the_range():
    real = numbered(20, channels=1)
    real.images[:] = torch.where(real.images % 2 == 0, 0, 255)
    made = make_noise("random_phases", 20, real, seed=1)
    assert {0, 255} <= set(made.images.flatten().tolist())
