"""Resizing and recolouring of whole data sets, against Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from darts_noise.data.conversion import recolour, resize


def random_images(*shape: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(12, 12), (12, 20), (21, 12)])
@pytest.mark.parametrize("size", [5, 12, 30])
def test_resize_is_pillows_up_to_rounding(
    channels: int, height: int, width: int, size: int
) -> None:
    images = random_images(3, channels, height, width)
    resized = resize(images, size)
    assert resized.shape == (3, channels, size, size)
    for image, result in zip(images, resized, strict=True):
        left, top = (width - min(height, width)) // 2, (height - min(height, width)) // 2
        side = min(height, width)
        for channel, got in zip(image, result, strict=True):
            square = Image.fromarray(channel.numpy()).crop((left, top, left + side, top + side))
            expected = np.asarray(square.resize((size, size), Image.Resampling.BILINEAR), int)
            assert np.abs(got.numpy().astype(int) - expected).max() <= 1


def test_resize_takes_the_centre() -> None:
    images = torch.zeros(1, 1, 4, 12, dtype=torch.uint8)
    images[..., 4:8] = 200
    assert (resize(images, 2) == 200).all()


def test_resize_in_chunks_equals_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(7, 3, 8, 8)
    whole, grey = resize(images, 5), recolour(images, True)
    monkeypatch.setattr("darts_noise.data.conversion._CHUNK", 2)
    assert torch.equal(resize(images, 5), whole)
    assert torch.equal(recolour(images, True), grey)


def test_a_size_that_memory_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darts_noise.data.memory.available_memory", lambda: 2 * 3 * 9 * 9 - 1)
    with pytest.raises(ValueError, match=r"image_size: expected images that fit into"):
        resize(random_images(2, 3, 8, 8), 9)
    assert resize(random_images(1, 3, 8, 8), 9).shape == (1, 3, 9, 9)


def test_grey_is_pillows_exactly() -> None:
    images = random_images(20, 3, 16, 16)
    for image, luma in zip(images, recolour(images, True), strict=True):
        colour = Image.fromarray(image.permute(1, 2, 0).numpy())
        assert np.array_equal(np.asarray(ImageOps.grayscale(colour)), luma[0].numpy())


def test_colour_of_grey_repeats_the_channel_and_back_again() -> None:
    images = random_images(4, 1, 5, 5)
    coloured = recolour(images, False)
    assert coloured.shape == (4, 3, 5, 5)
    assert torch.equal(recolour(coloured, True), images)


@pytest.mark.parametrize(("channels", "grey"), [(1, None), (3, None), (1, True), (3, False)])
def test_nothing_to_do_returns_the_images_themselves(channels: int, grey: bool | None) -> None:
    images = random_images(2, channels, 6, 6)
    assert recolour(images, grey) is images
    assert resize(images, 6) is images
