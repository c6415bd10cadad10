"""Colour jitter against torchvision's ColorJitter with the same parameters."""

from itertools import permutations

import pytest
import torch
from scipy.stats import kstest
from torchvision.transforms import v2

from darts_noise.data.colour import color_jitter, jitter_parameters


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("strength", [0.1, 0.4, 1.0])
def test_it_equals_torchvisions_with_the_same_factors_in_the_same_order(strength: float) -> None:
    images = torch.rand((30, 3, 9, 7), generator=seeded(5))
    jittered = color_jitter(images, strength, seeded())
    factors, orders = jitter_parameters(30, strength, seeded())
    transform = v2.ColorJitter(strength, strength, strength, strength / 2)
    names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    for image, result, row, order in zip(images, jittered, factors, orders, strict=True):
        parameters = dict(zip(names, row.tolist(), strict=True)) | {"fn_idx": order}
        torch.testing.assert_close(result, transform.transform(image, parameters))
    assert jittered.is_contiguous()
    assert jittered.min() >= 0
    assert jittered.max() <= 1


@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_factors_are_uniform_and_orders_are_equally_likely(strength: float) -> None:
    n = 6000
    factors, orders = jitter_parameters(n, strength, seeded())
    for adjustment, (centre, reach) in enumerate([(1, 1), (1, 1), (1, 1), (0, 0.5)]):
        low, width = centre - reach * strength, 2 * reach * strength
        column = factors[:, adjustment].numpy()
        assert kstest(column, "uniform", args=(low, width)).pvalue > 1e-3
        assert (column >= low).all()
    counts = dict.fromkeys(permutations(range(4)), 0)
    for order in orders.tolist():
        counts[tuple(order)] += 1
    expected = n / 24
    assert max(abs(count - expected) for count in counts.values()) < 5 * expected**0.5
    correlation = torch.corrcoef(factors.T) - torch.eye(4)
    assert correlation.abs().max() < 5 / n**0.5


def test_of_a_grey_picture_only_the_brightness_changes() -> None:
    images = torch.full((2000, 3, 2, 2), 0.5)
    factors, _ = jitter_parameters(2000, 0.4, seeded())
    brightness = color_jitter(images, 0.4, seeded())[:, 0, 0, 0] / 0.5
    torch.testing.assert_close(brightness, factors[:, 0], atol=1e-3, rtol=0)


def test_no_strength_changes_and_draws_nothing() -> None:
    images, random = torch.rand(4, 3, 5, 5), seeded()
    before = random.get_state()
    assert color_jitter(images, 0.0, random) is images
    assert torch.equal(random.get_state(), before)


def test_little_strength_changes_little() -> None:
    images = torch.rand((50, 3, 6, 6), generator=seeded(1))
    assert (color_jitter(images, 1e-4, seeded()) - images).abs().max() < 2e-3


def test_grey_images_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 3 channels to change the colours of, got 1"):
        color_jitter(torch.rand(2, 1, 4, 4), 0.4, seeded())
