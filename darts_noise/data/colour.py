"""Colour jitter: change brightness, contrast, saturation and hue at random, in random order.

This file draws the parameters per sample; torchvision changes the pixels. Add other colour changes
(grey, solarise) as functions here.

References:
    [1] Liu, Simonyan and Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
        arXiv:1806.09055. ImageNet: strength 0.4, and so 0.2 for the hue.
    [2] torchvision's ColorJitter(strength, strength, strength, strength / 2).
"""

import torch
from torch import Tensor


def jitter_parameters(n: int, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw the factors and the order of the four adjustments for each of `n` images, as in [2].

    Args:
        n: the number of images.
        strength: s, from 0 to 1.
        generator: a CPU generator.

    Returns:
        The factors (n, 4) and the order (n, 4). The first three columns of the factors are for
        brightness, contrast and saturation, uniform in [1 - s, 1 + s]. The last column is the shift
        of the hue in turns of the colour wheel, uniform in [-s / 2, s / 2]. Each row of the order
        is a random permutation of 0 to 3.
    """
    uniform = 2 * torch.rand((n, 4), generator=generator) - 1
    reach = torch.tensor([strength, strength, strength, strength / 2])
    order = torch.rand((n, 4), generator=generator).argsort(1)
    return uniform * reach + torch.tensor([1.0, 1.0, 1.0, 0.0]), order


def color_jitter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue of each image at random [2].

    Args:
        images: (B, 3, H, W), floating, values in [0, 1].
        strength: 0 to 1. 0 changes nothing and draws nothing.
        generator: a CPU generator.

    Returns:
        (B, 3, H, W), values in [0, 1], the same dtype and device.

    Raises:
        ValueError: the images do not have three channels.
    """
    if strength == 0:
        return images
    if images.shape[1] != 3:
        raise ValueError(
            f"images: expected 3 channels to change the colours of, got {images.shape[1]}"
        )
    from torchvision.transforms.v2 import functional as tvf

    adjust = tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation, tvf.adjust_hue
    factors, orders = jitter_parameters(len(images), strength, generator)
    jittered = []
    for image, row, order in zip(images, factors.tolist(), orders.tolist(), strict=True):
        for adjustment in order:
            image = adjust[adjustment](image, row[adjustment])
        jittered.append(image)
    return torch.stack(jittered)
