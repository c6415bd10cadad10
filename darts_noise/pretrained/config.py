"""``config.json`` of a bundle: the form of its network and the images that it was trained on.

Read as data: every field is checked, and what does not fit is a ``ValueError`` that names it.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from darts_noise.data.images import Normalisation
from darts_noise.nets.network import Network
from darts_noise.nets.stems import STEMS
from darts_noise.space.shown import shown

FORMAT = "darts_noise.bundle/1"
MOST: Mapping[str, int] = {
    "num_classes": 1 << 20,
    "in_channels": 1 << 12,
    "channels": 1 << 14,
    "num_cells": 1 << 8,
    "stem_stride": 4,
}
"""The largest values of a network's form; a file that states more is not obeyed."""
LONGEST_NAME = 1000
LARGEST = 1e6
"""Of the statistics, in units of a pixel's range: an integer may be too large for a float."""


@dataclass(frozen=True)
class BundleImages:
    """The images that a network was trained on.

    Attributes:
        name: of the data set.
        image_size: (H, W) in pixels; the network takes any other as well.
        mean: of each channel, in units of [0, 1].
        std: likewise.
        classes: the names of the classes, in the order of the logits.

    Raises:
        ValueError: a value that no image has.
    """

    name: str
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        _ = self.normalisation

    @property
    def normalisation(self) -> Normalisation:
        """Maps images (B, C, H, W) from 0 to 255 to what the network takes."""
        return Normalisation(self.mean, self.std)


@dataclass(frozen=True)
class BundleConfig:
    """What ``config.json`` says.

    Attributes:
        model: the arguments of `create_model`, without the genotype.
        images: what the network was trained on; None where nobody said.
        sha256: file of the bundle → hexadecimal digest of its bytes.
    """

    model: Mapping[str, int | str]
    images: BundleImages | None
    sha256: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "format": FORMAT,
            "model": dict(self.model),
            "images": None if self.images is None else asdict(self.images),
            "sha256": dict(self.sha256),
        }

    @classmethod
    def from_dict(cls, data: object, files: tuple[str, ...]) -> "BundleConfig":
        """The config that a JSON object describes.

        Args:
            data: the object.
            files: the names that must have a digest.

        Raises:
            ValueError: a field that is missing, unknown or out of bounds.
        """
        content = _object(data, "config", ("format", "model", "images", "sha256"))
        if content["format"] != FORMAT:
            raise ValueError(f"format: expected {FORMAT!r}, got {shown(content['format'])}")
        digests = _object(content["sha256"], "sha256", files)
        for file, digest in digests.items():
            if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
                raise ValueError(
                    f"sha256[{file!r}]: expected 64 hexadecimal digits, got {shown(digest)}"
                )
        model = _checked_model(content["model"])
        images = None
        if content["images"] is not None:
            images = _checked_images(content["images"])
            wanted = (model["in_channels"], model["num_classes"] or len(images.classes))
            if wanted != (len(images.mean), len(images.classes)):
                raise ValueError(
                    f"images: expected {wanted[0]} channels and {wanted[1]} classes as in model, "
                    f"got {len(images.mean)} and {len(images.classes)}"
                )
        return cls(model, images, digests)


def network_form(net: Network) -> dict[str, int | str]:
    """The arguments of `create_model` that a network was made with, without the genotype."""
    return {"num_classes": net.num_classes, **net.form}


def _checked_model(data: object) -> dict[str, int | str]:
    form = _object(data, "model", (*MOST, "stem"))
    for key, most in MOST.items():
        least = 0 if key == "num_classes" else 1
        _integer(form[key], f"model[{key!r}]", least, most)
    if not isinstance(form["stem"], str) or form["stem"] not in STEMS:
        raise ValueError(
            f"model['stem']: expected one of {', '.join(STEMS)}, got {shown(form['stem'])}"
        )
    return form


def _checked_images(data: object) -> BundleImages:
    keys = ("name", "image_size", "mean", "std", "classes")
    content = _object(data, "images", keys)
    lists: dict[str, tuple[Any, ...]] = {}
    for key, number in (("image_size", 2), ("mean", None), ("std", None), ("classes", None)):
        value = content[key]
        if not isinstance(value, list) or not value or (number and len(value) != number):
            wanted = f"a list of {number}" if number else "a list"
            raise ValueError(f"images[{key!r}]: expected {wanted}, got {shown(value)}")
        lists[key] = tuple(value)
    for name in (content["name"], *lists["classes"]):
        if not isinstance(name, str) or len(name) > LONGEST_NAME:
            raise ValueError(
                f"images: expected names of at most {LONGEST_NAME} characters, got {shown(name)}"
            )
    for side in lists["image_size"]:
        _integer(side, "images['image_size']", 1, 1 << 16)
    for key in ("mean", "std"):
        for figure in lists[key]:
            if type(figure) not in (int, float) or not abs(figure) <= LARGEST:  # NaN as well
                raise ValueError(f"images[{key!r}]: expected finite numbers, got {shown(figure)}")
    return BundleImages(content["name"], **lists)


def _object(data: object, place: str, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(data, dict) or set(data) != set(keys):
        found = shown(list(data)) if isinstance(data, dict) else shown(data)
        raise ValueError(f"{place}: expected an object of {', '.join(keys)}, got {found}")
    return data


def _integer(value: object, place: str, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{place}: expected {least} to {most}, got {shown(value)}")
