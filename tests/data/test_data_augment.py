"""Augmentation against a loop over the samples, and against torchvision's pipeline."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from darts_noise.data.augment import Augmentation, cutout, random_crop, random_flip
from darts_noise.data.images import Normalisation


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("padding", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_crop_equals_padding_and_slicing_each_image(padding: int, dtype: torch.dtype) -> None:
    images = torch.randint(1, 255, (200, 3, 6, 9)).to(dtype)
    cropped = random_crop(images, padding, seeded(), fill=7)
    assert cropped.dtype == dtype
    assert cropped.is_contiguous()
    tops, lefts = torch.randint(0, 2 * padding + 1, (2, 200), generator=seeded()).tolist()
    for image, result, top, left in zip(images, cropped, tops, lefts, strict=True):
        padded = F.pad(image, [padding] * 4, value=7)
        assert torch.equal(result, padded[:, top : top + 6, left : left + 9])
    assert set(tops) == set(lefts) == set(range(2 * padding + 1))


def test_crop_pads_each_channel_with_its_own_value() -> None:
    fill = torch.tensor([-1.0, -2.0]).view(2, 1, 1)
    cropped = random_crop(torch.zeros(200, 2, 3, 3), 3, seeded(), fill=fill)
    assert set(cropped[:, 0].unique().tolist()) == {-1.0, 0.0}
    assert set(cropped[:, 1].unique().tolist()) == {-2.0, 0.0}


def test_flip_mirrors_half_of_the_images_and_nothing_else() -> None:
    images = torch.arange(12.0).view(1, 1, 3, 4).expand(4000, 1, 3, 4)
    flipped = random_flip(images, seeded())
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert abs(mirrored.float().mean().item() - 0.5) < 5 * (0.25 / 4000) ** 0.5


def reference_cutout(image: Tensor, y: int, x: int, length: int) -> Tensor:
    image = image.clone()
    top, left = y - length // 2, x - length // 2
    image[:, max(top, 0) : max(top + length, 0), max(left, 0) : max(left + length, 0)] = 0
    return image


@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_cutout_equals_a_loop_and_clips_at_the_border(length: int) -> None:
    images = torch.rand(300, 2, 8, 10) + 1
    blanked = cutout(images, length, seeded())
    random = seeded()
    ys = torch.randint(0, 8, (300,), generator=random).tolist()
    xs = torch.randint(0, 10, (300,), generator=random).tolist()
    for image, result, y, x in zip(images, blanked, ys, xs, strict=True):
        assert torch.equal(result, reference_cutout(image, y, x, length))
    assert set(ys) == set(range(8))
    assert set(xs) == set(range(10))
    areas = (blanked[:, 0] == 0).sum((1, 2))
    assert areas.max() == length**2
    assert areas.min() >= ((length + 1) // 2) ** 2


def test_the_default_changes_nothing_and_draws_nothing() -> None:
    images, random = torch.rand(4, 3, 8, 8), seeded()
    before = random.get_state()
    assert torch.equal(Augmentation()(images, random), images)
    assert torch.equal(random.get_state(), before)


def test_the_whole_is_crop_and_flip_of_pixels_then_normalise_then_cutout() -> None:
    images = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8)
    normalisation = Normalisation((0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    random = seeded()
    pixels = random_flip(random_crop(images, 2, random), random)
    expected = cutout(normalisation(pixels), 3, random)
    augmentation = Augmentation(crop_padding=2, flip=True, cutout=3)
    augmented = augmentation(normalisation(images), seeded(), normalisation.black())
    assert torch.equal(augmented, expected)


def test_randomness_comes_from_the_generator_alone() -> None:
    images = torch.rand(16, 1, 8, 8)
    augmentation = Augmentation(2, True, 4)
    first = augmentation(images, seeded(1))
    torch.manual_seed(99)
    assert torch.equal(augmentation(images, seeded(1)), first)
    assert not torch.equal(augmentation(images, seeded(2)), first)


@pytest.mark.cuda
def test_a_gpu_sees_the_same_augmentation() -> None:
    images = torch.rand(32, 3, 8, 8)
    augmentation = Augmentation(2, True, 4)
    on_gpu = augmentation(images.cuda(), seeded(), torch.full((3, 1, 1), -1.0).cuda())
    assert torch.equal(on_gpu.cpu(), augmentation(images, seeded(), -1.0))
