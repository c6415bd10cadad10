"""Families of noise: data that a cell must not be able to learn.

A family is a function under ``@register_noise``: (size, real images, generator) → images and
labels. Its settings are keyword-only arguments of type str or Literal. Put a new family into the
file of its group or into a new file, and import the file at the end of this file.

A set is made once from a seed and does not change during a run. It is never redrawn and never
augmented, because the question is whether a network can memorise *this* set.
"""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path

import torch

from darts_noise.data.datasets import has_files
from darts_noise.data.images import LabelledImages
from darts_noise.data.seeds import Stream, generator
from darts_noise.noise.mixture import (
    Mixture,
    Part,
    describe,
    draw_keys,
    read_mixture,
    shares,
)

Family = Callable[..., LabelledImages]
"""(size, real images, generator, *, settings) → uint8 (size, C, H, W) on the CPU, and labels."""

_FAMILIES: dict[str, Family] = {}


def register_noise(family: Family) -> Family:
    """Register a family under its function's name. Raise ``ValueError`` if the name is taken."""
    name = getattr(family, "__name__", "")
    if name in _FAMILIES:
        raise ValueError(f"noise family {name!r} is registered already")
    _FAMILIES[name] = family
    return family


def list_noise() -> list[str]:
    """Return the names of all noise families, sorted."""
    return sorted(_FAMILIES)


def noise_parts(family: Mixture) -> list[Part]:
    """Return the families of a setting with their settings and weights; see `read_mixture`."""
    return read_mixture(family, _FAMILIES)


def require_noise(family: Mixture) -> None:
    """Raise a ``ValueError`` that lists the valid families unless ``family`` is valid."""
    noise_parts(family)


def describe_noise(family: Mixture) -> str:
    """Format the families for a card: ``uniform``, ``33.3% random_pixels + 66.7% uniform``."""
    return describe(noise_parts(family))


def reads_root(family: Mixture) -> bool:
    """Return whether a family reads files in the root of the run.

    >>> reads_root("dataset:mnist"), reads_root({"dataset:mnist": {"root": "elsewhere"}})
    (True, False)
    """
    return any(
        _takes_root(_FAMILIES[part.family])
        and "root" not in part.settings
        and ("name" not in part.settings or has_files(part.settings["name"]))
        for part in noise_parts(family)
    )


def make_noise(
    family: Mixture, size: int, like: LabelledImages, seed: int = 0, root: str | Path = "data"
) -> LabelledImages:
    """Make a fixed noise set with the image shape of the real data and labels for the network.

    Args:
        family: a name of `list_noise`, or names with weights. ``{"uniform": 2, "random_pixels":
            1}`` gives 2 uniform images for each image with random pixels, to within one image. A
            batch is a random draw from the set, so it has these proportions on average. Settings of
            a family replace its weight: ``{"dataset": {"name": "mnist", "labels": "random",
            "weight": 2}}``. The first setting may follow the name, as in ``"dataset:mnist"``.
        size: number of images N.
        like: the real training images. They give the shape (C, H, W) and the number of classes.
            Some families also use their statistics or the images.
        seed: the same seed gives the same set on every machine and rank. The draws of a family
            depend on the seed and its number of images, not on the other families. Default: 0.
        root: folder of the data sets that a family names without its own root. Default: ``data``.

    Returns:
        uint8 images (N, C, H, W) on the CPU and labels (N,), one family after the other. Normalise
        the images like the real images. The classes are the classes of `like`. Only if the whole
        set is a data set with its own labels, the classes are the classes of this data set, which
        may be fewer.

    Raises:
        ValueError: a family or setting is unknown, a weight is negative, all weights are 0, or a
            family cannot give the size. The message has one line.
    """
    parts = noise_parts(family)
    made = []
    for part, key, count in zip(parts, draw_keys(parts), shares(parts, size), strict=True):
        settings = _with_root(_FAMILIES[part.family], dict(part.settings), root)
        random = generator(seed, Stream.NOISE, key)
        data = _FAMILIES[part.family](count, like, random, **settings)
        if not isinstance(data, LabelledImages) or data.images.shape != (count, *like.shape):
            raise ValueError(
                f"noise family {part.family!r}: expected LabelledImages of {count} images of shape "
                f"{like.shape}, got {getattr(data, 'images', data)!r:.80}"
            )
        made.append(data)
    if len(made) == 1:
        return made[0]
    return LabelledImages(
        torch.cat([torch.as_tensor(part.images) for part in made]),
        torch.cat([part.labels for part in made]),
        max((part.classes for part in made), key=len),
    )


def fingerprint(data: LabelledImages) -> str:
    """Return 16 hexadecimal digits of the SHA-256 over images and labels."""
    digest = hashlib.sha256(repr(tuple(data.images.shape)).encode())
    digest.update(data.images.cpu().contiguous().numpy().tobytes())
    digest.update(data.labels.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _with_root(family: Family, settings: dict[str, str], root: str | Path) -> dict[str, str]:
    return {"root": str(root), **settings} if _takes_root(family) else settings


def _takes_root(family: Family) -> bool:
    return "root" in inspect.signature(family).parameters


# These modules register the families of the package when they are imported.
from darts_noise.noise import datasets, deficits, random_images, randomised  # noqa: E402, F401
