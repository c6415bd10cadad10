"""The file ``config.json`` of a bundle: the arguments of its network, and its training images.

It is read as data. Every field is checked; an invalid field raises a ``ValueError`` that names it.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from darts_noise.data.crops import central_box
from darts_noise.data.decoding import orientation, pixels_of
from darts_noise.data.images import Normalisation
from darts_noise.nets.network import Network
from darts_noise.nets.stems import STEMS
from darts_noise.shown import shown

FORMAT = "darts_noise.bundle/1"
MOST: Mapping[str, int] = {
    "num_classes": 1 << 20,
    "in_channels": 1 << 12,
    "channels": 1 << 14,
    "num_cells": 1 << 8,
    "stem_stride": 4,
}
"""The largest accepted values of a network's arguments in a file."""
LONGEST_NAME = 1000
LARGEST = 1e6
"""Largest accepted mean or std, on the pixel scale [0, 1]. Larger integers may overflow a float."""


@dataclass(frozen=True)
class BundleImages:
    """The images that a network was trained on.

    Attributes:
        name: name of the data set.
        image_size: (H, W) in pixels. The network also accepts other sizes.
        mean: mean of each channel, on the pixel scale [0, 1].
        std: standard deviation of each channel, on the pixel scale [0, 1].
        classes: names of the classes, in the order of the logits.
        crop_pct: the network was tested on the central part of each image with this share of height
            and width, scaled to `image_size`. Default: 1.

    Raises:
        ValueError: the mean, the std or `crop_pct` is invalid.
    """

    name: str
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    crop_pct: float = 1.0

    def __post_init__(self) -> None:
        _ = self.normalisation
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct: expected more than 0 and at most 1, got {self.crop_pct}")

    def inputs(self, images: Tensor) -> Tensor:
        """Prepare images as in the test of the network: cut, scale and normalise.

        The largest central part with the proportions of `image_size`, its sides times `crop_pct`,
        is scaled to `image_size` (bilinear, antialiased).

        Args:
            images: (B, C, H, W) of any size, uint8 or floating, values from 0 to 255.

        Returns:
            float32 (B, C, *image_size), the input of the network.

        Raises:
            ValueError: the number of channels differs.
        """
        height, width = images.shape[-2:]
        box = central_box(self.image_size, self.crop_pct, height, width)
        if box != (0, 0, *self.image_size) or images.shape[-2:] != self.image_size:
            images = tvf.resized_crop(images, *box, size=list(self.image_size), antialias=True)
        return self.normalisation(images)

    @property
    def normalisation(self) -> Normalisation:
        """The map from images (B, C, H, W), with values from 0 to 255, to inputs of the network.

        It warns if floating-point images have no value above 1.
        """
        return _CheckedNormalisation(self.mean, self.std)

    def transform(self, image: Image.Image) -> Tensor:
        """Prepare an image for the network as the training prepared its test images.

        The image is rotated by its EXIF orientation, converted to the network's channels, cropped
        to the largest central part with the proportions of `image_size`, scaled to `image_size` and
        normalised. Use it as the ``transform`` of a data set of torchvision. With a `crop_pct`
        below 1, it cuts the file. A training that held its images in memory cut the scaled image,
        so its test images were a little coarser.

        Args:
            image: a Pillow image of any size, of 8 bits per channel or of 16 bits in grey.

        Returns:
            float32 (C, H, W).

        Raises:
            ValueError: the image is not a Pillow image.
        """
        if not isinstance(image, Image.Image):
            raise ValueError(
                f"image: expected a PIL image, got {type(image).__name__}; for tensors "
                "(B, C, H, W) with values from 0 to 255, use normalisation"
            )
        crop = partial(central_box, self.image_size, self.crop_pct)
        upright = ImageOps.exif_transpose(image) if orientation(image) != 1 else image
        pixels = pixels_of(upright, self.image_size, len(self.mean) == 1, crop)
        return self.normalisation(torch.from_numpy(pixels.copy())[None])[0]


class _CheckedNormalisation(Normalisation):
    def __call__(self, images: Tensor) -> Tensor:
        if images.is_floating_point() and not torch.compiler.is_compiling() and images.numel():
            highest = float(images.amax())
            if 0 < highest <= 1:
                warnings.warn(
                    f"images: expected values from 0 to 255, got at most {highest:.3g}; if they "
                    "are on the scale from 0 to 1, multiply them by 255",
                    stacklevel=2,
                )
        return super().__call__(images)


@dataclass(frozen=True)
class BundleConfig:
    """The content of ``config.json``.

    Attributes:
        model: the arguments of `create_model`, without the genotype.
        images: the images that the network was trained on. None: not stated.
        sha256: file name → hexadecimal SHA-256 digest of the file.
    """

    model: Mapping[str, int | str]
    images: BundleImages | None
    sha256: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the config as a JSON object."""
        return {
            "format": FORMAT,
            "model": dict(self.model),
            "images": None if self.images is None else self._images(self.images),
            "sha256": dict(self.sha256),
        }

    @staticmethod
    def _images(images: BundleImages) -> dict[str, Any]:
        """Return the images without a `crop_pct` of 1, which earlier versions do not know."""
        return {k: v for k, v in asdict(images).items() if (k, v) != ("crop_pct", 1)}

    @classmethod
    def from_dict(cls, data: object, files: tuple[str, ...]) -> "BundleConfig":
        """Make a config from a JSON object.

        Args:
            data: the object.
            files: names of the files that must have a digest.

        Raises:
            ValueError: a field is missing, unknown or out of bounds.
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


def network_arguments(net: Network) -> dict[str, int | str]:
    """Return the arguments of `create_model` that make this network, without the genotype."""
    return {"num_classes": net.num_classes, **net.arguments}


def _checked_model(data: object) -> dict[str, int | str]:
    arguments = _object(data, "model", (*MOST, "stem"))
    for key, most in MOST.items():
        least = 0 if key == "num_classes" else 1
        _integer(arguments[key], f"model[{key!r}]", least, most)
    if not isinstance(arguments["stem"], str) or arguments["stem"] not in STEMS:
        raise ValueError(
            f"model['stem']: expected one of {', '.join(STEMS)}, got {shown(arguments['stem'])}"
        )
    return arguments


def _checked_images(data: object) -> BundleImages:
    keys = ("name", "image_size", "mean", "std", "classes", "crop_pct")
    content = _object({"crop_pct": 1.0, **data} if isinstance(data, dict) else data, "images", keys)
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
    lists["crop_pct"] = (content["crop_pct"],)
    for key in ("mean", "std", "crop_pct"):
        for figure in lists[key]:
            if type(figure) not in (int, float) or not abs(figure) <= LARGEST:  # also refuses NaN
                raise ValueError(f"images[{key!r}]: expected finite numbers, got {shown(figure)}")
    return BundleImages(content["name"], **{**lists, "crop_pct": content["crop_pct"]})


def _object(data: object, place: str, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(data, dict) or set(data) != set(keys):
        found = shown(list(data)) if isinstance(data, dict) else shown(data)
        raise ValueError(f"{place}: expected an object of {', '.join(keys)}, got {found}")
    return data


def _integer(value: object, place: str, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{place}: expected {least} to {most}, got {shown(value)}")
