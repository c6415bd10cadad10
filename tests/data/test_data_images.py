"""Labelled images, data sets and the normalisation, against NumPy in float64."""

import numpy as np
import pytest
import torch

from darts_noise.data.images import ImageDataset, LabelledImages, Normalisation, channel_statistics


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)


def some_data(
    n: int = 6, channels: int = 3, classes: tuple[str, ...] = ("a", "b")
) -> LabelledImages:
    return LabelledImages(random_images(n, channels, 4, 5), torch.arange(n) % 2, classes)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 3, 3), torch.zeros(2).long(), r"images: expected uint8.*got float32"),
        (torch.zeros(2, 3, 3).byte(), torch.zeros(2).long(), r"images: .*got uint8 \(2, 3, 3\)"),
        (torch.zeros(2, 28, 28, 1).byte(), torch.zeros(2).long(), r"looks like \(N, H, W, C\)"),
        (torch.zeros(2, 20, 30, 3).byte(), torch.zeros(2).long(), r"permute\(0, 3, 1, 2\)"),
        (torch.zeros(2, 1, 3, 3).byte(), torch.zeros(2), r"labels: expected int64.*got float32"),
        (torch.zeros(2, 1, 3, 3).byte(), torch.zeros(2, 1).long(), r"labels: .*\(2, 1\)"),
        (torch.zeros(2, 1, 3, 3).byte(), torch.zeros(3).long(), "each of 2 images, got 3"),
        (torch.zeros(2, 1, 3, 3).byte(), torch.tensor([0, 2]), "expected 0 to 1.*got 0 to 2"),
        (torch.zeros(2, 1, 3, 3).byte(), torch.tensor([-1, 1]), "got -1 to 1"),
    ],
)
def test_wrong_images_or_labels_are_refused(
    images: torch.Tensor, labels: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LabelledImages(images, labels, ("a", "b"))


def test_subset_keeps_images_with_their_labels_in_the_order_asked_for() -> None:
    data = some_data()
    part = data.subset([4, 1])
    assert torch.equal(part.images, data.images[[4, 1]])
    assert part.labels.tolist() == [0, 1]
    assert (len(part), part.num_classes, part.shape) == (2, 2, (3, 4, 5))
    assert len(data.subset([])) == 0


def test_the_halves_of_a_data_set_must_agree() -> None:
    with pytest.raises(ValueError, match="expected the classes of train"):
        ImageDataset("x", some_data(), some_data(classes=("a", "c")), flip=False)
    with pytest.raises(ValueError, match=r"test images of shape \(3, 4, 5\).*got \(1, 4, 5\)"):
        ImageDataset("x", some_data(), some_data(channels=1), flip=False)


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_and_normalisation_equal_numpys_in_float64(channels: int) -> None:
    images = random_images(50, channels, 7, 9)
    images[:, 0] //= 3
    pixels = images.numpy().astype(np.float64) / 255
    normalisation = channel_statistics(images)
    np.testing.assert_allclose(normalisation.mean, pixels.mean((0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(normalisation.std, pixels.std((0, 2, 3)), rtol=1e-13)
    expected = (pixels - pixels.mean((0, 2, 3), keepdims=True)) / pixels.std(
        (0, 2, 3), keepdims=True
    )
    normalised = normalisation(images)
    assert normalised.dtype == torch.float32
    np.testing.assert_allclose(normalised.numpy(), expected, atol=1e-6)
    assert torch.equal(normalisation(images.double()), normalised)


def test_shared_statistics_are_of_all_channels_and_keep_grey_images_grey() -> None:
    images = random_images(50, 3, 7, 9)
    images[:, 0] //= 3
    pixels = images.numpy().astype(np.float64) / 255
    normalisation = channel_statistics(images, shared=True)
    np.testing.assert_allclose(normalisation.mean, [pixels.mean()] * 3, rtol=1e-14)
    np.testing.assert_allclose(normalisation.std, [pixels.std()] * 3, rtol=1e-13)
    grey = normalisation(images[:, 1:2].repeat(1, 3, 1, 1))
    assert torch.equal(grey, grey[:, :1].expand_as(grey))


def test_a_constant_channel_normalises_to_zero() -> None:
    images = torch.full((10, 1, 4, 4), 77, dtype=torch.uint8)
    normalisation = channel_statistics(images)
    assert normalisation.std == (1.0,)
    assert normalisation(images).abs().max() < 1e-6


def test_statistics_do_not_lose_a_tiny_spread_beside_a_large_mean() -> None:
    images = torch.full((1000, 1, 32, 32), 255, dtype=torch.uint8)
    images[0, 0, 0, 0] = 254
    n = images.numel()
    assert channel_statistics(images).std[0] == pytest.approx((n - 1) ** 0.5 / n / 255, rel=1e-12)


def test_black_is_what_a_black_pixel_becomes() -> None:
    normalisation = Normalisation((0.3, 0.5), (0.2, 0.7))
    zeros = torch.zeros(1, 2, 1, 1, dtype=torch.uint8)
    assert torch.equal(normalisation(zeros)[0], normalisation.black())


def test_constants_made_in_inference_mode_serve_a_later_gradient() -> None:
    normalisation = Normalisation((0.123,), (0.456,))
    with torch.inference_mode():
        normalisation(random_images(1, 1, 2, 2))
    images = torch.zeros(1, 1, 2, 2, requires_grad=True)
    normalisation(images).sum().backward()
    torch.testing.assert_close(images.grad, torch.full((1, 1, 2, 2), 1 / (255 * 0.456)))


def test_wrong_channels_and_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 1, H, W\), got \(2, 3, 4, 4\)"):
        Normalisation((0.5,), (0.5,))(random_images(2, 3, 4, 4))
    with pytest.raises(ValueError, match="finite positive"):
        Normalisation((0.5,), (0.0,))
    with pytest.raises(ValueError, match="expected 2 channels, got 1"):
        Normalisation((0.5, 0.5), (0.5,))
    with pytest.raises(ValueError, match="non-empty"):
        channel_statistics(random_images(0, 1, 4, 4))


@pytest.mark.cuda
def test_statistics_and_normalisation_are_the_same_on_a_gpu() -> None:
    images = random_images(50, 3, 8, 8)
    normalisation = channel_statistics(images)
    assert channel_statistics(images.cuda()) == normalisation
    torch.testing.assert_close(normalisation(images.cuda()).cpu(), normalisation(images))
