"""What is before the stem: colour, contrast, blur and filter banks."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

import darts_noise as dn
from darts_noise.data.images import LabelledImages, channel_statistics
from darts_noise.nets.input_filter import (
    BANKS,
    Contrast,
    FilterBank,
    MixedInputFilter,
    colour,
    input_filter,
    neighbour_correlation,
)
from darts_noise.nets.macro_layers import weighing
from darts_noise.space.macro import MACRO
from darts_noise.space.spaces import Space


def cell(**macro):
    return replace(dn.load_genotype("darts_v2"), macro=macro)


def images(*shape, **settings):
    return 2 + 3 * torch.randn(*shape, dtype=torch.float64, **settings)


def matrix(module, *shape):
    """The matrix of a linear module."""
    x = torch.zeros(1, *shape, dtype=torch.float64)
    return torch.autograd.functional.jacobian(lambda x: module(x).flatten(), x).flatten(1)


@pytest.mark.parametrize("choice", MACRO["input_filter"])
@pytest.mark.parametrize("shape", [(3, 3, 11, 13), (2, 1, 2, 5), (1, 2, 1, 1)])
def test_a_mixed_input_filter_is_the_sum_of_the_filters(choice, shape):
    """Also where an image is too small to be mirrored; and with all weight on one, that one."""
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    candidates = MACRO["input_filter"]
    alone = [input_filter(cell(input_filter=k), shape[1]).double()(x) for k in candidates]
    mixed = MixedInputFilter(candidates).double()
    mixed.weights = torch.rand(3, dtype=torch.float64)
    if min(shape[2:]) > 2:
        expected = sum(w * term for w, term in zip(mixed.weights, alone, strict=True))
        torch.testing.assert_close(mixed(x), expected)
    mixed.weights = torch.tensor([float(kind == choice) for kind in candidates]).double()
    if min(shape[2:]) > 2 or choice != "blur_3x3":
        torch.testing.assert_close(mixed(x), alone[candidates.index(choice)])


@pytest.mark.parametrize(
    ("kind", "left"), [("none", 1.0), ("blur_3x3", 0.375), ("blur_5x5", 70 / 256)]
)
def test_an_input_filter_leaves_little_of_noise_and_all_of_what_is_smooth(kind, left):
    """Of independent pixels, the deviation √Σk² of its kernel; of a constant, all."""
    torch.manual_seed(0)
    blur = input_filter(cell(input_filter=kind), 1)
    noise = blur(torch.randn(64, 1, 28, 28))[..., 4:-4, 4:-4]
    assert noise.std().item() == pytest.approx(left, rel=0.03)
    smooth = torch.full((1, 1, 9, 9), 3.0)
    torch.testing.assert_close(blur(smooth), smooth)
    assert not blur.state_dict()


@pytest.mark.parametrize("kind", ["luma", "chroma"])
def test_a_colour_is_an_orthogonal_projection_of_every_pixel(kind):
    projection = matrix(colour(kind), 3, 2, 2)
    torch.testing.assert_close(projection @ projection, projection)
    torch.testing.assert_close(projection.T, projection)
    x = images(2, 3, 4, 5)
    torch.testing.assert_close(colour("luma")(x) + colour("chroma")(x), x)


def test_tinted_clips_luma_to_a_multiple_of_chroma():
    x = images(200, 3, 4, 5) * torch.rand(200, 1, 4, 5) + 3 * torch.randn(200, 1, 4, 5)
    seen = colour("tinted")(x)
    torch.testing.assert_close(colour("chroma")(seen), colour("chroma")(x))
    before, after = (colour("luma")(y).norm(dim=1) for y in (x, seen))
    chroma = colour("chroma")(x).norm(dim=1)
    torch.testing.assert_close(after, torch.minimum(before, 4 * chroma))
    assert (after < before).any()
    assert (after == before).any()
    near = x + 0.1 * images(200, 3, 4, 5)
    gain = (colour("tinted")(near) - seen).norm(dim=1) / (near - x).norm(dim=1)
    assert 1 < gain.max() <= 17**0.5


def random_images(channels, levels=256):
    pixels = torch.randint(levels, (40, channels, 12, 12), dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(40) % 2, ("a", "b"))


@pytest.mark.parametrize("kind", ["chroma", "tinted"])
@pytest.mark.parametrize("choices", [{}, {"contrast": "standardised", "input_filter": "blur_3x3"}])
def test_a_network_without_grey_gives_the_same_logits_for_every_grey_image(kind, choices):
    """Exactly, with shared statistics; also for a data set of grey images as noise."""
    real = random_images(3)
    real.images[:, 0] //= 3  # the channels differ in mean and deviation
    normalisation = channel_statistics(real.images, shared=True)
    net = dn.create_model(cell(colour=kind, **choices), channels=4, num_cells=3).eval()
    noise = dn.make_noise({"dataset:digits": {"labels": "random"}}, 20, real, seed=0)
    logits = net(normalisation(noise.images))
    assert torch.equal(logits, logits[:1].expand_as(logits))
    assert not torch.equal(net(normalisation(real.images[:2]))[:1], logits[:1])


@pytest.mark.parametrize("kind", ["luma", "chroma", "tinted"])
def test_a_colour_needs_three_channels(kind):
    message = r"macro\.colour: expected images of 3 channels for .*, got 1"
    with pytest.raises(dn.SettingError, match=message):
        dn.create_model(cell(colour=kind), in_channels=1)
    with pytest.raises(dn.SettingError, match=message):
        dn.SuperNet(Space("s", ("skip_connect",), macro={"colour": ("all", kind)}), in_channels=1)
    dn.create_model(cell(colour="all"), in_channels=1)


def test_contrast_removes_the_mean_and_the_deviation_of_each_image():
    x = images(4, 3, 6, 7) * torch.tensor([1.0, 2.0, 5.0]).view(3, 1, 1)
    centred, standardised = Contrast("centred")(x), Contrast("standardised")(x)
    torch.testing.assert_close(centred, x - x.mean((2, 3), keepdim=True))
    assert standardised.mean((2, 3)).abs().max() < 1e-12
    deviations = standardised.flatten(1).std(1, correction=0)
    torch.testing.assert_close(deviations, torch.ones_like(deviations), atol=1e-5, rtol=0)
    brighter = Contrast("standardised")(100 + 7 * x)
    torch.testing.assert_close(brighter, standardised, atol=1e-5, rtol=0)
    for kind in ("standardised", "smooth"):
        assert not Contrast(kind)(torch.full((1, 3, 4, 4), 7.0)).any()


def test_neighbour_correlation_is_that_of_all_pairs_of_neighbours():
    x = images(5, 2, 4, 6)
    for image, found in zip(x, neighbour_correlation(x).flatten(), strict=True):
        expected = 0.0
        for pixels in (*image.flatten(0, 1), *image.mT.flatten(0, 1)):  # all rows, all columns
            expected += sum(a * b for a, b in pairwise(pixels.tolist()))
        expected /= 2 * image.square().sum().item()
        assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("family", ["uniform", "gaussian", "shuffled_pixels", "random_pixels"])
def test_smooth_contrast_hides_independent_pixels_and_keeps_smooth_images(family):
    """Whatever the weights are: a network has the same logits for all noise images."""
    coarse = torch.rand(30, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(coarse, size=(28, 28), mode="bilinear")
    real = LabelledImages((255 * smooth).byte(), torch.arange(30) % 2, ("a", "b"))
    normalisation = channel_statistics(real.images)
    hide, keep = Contrast("smooth"), Contrast("centred")
    assert not hide(normalisation(dn.make_noise(family, 30, real).images)).any()
    x = normalisation(real.images)
    torch.testing.assert_close(hide(x), keep(x))
    torch.testing.assert_close(hide(3 * x + 2), 3 * hide(x), atol=1e-4, rtol=1e-4)
    half = (100 * x).half()
    torch.testing.assert_close(hide(half), keep(half))
    phases = normalisation(dn.make_noise("random_phases", 30, real).images)
    assert hide(phases).flatten(1).any(1).all()  # as smooth as the images


def test_centring_is_an_orthogonal_projection():
    centring = matrix(Contrast(False), 2, 3, 4)
    torch.testing.assert_close(centring @ centring, centring)
    torch.testing.assert_close(centring.T, centring)


def test_contrast_is_before_the_blur_and_the_filters_behind_it():
    """The border of a blur would otherwise change the mean."""
    x = images(2, 3, 8, 8)
    steps = input_filter(cell(contrast="centred", input_filter="blur_5x5", filters="haar"), 3)
    parts = (Contrast(False), *list(steps.double())[1:])
    torch.testing.assert_close(steps(x), parts[2](parts[1](parts[0](x))))
    assert isinstance(steps[2], FilterBank)


@pytest.mark.parametrize("kind", BANKS)
def test_a_filter_bank_has_a_gain_of_at_most_1(kind):
    bank = FilterBank(BANKS[kind](), 2).double()
    values = torch.linalg.svdvals(matrix(bank, 2, 9, 8))
    assert 0.6 < values[0] <= 1 + 1e-9
    if kind == "haar":  # orthonormal, except that the border lacks windows
        inner = matrix(bank, 2, 9, 8).reshape(-1, 2, 9, 8)[..., 1:, 1:].flatten(1)
        torch.testing.assert_close(inner.T @ inner, torch.eye(len(inner.T)).double())
    elif kind == "gabor":  # sees no mean, and edges of one direction with one pair of filters
        assert bank(torch.ones(1, 2, 9, 9).double())[..., 2:-2, 2:-2].abs().max() < 1e-7
        stripes = torch.tensor([1.0, 1.0, -1.0, -1.0]).double().repeat(4).expand(1, 2, 16, 16)
        power = bank(stripes)[..., 4:-4, 4:-4].square().mean((0, 2, 3)).view(2, 2, 4).sum((0, 1))
        assert power.argmax() == 0
        assert power[0] > 3 * power[1]


def test_whitened_outputs_are_uncorrelated_and_of_equal_variance():
    """For images whose covariance is that which the filters assume. Detail is amplified most."""
    places = torch.cartesian_prod(torch.arange(3), torch.arange(3)).double()
    covariance = 0.95 ** (places[:, None] - places).abs().sum(-1)
    bank = BANKS["whitened"]().double().flatten(1)
    found = bank @ covariance @ bank.T
    torch.testing.assert_close(found / found[0, 0], torch.eye(9).double(), atol=1e-4, rtol=0)
    assert (bank.sum(1).abs().argmax(), bank.norm(dim=1).argmax()) == (8, 0)  # mean and detail


@pytest.mark.parametrize("choice", ["colour", "contrast", "filters"])
def test_a_mixed_step_is_the_weighted_sum_of_its_candidates(choice):
    """For ``filters``, side by side: the sum behind the convolution of the stem."""
    torch.manual_seed(0)
    x = images(2, 3, 6, 5)
    space = Space("s", ("skip_connect",), macro={choice: MACRO[choice]})
    mixed = input_filter(space, 3).double()
    weights = torch.rand(1, len(MACRO[choice]), dtype=torch.float64)
    alone = [input_filter(cell(**{choice: kind}), 3).double()(x) for kind in MACRO[choice]]
    terms = [w * out for w, out in zip(weights[0], alone, strict=True)]
    with weighing(mixed, {choice: weights}):
        found = mixed(x)
    torch.testing.assert_close(found, torch.cat(terms, 1) if choice == "filters" else sum(terms))


def test_smooth_contrast_has_at_most_the_gain_that_it_states():
    """Images of every smoothness: neighbours share a part of their noise."""
    layer = Contrast("smooth")
    gains = []
    for share in torch.linspace(0.2, 1.2, 40):
        x = images(1, 2, 6, 6)
        x[..., 1:] += share * x[..., :-1]
        x[..., 1:, :] += share * x[..., :-1, :]
        jacobian = torch.autograd.functional.jacobian(layer, x).reshape(x.numel(), -1)
        gains.append(torch.linalg.matrix_norm(jacobian, 2).item())
    assert 2 < max(gains) <= layer.gain
