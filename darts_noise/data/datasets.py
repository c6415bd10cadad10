"""The registry of data sets: a name gives an `ImageDataset` in memory.

To add one, write a function in a file beside this one and import that file in `__init__.py`:

    @register_dataset
    def my_images(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
        ...

Its name is the data set's name and the first line of its docstring says what it is. It may leave
`image_size` and `grey` alone, since `load_dataset` converts what it returns.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from darts_noise.data.conversion import convert
from darts_noise.data.images import ImageDataset
from darts_noise.naming import unknown

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
        raise unknown("data set", name, _LOADERS)


def load_dataset(
    name: str,
    root: str | Path = "data",
    image_size: int | None = None,
    grey: bool | None = None,
) -> ImageDataset:
    """Load a data set into memory, downloading it if it is not on disk and can be downloaded.

    Args:
        name: one of `list_datasets()`.
        root: the folder that holds the data.
        image_size: scale the central square of each image to this many pixels; None keeps its size.
        grey: True for one channel, False for three; None keeps what the images have.

    Raises:
        ValueError: an unknown name, an image size below 1, or data that are missing or unreadable.
    """
    require_dataset(name)
    if image_size is not None and image_size < 1:
        raise ValueError(f"data.image_size: expected 1 pixel or more, got {image_size}")
    dataset = _LOADERS[name](Path(root), image_size, grey)
    return replace(
        dataset,
        train=convert(dataset.train, image_size, grey),
        test=convert(dataset.test, image_size, grey),
    )
