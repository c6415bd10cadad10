"""Images that are random in every pixel, with random labels.

Reference:
    [1] Zhang, Bengio, Hardt, Recht and Vinyals, Understanding deep learning requires rethinking
        generalization, ICLR 2017, arXiv:1611.03530.
"""

import torch

from darts_noise.data.images import LabelledImages, channel_statistics
from darts_noise.noise.draws import drawn_labels
from darts_noise.noise.families import register_noise


@register_noise
def uniform(size: int, like: LabelledImages, generator: torch.Generator) -> LabelledImages:
    """Every pixel uniform in 0..255, every label uniform over the classes."""
    images = torch.randint(256, (size, *like.shape), generator=generator, dtype=torch.uint8)
    return LabelledImages(images, drawn_labels(size, like, generator), like.classes)


@register_noise
def gaussian(size: int, like: LabelledImages, generator: torch.Generator) -> LabelledImages:
    """Every pixel normal with the mean and deviation of its channel in the real images [1].

    Rounded and clipped to 0..255; labels uniform over the classes.
    """
    statistics = channel_statistics(like.images)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (statistics.mean, statistics.std))
    pixels = torch.randn((size, *like.shape), generator=generator).mul_(std).add_(mean)
    images = pixels.mul_(255).round_().clamp_(0, 255).to(torch.uint8)
    return LabelledImages(images, drawn_labels(size, like, generator), like.classes)
