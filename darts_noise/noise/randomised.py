"""Real images with random labels or with permuted pixels, after [1].

Each family keeps a part of the data. Random labels keep the images. Permuted pixels keep the
histograms; one permutation for all images also keeps the correlations of the pixels. Comparing the
families shows what a network needs to fit the data. All families use distinct real images.

Reference:
    [1] Zhang, Bengio, Hardt, Recht and Vinyals, Understanding deep learning requires rethinking
        generalization, ICLR 2017, arXiv:1611.03530, section 2.1.
"""

import torch

from darts_noise.data.images import LabelledImages
from darts_noise.noise.draws import Labels, drawn_labels, real_images
from darts_noise.noise.families import register_noise

_CHUNK = 1024
"""Images whose permutations are drawn at once. It limits the memory."""


@register_noise
def random_labels(size: int, like: LabelledImages, generator: torch.Generator) -> LabelledImages:
    """Replace the labels of real images by labels uniform over the classes [1].

    Raises:
        ValueError: `size` is larger than the number of real images. This holds for every family in
            this file.
    """
    real = real_images("random_labels", size, like, generator)
    return LabelledImages(real.images, drawn_labels(size, like, generator), like.classes)


@register_noise
def shuffled_pixels(
    size: int, like: LabelledImages, generator: torch.Generator, *, labels: Labels = "random"
) -> LabelledImages:
    """Rearrange the pixels of real images with one permutation for all images [1].

    A pixel moves with all its channels. The permutation depends only on the seed and on H and W.

    Args:
        size: number of images.
        like: the real images.
        generator: a CPU generator.
        labels: ``random`` (default): uniform over the classes; a network can only memorise them.
            ``own``: the labels of the images; a network that ignores the positions of pixels
            learns them as well as it learns the real images.
    """
    _, H, W = like.shape
    order = torch.randperm(H * W, generator=generator)
    real = real_images("shuffled_pixels", size, like, generator)
    assert isinstance(real.images, torch.Tensor)
    images = real.images.flatten(2)[:, :, order].view_as(real.images)
    return _labelled(images, real, labels, generator)


@register_noise
def random_pixels(
    size: int, like: LabelledImages, generator: torch.Generator, *, labels: Labels = "random"
) -> LabelledImages:
    """Rearrange the pixels of real images with a different permutation for each image [1].

    A pixel moves with all its channels, so an image keeps only its histogram of colours.

    Args:
        size: number of images.
        like: the real images.
        generator: a CPU generator.
        labels: ``random`` (default): uniform over the classes. ``own``: the labels of the images,
            which still depend on the histogram.
    """
    real = real_images("random_pixels", size, like, generator)
    assert isinstance(real.images, torch.Tensor)
    images = real.images.flatten(2)  # (N, C, H·W)
    for start in range(0, size, _CHUNK):
        part = images[start : start + _CHUNK]
        draws = torch.rand(len(part), part.shape[2], generator=generator, dtype=torch.float64)
        order = draws.argsort(dim=1, stable=True)  # a row is a uniform permutation
        images[start : start + _CHUNK] = part.gather(2, order[:, None].expand_as(part))
    return _labelled(images.view_as(real.images), real, labels, generator)


def _labelled(
    images: torch.Tensor, real: LabelledImages, labels: Labels, generator: torch.Generator
) -> LabelledImages:
    of_images = real.labels if labels == "own" else drawn_labels(len(real), real, generator)
    return LabelledImages(images, of_images, real.classes)
