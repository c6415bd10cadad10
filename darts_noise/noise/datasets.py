"""Use another data set or a folder of images as the images that a network must not learn.

Example: a network for faces that cannot learn landscapes. Only training images are used, never test
images.
"""

from pathlib import Path

import torch
from torch import Tensor

from darts_noise.data.conversion import recolour
from darts_noise.data.crops import central_box
from darts_noise.data.datasets import list_datasets, load_dataset
from darts_noise.data.file_images import FileImages
from darts_noise.data.image_folder import SUFFIXES, folder_named, images_by_class
from darts_noise.data.images import LabelledImages
from darts_noise.errors import SettingError, unknown
from darts_noise.noise.draws import Labels, drawn_labels
from darts_noise.noise.families import noise_parts, register_noise
from darts_noise.noise.mixture import Mixture, shares

_FOLDER = "image_folder"
SHARING_A_ROOT = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn")
"""Data sets that lie in one root beside each other."""


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
    """Choose distinct training images of another data set and convert them to the real form.

    The largest central part with the proportions of the real images is scaled to the size of the
    real images (bilinear, antialiased). Colour is converted to grey, or grey is repeated three
    times, if the real images need it.

    Args:
        size: number of images.
        like: the real images. They give (C, H, W) and the number of classes of the network.
        generator: a CPU generator.
        name: one of `list_datasets`, or a folder. Write ``./mnist`` for a folder named like a data
            set. A folder holds ``train/<class>/*.jpg``, ``<class>/*.jpg`` or images without
            classes.
        labels: ``own`` (default): class k of the data set becomes class k of the network, whatever
            their names. The data set must not have more classes than the network. ``random``:
            uniform over the classes of the network.
        root: folder that holds the named data sets. Default: ``data``.

    Returns:
        Images, uint8 (size, C, H, W), and labels. With ``own`` labels, the classes are the classes
        of the data set.

    Raises:
        ValueError: the data set or folder is missing or has fewer images than `size`. With ``own``
            labels also: it has more classes than the network, or fewer than two.
    """
    source = open_source(like, name, labels, root)
    if size > len(source):
        raise SettingError(
            "samples",
            f"expected at most {len(source)} for the share of 'dataset:{name}', which has no more "
            f"images, got {size}",
        )
    chosen = torch.randperm(len(source), generator=generator)[:size]
    images = _like(source.images[chosen], like.shape)
    if labels == "own":
        return LabelledImages(images, source.labels[chosen], source.classes)
    return LabelledImages(images, drawn_labels(size, like, generator), like.classes)


def open_source(
    like: LabelledImages, name: str, labels: Labels = "own", root: str | Path = "data"
) -> LabelledImages:
    """Open all images that `dataset` chooses from; see there. No image file is decoded yet."""
    names = [known for known in list_datasets() if known != _FOLDER]
    setting = f"'dataset:{name}'"
    try:
        if name in names:
            source = _named(name, root)
        elif Path(name).expanduser().is_dir():
            source = _folder(Path(name).expanduser(), like.shape)
        else:
            raise ValueError(f"no such folder, and {unknown('data set', name, names)}")
    except ValueError as error:
        raise SettingError("family", f"{setting}: {error}") from error
    if labels == "own" and not 2 <= source.num_classes <= like.num_classes:
        raise SettingError(
            "family",
            f"{setting}: expected 2 to {like.num_classes} classes for its own labels, because the "
            f"network has {like.num_classes}, got {source.num_classes}; for random labels, write "
            f"'{{dataset:{name}: {{labels: random}}}}'",
        )
    return source


def largest_noise(
    family: Mixture, wanted: int, like: LabelledImages, root: str | Path = "data"
) -> int:
    """Return the largest possible size of a noise set, at most `wanted`.

    A data set in the mixture may have too few images. The other families can make as many images
    as there are real images.

    Args:
        family, like, root: as for `make_noise`.
        wanted: at most the number of real images.

    Raises:
        ValueError: the same errors as `make_noise`, but before it does any slow work.
    """
    parts = noise_parts(family)
    total = sum(part.weight for part in parts)
    sources = {
        part: len(open_source(like, **{"root": root, **part.settings}))  # type: ignore[arg-type]
        for part in parts
        if part.family == dataset.__name__
    }
    # Start at the size where a share, even rounded down, is one image too large.
    size = min([wanted, *(int((n + 1) * total / part.weight) for part, n in sources.items())])
    while any(
        count > sources.get(part, count)
        for part, count in zip(parts, shares(parts, size), strict=True)
    ):
        size -= 1
    return size


def root_of_others(name: str, root: str) -> str:
    """Return the folder of the other data sets of a run on `name`.

    It is the root of the run if its data set is one of those that share a root, such as MNIST. The
    root of other images holds nothing else.

    >>> root_of_others("cifar10", "/data"), root_of_others("image_folder", "/data/faces")
    ('/data', 'data')
    """
    return root if name in SHARING_A_ROOT else "data"


def _named(name: str, root: str | Path) -> LabelledImages:
    """Open the training images of a data set; an error says how to state its root."""
    try:
        return load_dataset(name, root).train
    except ValueError as error:
        told = f"the noise has its own root, as in '{{dataset:{name}: {{root: FOLDER}}}}'"
        raise ValueError(f"{error}; {told}") from error


def _folder(folder: Path, shape: tuple[int, int, int]) -> LabelledImages:
    """Open the images of a folder; they are decoded at this shape (C, H, W)."""
    base = folder_named(folder, "train") or folder
    flat = [path for path in base.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
    files = {folder.name: sorted(flat)} if flat else images_by_class(base)
    counts = torch.tensor([len(of_class) for of_class in files.values()])
    return LabelledImages(
        FileImages([file for of_class in files.values() for file in of_class], shape),
        torch.repeat_interleave(counts),
        tuple(files),
    )


def _like(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Convert images (N, 1 or 3, ·, ·) to this shape: uint8 (N, C, H, W)."""
    C, H, W = shape
    images = recolour(images, C == 1)
    if images.shape[1] != C:
        raise SettingError("family", f"'dataset' makes images of 1 or 3 channels, got {C}")
    height, width = images.shape[2:]
    box = central_box((H, W), 1.0, height, width)
    if box == (0, 0, H, W) == (0, 0, height, width):
        return images
    from torchvision.transforms.v2 import functional as tvf

    resized: Tensor = tvf.resized_crop(images, *box, size=[H, W], antialias=True)
    return resized.contiguous()
