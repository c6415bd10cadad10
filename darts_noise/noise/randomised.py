"""Real images of which the labels or the places of the pixels are random, after [1].

Each keeps something of the data: random labels all of the images, permuted pixels their histograms
and, where one permutation serves all images, which pixels go together. So they tell apart what a
network needs for its fit. All are made of distinct real images.

Reference:
    [1] Zhang, Bengio, Hardt, Recht and Vinyals, Understanding deep learning requires rethinking
        generalization, ICLR 2017, arXiv:1611.03530, section 2.1.
"""

import torch

from darts_noise.data.images import LabelledImages
from darts_noise.noise.draws import Labels, drawn_labels, real_images
from darts_noise.noise.families import register_noise

_CHUNK = 1024
"""Images whose permutations are drawn at once, which bounds the memory."""


@register_noise
def random_labels(size: int, like: LabelledImages, generator: torch.Generator) -> LabelledImages:
    """Real images as they are, with labels uniform over the classes [1].

    Raises:
        ValueError: more images than there are real ones; so for every family of this file.
    """
    real = real_images("random_labels", size, like, generator)
    return LabelledImages(real.images, drawn_labels(size, like, generator), like.classes)


@register_noise
def shuffled_pixels(
    size: int, like: LabelledImages, generator: torch.Generator, *, labels: Labels = "random"
) -> LabelledImages:
    """Real images whose pixels are all rearranged by one permutation, the same for every image [1].

    A pixel moves with all its channels. The permutation depends on the seed and on H and W alone.

    Args:
        size: number of images.
        like: the real images.
        generator: a CPU generator.
        labels: ``random``, uniform over the classes, which leaves nothing to do but memorise; or
            ``own``, the image's, which a network without a sense of place learns as it would the
            real images.
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
    """Real images whose pixels are rearranged by a permutation of its own for each image [1].

    A pixel moves with all its channels: an image keeps its colours and nothing else.

    Args:
        size: number of images.
        like: the real images.
        generator: a CPU generator.
        labels: ``random``, uniform over the classes; or ``own``, the image's, of which its
            histogram still tells something.
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
