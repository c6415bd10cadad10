"""Draws that several families share: random labels, and a choice of real images."""

from typing import Literal

import torch
from torch import Tensor

from darts_noise.data.images import LabelledImages
from darts_noise.errors import SettingError

Labels = Literal["random", "own"]
"""``random``: uniform over the network's classes. ``own``: the labels of the images."""


def drawn_labels(size: int, like: LabelledImages, generator: torch.Generator) -> Tensor:
    """Draw labels uniformly over the classes: int64 (size,)."""
    return torch.randint(like.num_classes, (size,), generator=generator)


def real_images(
    family: str, size: int, like: LabelledImages, generator: torch.Generator
) -> LabelledImages:
    """Choose distinct real images with their labels, in random order and in memory.

    Raises:
        ValueError: there are fewer than `size` real images. The message names the family.
    """
    if size > len(like):
        raise SettingError("samples", f"family {family!r} has {len(like)} real images, got {size}")
    chosen = torch.randperm(len(like), generator=generator)[:size]
    images = like.images[chosen.to(like.images.device)].cpu()
    return LabelledImages(images, like.labels.cpu()[chosen], like.classes)
