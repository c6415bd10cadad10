"""Noise sets: fixed by their seed, with the shape of the real data, and random."""

import pytest
import torch

from darts_noise.data.images import LabelledImages
from darts_noise.noise import families
from darts_noise.noise.families import fingerprint, list_noise, make_noise, register_noise

FAMILIES = sorted({*list_noise(), "dataset:digits"} - {"dataset"})
OWN = {"blur", "dataset:digits", "label_permutation", "vertical_flip"}
"""Those whose labels follow from the images."""


@pytest.fixture(scope="module")
def real():
    from darts_noise.data.datasets import load_dataset

    return load_dataset("digits").train


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_makes_one_set_whatever_else_is_random(real, family):
    torch.manual_seed(1)
    first = make_noise(family, 200, real, seed=3)
    torch.manual_seed(2)
    again, other = make_noise(family, 200, real, seed=3), make_noise(family, 200, real, seed=4)
    assert fingerprint(first) == fingerprint(again)
    assert torch.equal(first.images, again.images)
    assert fingerprint(first) != fingerprint(other)
    assert first.images.dtype == torch.uint8
    assert first.shape == real.shape
    assert first.num_classes == real.num_classes
    assert len(first) == 200


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - OWN))
def test_labels_say_nothing_about_the_images(real, family):
    """Uniform labels: no class is far from its share, and none follows an image's brightness."""
    noise = make_noise(family, 1400, real, seed=0)
    share = torch.bincount(noise.labels, minlength=10) / len(noise)
    assert (share - 0.1).abs().max() < 0.04
    brightness = noise.images.float().mean((1, 2, 3))
    means = torch.stack([brightness[noise.labels == c].mean() for c in range(10)])
    assert (means - brightness.mean()).abs().max() < 4 * brightness.std() / 1400**0.5 * 10**0.5


def test_uniform_pixels_are_uniform(real):
    pixels = make_noise("uniform", 1000, real).images.flatten().long()
    share = torch.bincount(pixels, minlength=256) / pixels.numel()
    assert (share * 256 - 1).abs().max() < 0.35
    assert pixels.float().mean() == pytest.approx(127.5, abs=1)


def test_gaussian_pixels_have_the_real_statistics_where_nothing_is_clipped():
    images = torch.randint(100, 156, (50, 3, 8, 8), dtype=torch.uint8)
    images[:, 1] += 40
    real = LabelledImages(images, torch.arange(50) % 10, tuple("abcdefghij"))
    noise = make_noise("gaussian", 2000, real).images.double()
    for channel in range(3):
        expected = images[:, channel].double()
        assert noise[:, channel].mean().item() == pytest.approx(expected.mean().item(), abs=0.5)
        assert noise[:, channel].std().item() == pytest.approx(expected.std().item(), rel=0.02)


def test_gaussian_pixels_of_a_constant_channel_are_constant():
    images = torch.randint(256, (50, 3, 8, 8), dtype=torch.uint8)
    images[:, 1] = 7
    real = LabelledImages(images, torch.arange(50) % 10, tuple("abcdefghij"))
    noise = make_noise("gaussian", 100, real).images
    assert (noise[:, 1] == 7).all()
    assert noise[:, 0].double().std() > 40


def test_random_labels_keep_distinct_real_images(real):
    noise = make_noise("random_labels", len(real), real)

    def rows(data):
        return sorted(map(bytes, data.images.flatten(1).numpy()))

    assert rows(noise) == rows(real)
    with pytest.raises(ValueError, match="'random_labels' has 1438 real images, got 1439"):
        make_noise("random_labels", len(real) + 1, real)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_set_leaves_the_real_images_and_the_global_generator_alone(real, family):
    before, state = real.images.clone(), torch.get_rng_state()
    made = make_noise(family, 64, real)
    made.images.zero_()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(real.images, before)


def test_sets_of_a_seed_do_not_change_between_versions(real):
    """Published results name a family and a seed: these are the sets that they mean."""
    made = {
        family: fingerprint(make_noise(family, 100, real, seed=3))
        for family in ("uniform", "random_labels")
    }
    assert made == {
        "uniform": "1b20a03b574eb3c2",
        "random_labels": "42e982a1c5574580",
    }


def test_a_family_of_ones_own_is_one_function(real, monkeypatch):
    """Its keyword-only arguments are its settings; what it gives is checked."""
    monkeypatch.setattr(families, "_FAMILIES", dict(families._FAMILIES))

    @register_noise
    def negative(size, like, generator, *, channel: str = "all"):
        chosen = like.subset(torch.randperm(len(like), generator=generator)[:size])
        assert channel == "first"
        return LabelledImages(255 - chosen.images, chosen.labels, chosen.classes)

    assert "negative" in list_noise()
    made = make_noise("negative:first", 20, real, seed=1)
    assert made.images.min() == 255 - real.images.max()
    with pytest.raises(ValueError, match="'negative' is registered already"):
        register_noise(negative)

    @register_noise
    def wrong(size, like, generator):
        return like

    for family, got in (("wrong", "tensor"), ("as_before", "1, 2")):
        families._FAMILIES["as_before"] = lambda *_: (1, 2)
        with pytest.raises(ValueError, match=f"{family}': expected LabelledImages of 20.*{got}"):
            make_noise(family, 20, real)


def test_names_and_sizes_are_checked(real):
    with pytest.raises(ValueError, match="unknown noise family 'unifrom': did you mean 'uniform'"):
        make_noise("unifrom", 10, real)
    with pytest.raises(ValueError, match="expected at least 1, got 0"):
        make_noise("uniform", 0, real)
