"""Registry of data sets: load an `ImageDataset` by name, into memory if it fits.

To add a data set, write a function in a new file in this folder. Import that file at the end of
this file:

    @register_dataset
    def my_images(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
        ...

The name of the function is the name of the data set. The function may ignore `image_size` and
`grey`, because `load_dataset` converts the result. A loader of image files should return
`FileImages` of the requested size; `load_dataset` decodes them if they fit into memory. A loader
that can hold out test images itself has a fourth argument, `test_fraction`.
"""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from darts_noise.configured import naming_arguments
from darts_noise.data import memory
from darts_noise.data.conversion import convert
from darts_noise.data.file_images import FileImages
from darts_noise.data.images import ImageDataset
from darts_noise.errors import SettingError, unknown

Loader = Callable[..., ImageDataset]
"""(root, image_size, grey) → the data set. A loader may ignore `image_size` and `grey`. One with a
fourth argument `test_fraction` gets it if it is set."""

_LOADERS: dict[str, Loader] = {}


def register_dataset(loader: Loader) -> Loader:
    """Register a loader under its function's name. Use it as a decorator.

    Raises:
        ValueError: the name is registered already.
    """
    name = loader.__name__
    if name in _LOADERS:
        raise ValueError(f"data set {name!r} is registered already")
    _LOADERS[name] = loader
    return loader


def list_datasets() -> list[str]:
    """Return the names that `load_dataset` accepts, sorted."""
    return sorted(_LOADERS)


def require_dataset(name: str) -> None:
    """Raise a ValueError with the valid names unless `name` is registered."""
    if name not in _LOADERS:
        raise SettingError("name", unknown("data set", name, _LOADERS))


def has_files(name: str) -> bool:
    """Return whether a data set reads files in its root. Only digits is known to read none."""
    return name in _LOADERS and name != "digits"


@naming_arguments
def load_dataset(
    name: str,
    root: str | Path = "data",
    image_size: int | None = None,
    grey: bool | None = None,
    in_memory: bool | None = None,
    test_fraction: float | None = None,
) -> ImageDataset:
    """Load a data set. Download it if it is not on disk and torchvision can download it.

    Args:
        name: one of `list_datasets()`.
        root: the folder that holds the data. Default: ``data``.
        image_size: scale the central square of each image to this side in pixels. None (default):
            keep the size.
        grey: True: one channel. False: three channels. None (default): keep the channels.
        in_memory: True: decode all images now. False: leave them in their files and decode them
            batch by batch. None (default): leave them in their files, with a warning, if they would
            take more than half of the available memory.
        test_fraction: hold out this share of the images of each class as test images, always the
            same ones. Only for data without test images. None (default): the data have test images.

    Raises:
        ValueError: the name is unknown, the image size is below 1, the data are missing or
            unreadable, or `in_memory` or `test_fraction` is impossible.
    """
    require_dataset(name)
    if image_size is not None and image_size < 1:
        raise SettingError("image_size", f"expected 1 pixel or more, got {image_size}")
    split = {} if test_fraction is None else {"test_fraction": test_fraction}
    if split and "test_fraction" not in inspect.signature(_LOADERS[name]).parameters:
        raise SettingError(
            "test_fraction",
            f"expected null for {name!r}, which has test images, got {test_fraction}",
        )
    dataset = _LOADERS[name](Path(root).expanduser(), image_size, grey, **split)
    halves = [convert(half, image_size, grey) for half in (dataset.train, dataset.test)]
    if not _stays_on_disk(dataset, in_memory):  # files are decoded, tensors stay as they are
        halves = [replace(half, images=half.images.contiguous()) for half in halves]
    return replace(dataset, train=halves[0], test=halves[1])


def _stays_on_disk(dataset: ImageDataset, in_memory: bool | None) -> bool:
    halves = [half.images for half in (dataset.train, dataset.test)]
    needed = sum(images.nbytes for images in halves if isinstance(images, FileImages))
    if not needed:
        if in_memory is False:
            raise SettingError(
                "in_memory",
                f"expected true or null for {dataset.name!r}, which has no image files, got false",
            )
        return False
    if in_memory is False:
        return True
    available = memory.available_memory()
    amount = f"{sum(map(len, halves)):,} images take {memory.describe(needed)}"
    if in_memory and needed > available:
        raise SettingError(
            "in_memory",
            f"expected false or null, because {amount} and "
            f"{memory.describe(available)} of memory are available, got true",
        )
    if in_memory or needed <= available / 2:
        return False
    warnings.warn(
        f"{amount}, more than half of the available memory of {memory.describe(available)}: they "
        "stay on disk and are decoded batch by batch (data.in_memory)",
        stacklevel=3,
    )
    return True


# These modules register the data sets of the package when they are imported.
from darts_noise.data import digits, image_folder, torchvision_datasets  # noqa: E402, F401
