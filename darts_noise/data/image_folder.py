"""Images in one folder per class: `root/train/<class>/*.png` and `root/test/<class>/*.png`.

This file lists the files and checks them before the first image is decoded. `file_images.py` reads
the images. For another layout (such as a CSV of labels), write another loader in its own file.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from darts_noise.data.datasets import register_dataset
from darts_noise.data.decoding import Header, read_header
from darts_noise.data.file_images import FileImages
from darts_noise.data.images import ImageDataset, LabelledImages
from darts_noise.data.splits import stratified_split
from darts_noise.errors import SettingError, counted

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif"}
    | {".tiff", ".webp"}
)
"""Suffixes of the files that are read. Hidden files and folders are ignored."""

IMAGE_SIZE = 32
"""Side in pixels to which images of unequal size are scaled by default, if none is smaller."""

_TEST_FOLDERS = ("test", "val", "valid", "validation")
_TEST_SEED = 0
"""Fixed and independent of the seed of a run, so that all runs have the same test images."""


@register_dataset
def image_folder(
    root: Path, image_size: int | None, grey: bool | None, test_fraction: float | None = None
) -> ImageDataset:
    """Your own images: root/train/<class>/*.jpg and root/test/<class>/*.jpg (or .png, ...).

    The classes are the names of the folders, sorted as text. Folders within a class are searched
    too, with a warning. If there is no `test` folder, `val`, `valid` or `validation` is the test
    set, as in ImageNet's layout. The validation images for α always come from `train`. With
    `test_fraction`, the folders are root/<class>/*.jpg or root/train/<class>/*.jpg, and this share
    of each class becomes the test images.

    If the images differ in size, the central square of each image is scaled to `image_size`. This
    keeps the aspect ratio. If `image_size` is None, it is `IMAGE_SIZE` or the shortest side of all
    images, whichever is smaller. If `grey` is None, the images are grey if all files are grey. If
    both `image_size` and `grey` are set, this function does not open the files, because a million
    headers take a minute or more. A damaged file is then reported when it is decoded.

    Returns:
        Images in their files (`FileImages`). `load_dataset` decodes them if they fit into memory.

    Raises:
        ValueError: a folder is missing or empty, there is only one class, a class is in only one
            half, or a file is not an image. The message names the folder or file.
    """
    halves = _test_folder(root) if test_fraction is None else _split(root, test_fraction)
    files = [file for half in halves for images in half.values() for file in images]
    headers = [read_header(file) for file in files] if None in (image_size, grey) else []
    shape = _shape(root, files, headers, image_size)
    if grey is None:
        grey = all(header.grey for header in headers)
    train, test = (
        LabelledImages(
            FileImages(
                [file for images in half.values() for file in images], (1 if grey else 3, *shape)
            ),
            torch.repeat_interleave(torch.tensor([len(images) for images in half.values()])),
            tuple(half),
        )
        for half in halves
    )
    return ImageDataset("image_folder", train, test, flip=True)


Half = dict[str, list[Path]]
"""Class → its files."""


def _test_folder(root: Path) -> tuple[Half, Half]:
    """List the files in `train` and in `test` or the folder that takes its place."""
    train_folder = folder_named(root, "train")
    if train_folder is None:
        raise ValueError(
            f"{root / 'train'}: expected a folder with one folder per class; {_where_else(root)}"
        )
    train = _at_least_two(train_folder, images_by_class(train_folder))
    present = [folder for name in _TEST_FOLDERS if (folder := folder_named(root, name))]
    if not present:
        raise ValueError(
            f"{root / 'test'}: expected a folder with one folder per class; put the test images "
            "there, or set data.test_fraction, such as 0.2, to hold out training images"
        )
    test_folder = present[0]
    for ignored in sorted(set(_folders(root)) - {train_folder, test_folder}):
        number = sum(file.suffix.lower() in SUFFIXES for file in ignored.rglob("*"))
        warnings.warn(
            f"{ignored} with {counted(number, 'image')} is ignored: {test_folder} is the test set, "
            "and validation images are taken from train (data.validation_fraction)",
            stacklevel=2,
        )
    test = images_by_class(test_folder)
    for folder, half, other_folder, other in (
        (train_folder, train, test_folder, test),
        (test_folder, test, train_folder, train),
    ):
        if missing := [name for name in half if name not in other]:
            raise ValueError(
                f"{other_folder / missing[0]}: expected a folder, because {folder / missing[0]} "
                "is a class"
            )
    return train, test


def _split(root: Path, fraction: float) -> tuple[Half, Half]:
    """List the files of `root/train` or, without it, of `root`, and hold out the test images."""
    train = folder_named(root, "train")
    for name in _TEST_FOLDERS:
        test = folder_named(root, name)
        if test is not None and (train is not None or _folders(test)):
            raise SettingError("test_fraction", f"expected null, because {test} is the test set")
    folder = train or root
    found = _at_least_two(folder, images_by_class(folder))
    labels = torch.repeat_interleave(torch.tensor([len(images) for images in found.values()]))
    files = [file for images in found.values() for file in images]
    halves: tuple[Half, Half] = ({name: [] for name in found}, {name: [] for name in found})
    for half, indices in zip(halves, stratified_split(labels, fraction, _TEST_SEED), strict=True):
        for index in sorted(indices.tolist()):
            half[list(found)[labels[index]]].append(files[index])
    if untested := [name for name, images in halves[1].items() if not images]:
        raise ValueError(
            f"{folder / untested[0]}: expected 2 images or more in each class, so that one can be "
            f"a test image, got 1 (classes with 1 image: {len(untested)})"
        )
    return halves


def folder_named(root: Path, name: str) -> Path | None:
    """Return the folder with this name, or with this name in capitals, or None."""
    same = [folder for folder in _folders(root) if folder.name.lower() == name]
    return min(same, key=lambda folder: folder.name != name, default=None)


def _where_else(root: Path) -> str:
    """Return what to do if there is no folder `train` in `root`."""
    folders = _folders(root)
    deeper = [folder for folder in folders if folder_named(folder, "train")]
    if deeper:
        return f"found one in {deeper[0]}; set data.root to {deeper[0]}"
    if len(folders) < 2:
        return "put the images there, or set data.root"
    names = ", ".join(folder.name for folder in folders[:3]) + (", …" if len(folders) > 3 else "")
    return (
        f"if the folders in {root} ({names}) are the classes, set data.test_fraction, such as 0.2, "
        "to hold out test images"
    )


def _at_least_two(folder: Path, half: Half) -> Half:
    if len(half) > 1:
        return half
    [name] = half
    inner = ", ".join(path.name for path in _folders(folder / name)[:3])
    hint = f"; if its folders ({inner}, …) are the classes, move them to {folder}" if inner else ""
    raise ValueError(
        f"{folder}: expected training images of 2 classes or more, got {name!r} alone{hint}"
    )


def _shape(
    root: Path, files: Sequence[Path], headers: Sequence[Header], image_size: int | None
) -> tuple[int, int]:
    """Return (H, W) of all images. Warn if the images are cut, or scaled without `image_size`."""
    sizes = {(header.height, header.width) for header in headers}
    if image_size is None and len(sizes) == 1:
        return sizes.pop()
    side = image_size or min(IMAGE_SIZE, *(min(size) for size in sizes))
    if image_size is None or any(height != width for height, width in sizes):
        low, high = (
            "×".join(str(pick(sides)) for sides in zip(*((w, h) for h, w in sizes), strict=True))
            for pick in (min, max)
        )
        warnings.warn(
            f"{root}: {len(files):,} images of {low if low == high else f'{low} to {high}'} "
            f"pixels: the central square of each image is scaled to {side}×{side} "
            "(data.image_size)",
            stacklevel=3,
        )
    return side, side


def images_by_class(folder: Path) -> Half:
    """List the image files of each class in `folder`. Classes and files are sorted.

    One warning tells how many files are ignored, another how many images are in folders within the
    folder of their class.

    Raises:
        ValueError: the folder is missing, it has no classes, or a class has no images.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: expected a folder with one folder per class; "
            "put the images there, or set data.root"
        )
    classes = _folders(folder)
    if not classes:
        raise ValueError(f"{folder}: expected one folder to a class, got none")
    ignored = [file for file in folder.iterdir() if not file.is_dir() and not _hidden(file)]
    found: Half = {}
    for path in classes:
        files = sorted(
            file
            for file in path.rglob("*")
            if not any(map(_hidden, file.relative_to(path).parents))
            and not _hidden(file)
            and (file.is_file() or file.is_symlink())
        )
        found[path.name] = [file for file in files if file.suffix.lower() in SUFFIXES]
        ignored += [file for file in files if file.suffix.lower() not in SUFFIXES]
        for file in found[path.name]:
            if not file.exists():
                raise ValueError(f"{file}: expected an image, got a link to a file that is missing")
        if not found[path.name]:
            raise ValueError(f"{path}: expected images ({', '.join(sorted(SUFFIXES))}), got none")
    _tell(folder, found, ignored)
    return found


def _tell(folder: Path, found: Half, ignored: list[Path]) -> None:
    if ignored:
        suffixes = Counter(file.suffix.lower() or "no suffix" for file in ignored)
        kinds = ", ".join(f"{number:,} {suffix}" for suffix, number in suffixes.most_common(5))
        warnings.warn(
            f"{folder}: ignored {counted(len(ignored), 'file')}, not in the folder of a class or "
            f"not an image ({kinds}); the first is {min(ignored)}; images end with "
            f"{', '.join(sorted(SUFFIXES))}",
            stacklevel=4,
        )
    nested = [f for name, files in found.items() for f in files if f.parent != folder / name]
    if nested:
        warnings.warn(
            f"{folder}: {counted(len(nested), 'image')} in folders within a class, such as "
            f"{nested[0].parent}, counted as images of that class; if these folders are the "
            f"classes, move them to {folder}",
            stacklevel=4,
        )


def _folders(folder: Path) -> list[Path]:
    """Return the folders in `folder`, sorted, without hidden ones; none if it is missing."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _hidden(path))


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")
