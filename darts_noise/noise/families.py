"""Families of noise: data that a cell must not be able to learn.

A family is one function under ``@register_noise``: (size, real images, generator) → uint8 images
and labels. A set is made once, from a seed, and stays as it is for the whole run: it is never
redrawn and never augmented, because the question is whether *this* set can be memorised.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from darts_noise.data.images import LabelledImages, channel_statistics
from darts_noise.data.seeds import Stream, generator
from darts_noise.naming import unknown

Family = Callable[[int, LabelledImages, torch.Generator], tuple[Tensor, Tensor]]

_FAMILIES: dict[str, Family] = {}


def register_noise(family: Family) -> Family:
    """Makes a family known under its function's name; ``ValueError`` if the name is taken."""
    name = getattr(family, "__name__", "")
    if name in _FAMILIES:
        raise ValueError(f"noise family {name!r} is registered already")
    _FAMILIES[name] = family
    return family


def list_noise() -> list[str]:
    """The names of all noise families, sorted."""
    return sorted(_FAMILIES)


def require_noise(family: str) -> None:
    """Raises the ``ValueError`` that lists the valid names unless ``family`` is one."""
    if family not in _FAMILIES:
        raise unknown("noise family", family, _FAMILIES)


def make_noise(family: str, size: int, like: LabelledImages, seed: int = 0) -> LabelledImages:
    """A fixed set of noise with the shape and the classes of real data.

    Args:
        family: see `list_noise`.
        size: number of images N.
        like: the real training images; they give the shape (C, H, W), the number of classes and,
            to some families, their statistics or the images themselves.
        seed: the same seed gives the same set on every machine and every rank.

    Returns:
        uint8 images (N, C, H, W) to be normalised as the real ones are, and labels (N,).

    Raises:
        ValueError: no such family, or a size that it cannot give.
    """
    require_noise(family)
    if size < 1:
        raise ValueError(f"noise size: expected at least 1, got {size}")
    # The family is part of the key, so that two families of one seed have unrelated labels.
    key = int.from_bytes(hashlib.sha256(family.encode()).digest()[:4], "big")
    images, labels = _FAMILIES[family](size, like, generator(seed, Stream.NOISE, key))
    return LabelledImages(images, labels, like.classes)


def fingerprint(data: LabelledImages) -> str:
    """SHA-256 over images and labels, 16 hexadecimal digits: equal sets have equal ones."""
    digest = hashlib.sha256(repr(tuple(data.images.shape)).encode())
    digest.update(data.images.cpu().contiguous().numpy().tobytes())
    digest.update(data.labels.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _random_labels(size: int, like: LabelledImages, generator: torch.Generator) -> Tensor:
    return torch.randint(like.num_classes, (size,), generator=generator)


@register_noise
def uniform(size: int, like: LabelledImages, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Every pixel uniform in 0..255, every label uniform over the classes."""
    images = torch.randint(256, (size, *like.shape), generator=generator, dtype=torch.uint8)
    return images, _random_labels(size, like, generator)


@register_noise
def gaussian(size: int, like: LabelledImages, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Every pixel normal with the mean and deviation of its channel in the real images, clipped."""
    statistics = channel_statistics(like.images)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (statistics.mean, statistics.std))
    pixels = torch.randn((size, *like.shape), generator=generator).mul_(std).add_(mean)
    images = pixels.mul_(255).round_().clamp_(0, 255).to(torch.uint8)
    return images, _random_labels(size, like, generator)


@register_noise
def random_labels(
    size: int, like: LabelledImages, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Distinct real images with labels uniform over the classes (Zhang et al. 2017)."""
    if size > len(like):
        raise ValueError(
            f"noise size: family 'random_labels' has {len(like)} real images, got {size}"
        )
    chosen = torch.randperm(len(like), generator=generator)[:size]
    return like.images.cpu()[chosen], _random_labels(size, like, generator)
