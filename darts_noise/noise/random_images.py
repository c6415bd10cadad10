"""Images with independent random pixels and random labels.

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
    """Draw every pixel uniformly from 0 to 255 and every label uniformly over the classes."""
    images = torch.randint(256, (size, *like.shape), generator=generator, dtype=torch.uint8)
    return LabelledImages(images, drawn_labels(size, like, generator), like.classes)


@register_noise
def gaussian(size: int, like: LabelledImages, generator: torch.Generator) -> LabelledImages:
    """Draw every pixel from a normal distribution, with the channel statistics of the real images.

    The mean and the standard deviation are per channel [1]. A constant channel stays constant.
    Pixels are rounded and clipped to 0 to 255. Labels are uniform over the classes.
    """
    statistics = channel_statistics(like.images)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (statistics.mean, statistics.std))
    std[std == 1] = 0  # 1 stands for a constant channel: others have at most 0.5
    pixels = torch.randn((size, *like.shape), generator=generator).mul_(std).add_(mean)
    images = pixels.mul_(255).round_().clamp_(0, 255).to(torch.uint8)
    return LabelledImages(images, drawn_labels(size, like, generator), like.classes)
