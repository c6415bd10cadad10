"""Families of noise: data that a cell must not be able to learn.

A family is one function under ``@register_noise``: (size, real images, generator) → images and
labels, with what it can be told as keyword-only arguments of type str or Literal. It goes into the
file of its group or a new one, which is imported at the end of this file. A set is made once, from
a seed, and stays as it is for the whole run: it is never redrawn and never augmented, because the
question is whether *this* set can be memorised.
"""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path

import torch

from darts_noise.data.images import LabelledImages
from darts_noise.data.seeds import Stream, generator
from darts_noise.noise.mixture import Mixture, Part, describe, read_mixture, shares

Family = Callable[..., LabelledImages]
"""(size, real images, generator, *, settings) → uint8 (size, C, H, W) on the CPU, and labels."""

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


def noise_parts(family: Mixture) -> list[Part]:
    """The families that a setting names, with their settings and weights; see `read_mixture`."""
    return read_mixture(family, _FAMILIES)


def require_noise(family: Mixture) -> None:
    """Raises the ``ValueError`` that lists what is valid unless ``family`` is."""
    noise_parts(family)


def describe_noise(family: Mixture) -> str:
    """The families as a card names them: ``uniform``, ``33.3 % random_pixels + 66.7 % uniform``."""
    return describe(noise_parts(family))


def make_noise(
    family: Mixture, size: int, like: LabelledImages, seed: int = 0, root: str | Path = "data"
) -> LabelledImages:
    """A fixed set of noise with the shape of real data and labels for its network.

    Args:
        family: a name of `list_noise`, or several as in ``{"uniform": 2, "random_pixels": 1}``:
            the set has 2 images of the one to 1 of the other, to within one image. A batch is a
            random draw from the set, and so has them in these proportions on average. The settings
            of a family stand in place of its weight, ``{"dataset": {"name": "mnist", "labels":
            "random", "weight": 2}}``; the first may follow the name, as in ``"dataset:mnist"``.
        size: number of images N.
        like: the real training images; they give the shape (C, H, W), the number of classes and,
            to some families, their statistics or the images themselves.
        seed: the same seed gives the same set on every machine and every rank. What one family
            draws depends on the seed and its number of images, not on the families beside it.
        root: folder that holds the data sets which a family names without a root of their own.

    Returns:
        uint8 images (N, C, H, W) on the CPU, to be normalised as the real ones are, and labels
        (N,): one family after the other. Their classes are those of `like`, except for a data set
        with its own labels alone, whose classes are its own and may be fewer.

    Raises:
        ValueError: no such family or setting, a weight that is negative, weights that are all 0, or
            a size that a family cannot give; one line.
    """
    parts = noise_parts(family)
    made = []
    for part, count in zip(parts, shares(parts, size), strict=True):
        # The family is part of the key, so that two families of one seed have unrelated labels.
        key = int.from_bytes(hashlib.sha256(part.key.encode()).digest()[:4], "big")
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
    """SHA-256 over images and labels, 16 hexadecimal digits: equal sets have equal ones."""
    digest = hashlib.sha256(repr(tuple(data.images.shape)).encode())
    digest.update(data.images.cpu().contiguous().numpy().tobytes())
    digest.update(data.labels.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _with_root(family: Family, settings: dict[str, str], root: str | Path) -> dict[str, str]:
    takes_root = "root" in inspect.signature(family).parameters
    return {"root": str(root), **settings} if takes_root else settings


# The package's own families, which register themselves.
from darts_noise.noise import datasets, deficits, random_images, randomised  # noqa: E402, F401
