"""Other images that must not be learnt: any data set by its name, or a folder of images.

A network for faces that cannot learn landscapes, say. Only training images are taken, never test
images.
"""

from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from darts_noise.data.conversion import recolour
from darts_noise.data.crops import central_box
from darts_noise.data.datasets import list_datasets, load_dataset
from darts_noise.data.file_images import FileImages
from darts_noise.data.image_folder import SUFFIXES, images_by_class
from darts_noise.data.images import LabelledImages
from darts_noise.errors import SettingError, unknown
from darts_noise.noise.draws import Labels, drawn_labels
from darts_noise.noise.families import noise_parts, register_noise
from darts_noise.noise.mixture import Mixture, shares

_FOLDER = "image_folder"


@register_noise
def dataset(
    size: int,
    like: LabelledImages,
    generator: torch.Generator,
    *,
    name: str,
    labels: Labels = "own",
    root: str = "data",
) -> LabelledImages:
    """Distinct training images of another data set, in the form of the real ones.

    Of each image the largest central part with the proportions of the real images is scaled to
    their size (bilinear, antialiased); colour becomes grey, or grey is repeated three times.

    Args:
        size: number of images.
        like: the real images, which give (C, H, W) and the number of classes of the network.
        generator: a CPU generator.
        name: one of `list_datasets`, or a folder (write ``./mnist`` for a folder with such a name).
            A folder holds ``train/<class>/*.jpg``, or ``<class>/*.jpg``, or images without classes.
        labels: ``own``: class k of the data set is the network's class k, whatever the two are
            called; it has as many classes as the network or fewer. ``random``: uniform over the
            network's classes, whatever the data set has.
        root: folder that holds the named data sets.

    Returns:
        uint8 (size, C, H, W) and labels; with its own labels, its own classes.

    Raises:
        ValueError: no such data set or folder, fewer images than `size`, and for its own labels
            more classes than the network has, or fewer than two.
    """
    source = open_source(like, name, labels, root)
    if size > len(source):
        raise SettingError("samples", f"'dataset:{name}' has {len(source)} images, got {size}")
    chosen = torch.randperm(len(source), generator=generator)[:size]
    images = _like(source.images[chosen], like.shape)
    if labels == "own":
        return LabelledImages(images, source.labels[chosen], source.classes)
    return LabelledImages(images, drawn_labels(size, like, generator), like.classes)


def open_source(
    like: LabelledImages, name: str, labels: Labels = "own", root: str | Path = "data"
) -> LabelledImages:
    """All that `dataset` chooses from; see there. Of files, none is decoded yet."""
    names = [known for known in list_datasets() if known != _FOLDER]
    setting = f"'dataset:{name}'"
    try:
        if name in names:
            source = load_dataset(name, root).train
        elif Path(name).is_dir():
            source = _folder(Path(name), like.shape)
        else:
            raise ValueError(f"no such folder, and {unknown('data set', name, names)}")
    except ValueError as error:
        raise SettingError("family", f"{setting}: {error}") from error
    if labels == "own" and not 2 <= source.num_classes <= like.num_classes:
        raise SettingError(
            "family",
            f"{setting}: expected 2 to {like.num_classes} classes, as the network has, for its own "
            f"labels, got {source.num_classes}; random labels are "
            f"{{dataset:{name}: {{labels: random}}}}",
        )
    return source


def largest_noise(
    family: Mixture, wanted: int, like: LabelledImages, root: str | Path = "data"
) -> int:
    """How many images a noise set can have, up to `wanted`: data sets may have fewer.

    Args:
        family: as for `make_noise`, and so are `like` and `root`.
        wanted: at most as many as there are real images, which suffice for every other family.

    Raises:
        ValueError: what `make_noise` would raise, before much time has gone into anything.
    """
    parts = noise_parts(family)
    total = sum(part.weight for part in parts)
    sources = {
        part: len(open_source(like, **{"root": root, **part.settings}))  # type: ignore[arg-type]
        for part in parts
        if part.family == dataset.__name__
    }
    # From where a share would have one image too many, even if it is rounded down.
    size = min([wanted, *(int((n + 1) * total / part.weight) for part, n in sources.items())])
    while any(
        count > sources.get(part, count)
        for part, count in zip(parts, shares(parts, size), strict=True)
    ):
        size -= 1
    return size


def root_of_others(name: str, root: str) -> str:
    """Where the other data sets of a run on `name` lie: in its root, unless that holds its images.

    >>> root_of_others("cifar10", "/data"), root_of_others("image_folder", "/data/faces")
    ('/data', 'data')
    """
    return "data" if name == _FOLDER else root


def _folder(folder: Path, shape: tuple[int, int, int]) -> LabelledImages:
    """The images of a folder, decoded at this shape (C, H, W)."""
    base = folder / "train" if (folder / "train").is_dir() else folder
    flat = [path for path in base.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
    files = {folder.name: sorted(flat)} if flat else images_by_class(base)
    counts = torch.tensor([len(of_class) for of_class in files.values()])
    return LabelledImages(
        FileImages([file for of_class in files.values() for file in of_class], shape),
        torch.repeat_interleave(counts),
        tuple(files),
    )


def _like(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """The images (N, 1 or 3, ·, ·) at this shape: uint8 (N, C, H, W)."""
    C, H, W = shape
    images = recolour(images, C == 1)
    if images.shape[1] != C:
        raise SettingError("family", f"'dataset' makes images of 1 or 3 channels, got {C}")
    height, width = images.shape[2:]
    box = central_box((H, W), 1.0, height, width)
    if box == (0, 0, H, W) == (0, 0, height, width):
        return images
    resized: Tensor = tvf.resized_crop(images, *box, size=[H, W], antialias=True)
    return resized.contiguous()
