"""Crops against torchvision's RandomResizedCrop, CenterCrop and Resize, and against Pillow."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import v2

from darts_noise.data.crops import (
    central_box,
    central_crops,
    crop_and_scale,
    random_box,
    random_crops,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(height: int, width: int) -> torch.Tensor:
    """A picture without detail, uint8 (3, H, W): what resampling does at its edges is not seen."""
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 4, width), indexing="ij")
    return torch.stack([127 + 100 * torch.sin(c + x + y * y / 2) for c in range(3)]).byte()


@pytest.mark.parametrize(("height", "width"), [(375, 500), (224, 224), (50, 400), (90, 40)])
def test_boxes_are_distributed_as_torchvisions(height: int, width: int) -> None:
    n = 3000
    ours = [crop(height, width) for crop in random_crops(n, seeded())]
    torch.manual_seed(1)
    transform, image = v2.RandomResizedCrop(8), torch.empty(1, height, width)
    theirs = [transform.make_params([image]) for _ in range(n)]
    figures = {
        "top": ([box.top for box in ours], [box["top"] for box in theirs]),
        "left": ([box.left for box in ours], [box["left"] for box in theirs]),
        "area": (
            [box.height * box.width for box in ours],
            [box["height"] * box["width"] for box in theirs],
        ),
        "aspect": (
            [box.width / box.height for box in ours],
            [box["width"] / box["height"] for box in theirs],
        ),
        "right edge": (
            [box.left + box.width for box in ours],
            [box["left"] + box["width"] for box in theirs],
        ),
    }
    for name, (first, second) in figures.items():
        assert ks_2samp(first, second).pvalue > 1e-3, name


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=22, max_size=22),
)
def test_a_random_box_lies_within_the_image_and_has_an_area_and_aspect_that_are_allowed(
    height: int, width: int, draws: list[float]
) -> None:
    box = random_box(draws, height, width)
    assert 0 <= box.top <= box.top + box.height <= height
    assert 0 <= box.left <= box.left + box.width <= width
    assert min(box.height, box.width) >= 1
    if min(box.height, box.width) > 40:  # where rounding to pixels is small
        assert 0.7 < box.width / box.height < 1.4
        if 3 / 4 <= width / height <= 4 / 3:
            assert 0.078 < box.height * box.width / (height * width) <= 1


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10), (30, 300), (100, 100)])
def test_where_no_random_part_fits_it_is_torchvisions_central_one(
    height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [1 - 1e-9, 1 - 1e-9] * 11  # the whole area at an aspect that no try can have
    box = random_box(whole, height, width)
    transform = v2.RandomResizedCrop(8, scale=(50.0, 60.0))  # which never fits either
    assert box._asdict() == transform.make_params([torch.empty(1, height, width)])


def test_the_generator_does_not_depend_on_the_images() -> None:
    first, second = seeded(), seeded()
    for crop in random_crops(5, first):
        crop(10, 1000)
    for crop in random_crops(5, second):
        crop(300, 300)
    assert torch.equal(first.get_state(), second.get_state())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(40, 40), (31, 47)])
def test_crop_and_scale_is_pillows_up_to_rounding(channels: int, height: int, width: int) -> None:
    images = torch.randint(0, 256, (12, channels, height, width), generator=seeded()).byte()
    crops = random_crops(12, seeded())
    scaled = crop_and_scale(images, crops)
    assert scaled.dtype == torch.uint8
    assert scaled.is_contiguous()
    for image, result, crop in zip(images, scaled, crops, strict=True):
        top, left, h, w = crop(height, width)
        for channel, got in zip(image, result, strict=True):
            part = Image.fromarray(channel.numpy()).crop((left, top, left + w, top + h))
            expected = np.asarray(part.resize((width, height), Image.Resampling.BILINEAR), int)
            assert np.abs(got.numpy().astype(int) - expected).max() <= 1


def test_one_crop_for_all_is_the_same_as_for_each() -> None:
    images = torch.randint(0, 256, (5, 3, 32, 32), generator=seeded()).byte()
    together = crop_and_scale(images, central_crops(5, (32, 32), 0.7))
    assert together.is_contiguous()
    for image, result in zip(images, together, strict=True):
        assert torch.equal(crop_and_scale(image[None], central_crops(1, (32, 32), 0.7))[0], result)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (375, 500), (500, 333)])
def test_the_central_part_is_that_of_scaling_to_256_and_cutting_out_224(
    height: int, width: int
) -> None:
    image = smooth(height, width)
    reference = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])(image)
    box = central_box((224, 224), 0.875, height, width)
    part = v2.functional.resized_crop(image, *box, size=[224, 224])
    assert (part.int() - reference.int()).abs().max() <= 3
    assert box.height == box.width == round(0.875 * min(height, width))


def test_the_whole_share_leaves_images_as_they_are_and_keeps_their_proportions() -> None:
    images = torch.randint(0, 256, (2, 3, 20, 30), generator=seeded()).byte()
    assert crop_and_scale(images, central_crops(2, (20, 30), 1.0)) is images
    assert central_box((20, 30), 0.5, 20, 30) == (5, 7, 10, 15)
    assert central_box((8, 8), 1.0, 20, 31) == (0, 5, 20, 20)
