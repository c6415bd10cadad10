"""The registry of data sets: a name gives an `ImageDataset`, in memory if it fits.

To add one, write a function in a file beside this one and import that file at the end of this one:

    @register_dataset
    def my_images(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
        ...

Its name is the data set's name and the first line of its docstring says what it is. It may leave
`image_size` and `grey` alone, since `load_dataset` converts what it returns. One that reads files
of any number returns `FileImages` of the size asked for; `load_dataset` decodes them if they fit.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from darts_noise.data import memory
from darts_noise.data.conversion import convert
from darts_noise.data.file_images import FileImages
from darts_noise.data.images import ImageDataset, LabelledImages
from darts_noise.errors import SettingError, unknown

Loader = Callable[[Path, int | None, bool | None], ImageDataset]
"""(root, image_size, grey) → the data set; the last two are wishes that the loader may ignore."""

_LOADERS: dict[str, Loader] = {}


def register_dataset(loader: Loader) -> Loader:
    """Register a loader under its function's own name; a decorator.

    Raises:
        ValueError: the name is taken.
    """
    name = loader.__name__
    if name in _LOADERS:
        raise ValueError(f"data set {name!r} is registered already")
    _LOADERS[name] = loader
    return loader


def list_datasets() -> list[str]:
    """The names that `load_dataset` accepts, sorted."""
    return sorted(_LOADERS)


def require_dataset(name: str) -> None:
    """Raise a ValueError with the valid names unless `name` is registered."""
    if name not in _LOADERS:
        raise SettingError("name", unknown("data set", name, _LOADERS))


def load_dataset(
    name: str,
    root: str | Path = "data",
    image_size: int | None = None,
    grey: bool | None = None,
    in_memory: bool | None = None,
) -> ImageDataset:
    """Load a data set, downloading it if it is not on disk and can be downloaded.

    Args:
        name: one of `list_datasets()`.
        root: the folder that holds the data.
        image_size: scale the central square of each image to this many pixels; None keeps its size.
        grey: True for one channel, False for three; None keeps what the images have.
        in_memory: True decodes all images now, False leaves them in their files and decodes them
            batch by batch; None leaves those on disk that would take more than half of the memory
            available, and says so in a warning.

    Raises:
        ValueError: an unknown name, an image size below 1, data that are missing or unreadable, or
            an `in_memory` that cannot be met.
    """
    require_dataset(name)
    if image_size is not None and image_size < 1:
        raise SettingError("image_size", f"expected 1 pixel or more, got {image_size}")
    dataset = _LOADERS[name](Path(root), image_size, grey)
    train, test = (convert(half, image_size, grey) for half in (dataset.train, dataset.test))
    if not _stays_on_disk(dataset, in_memory):
        train, test = _decoded(train), _decoded(test)
    return replace(dataset, train=train, test=test)


def _stays_on_disk(dataset: ImageDataset, in_memory: bool | None) -> bool:
    halves = [half.images for half in (dataset.train, dataset.test)]
    needed = sum(images.nbytes for images in halves if isinstance(images, FileImages))
    if not needed:
        if in_memory is False:
            raise SettingError(
                "in_memory",
                f"expected true or null for {dataset.name!r}, which has no image "
                "files to leave on disk, got false",
            )
        return False
    if in_memory is False:
        return True
    available = memory.available_memory()
    amount = f"{sum(map(len, halves)):,} images take {memory.describe(needed)}"
    if in_memory and needed > available:
        raise SettingError(
            "in_memory",
            f"expected false or null, since {amount} and "
            f"{memory.describe(available)} of memory are available, got true",
        )
    if in_memory or needed <= available / 2:
        return False
    warnings.warn(
        f"{amount}, more than half of the {memory.describe(available)} of memory available: they "
        "stay on disk and are decoded batch by batch (data.in_memory)",
        stacklevel=3,
    )
    return True


def _decoded(data: LabelledImages) -> LabelledImages:
    if not isinstance(data.images, FileImages):
        return data
    return replace(data, images=data.images.contiguous())


# The package's own data sets, which register themselves.
from darts_noise.data import digits, image_folder, torchvision_datasets  # noqa: E402, F401
