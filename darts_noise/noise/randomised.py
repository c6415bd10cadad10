"""Real images with random labels, permuted pixels [1] or random phases [2].

Each family keeps a part of the data. Random labels keep the images. Permuted pixels keep the
histograms; one permutation for all images also keeps the correlations of the pixels. Random phases
keep the spectrum, so the images are as smooth as real ones. Comparing the families shows what a
network needs to fit the data. All families use distinct real images.

References:
    [1] Zhang, Bengio, Hardt, Recht and Vinyals, Understanding deep learning requires rethinking
        generalization, ICLR 2017, arXiv:1611.03530, section 2.1.
    [2] Oppenheim and Lim, The importance of phase in signals, Proceedings of the IEEE 69, 1981.
"""

import torch

from darts_noise.data.images import LabelledImages
from darts_noise.noise.draws import Labels, drawn_labels, real_images
from darts_noise.noise.families import register_noise

_CHUNK = 1024
"""Images that are made at once. It limits the memory."""


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


@register_noise
def random_phases(size: int, like: LabelledImages, generator: torch.Generator) -> LabelledImages:
    """Add random phases to the Fourier transform of real images [2]; labels are random.

    All channels of an image get the same phases, those of white noise. So each channel keeps its
    mean and its power at every frequency, and all pairs of channels keep their correlations. Pixels
    that leave the range 0 to 255 are clipped.
    """
    real = real_images("random_phases", size, like, generator)
    assert isinstance(real.images, torch.Tensor)
    images = torch.empty_like(real.images)
    for start in range(0, size, _CHUNK):
        part = real.images[start : start + _CHUNK].double()
        shape = len(part), 1, *part.shape[2:]
        white = torch.fft.rfft2(torch.randn(shape, generator=generator, dtype=torch.float64))
        phases = white / white.abs().clamp_min(torch.finfo(torch.float64).tiny)
        phases[..., 0, 0] = 1  # the mean stays
        part = torch.fft.irfft2(torch.fft.rfft2(part) * phases, part.shape[2:])
        images[start : start + _CHUNK] = part.round_().clamp_(0, 255)
    return LabelledImages(images, drawn_labels(size, like, generator), real.classes)


def _labelled(
    images: torch.Tensor, real: LabelledImages, labels: Labels, generator: torch.Generator
) -> LabelledImages:
    of_images = real.labels if labels == "own" else drawn_labels(len(real), real, generator)
    return LabelledImages(images, of_images, real.classes)
