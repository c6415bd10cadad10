"""Images in one folder per class: `root/train/<class>/*.png` and `root/test/<class>/*.png`.

This file lists the files and checks them before the first image is decoded. `file_images.py` reads
the images. For another layout (such as a CSV of labels), write another loader in its own file.
"""

import warnings
from pathlib import Path

import torch

from darts_noise.data.datasets import register_dataset
from darts_noise.data.decoding import Header, read_headers
from darts_noise.data.file_images import FileImages
from darts_noise.data.images import ImageDataset, LabelledImages

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Files with another suffix are ignored. Hidden files and folders are ignored too."""

_TEST_FOLDERS = ("test", "val", "valid")


@register_dataset
def image_folder(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
    """Your own images: root/train/<class>/*.jpg and root/test/<class>/*.jpg (or .png, ...).

    The classes are the names of the folders, sorted as text. Folders within a class are searched
    too. If there is no `test` folder, `val` or `valid` is the test set, as in ImageNet's layout.
    The validation images for α always come from `train`.

    If the images differ in size, set `image_size`; the central square of each image is then scaled
    to it. If `grey` is None, the images are grey if all files are grey. If both `image_size` and
    `grey` are set, this function does not open the files, because a million headers take a minute
    or more. A damaged file is then reported when it is decoded.

    Returns:
        Images in their files (`FileImages`). `load_dataset` decodes them if they fit into memory.

    Raises:
        ValueError: a folder is missing or empty, a class is in only one half, images differ in
            size, or a file is not an image. The message names the folder or file.
    """
    train_folder = root / "train"
    train_files = images_by_class(train_folder)
    test_folder = _test_folder(root)
    test_files = images_by_class(test_folder)
    _require_classes_of(train_folder, train_files, test_folder, test_files)
    _require_classes_of(test_folder, test_files, train_folder, train_files)
    halves = train_files, test_files
    files = [file for half in halves for images in half.values() for file in images]
    if image_size is None or grey is None:
        headers = read_headers(files)
        if image_size is None:
            _require_equal_sizes(files, headers)
        if grey is None:
            grey = all(header.grey for header in headers)
        height, width = headers[0].height, headers[0].width
    if image_size is not None:
        height, width = image_size, image_size
    shape = 1 if grey else 3, height, width
    train, test = (
        LabelledImages(
            FileImages([file for images in half.values() for file in images], shape),
            torch.repeat_interleave(torch.tensor([len(images) for images in half.values()])),
            tuple(half),
        )
        for half in halves
    )
    return ImageDataset("image_folder", train, test, flip=True)


def _require_classes_of(
    folder: Path, files: dict[str, list[Path]], other: Path, others: dict[str, list[Path]]
) -> None:
    for name in files:
        if name not in others:
            raise ValueError(
                f"{other / name}: expected a folder, because {folder / name} is a class"
            )


def _test_folder(root: Path) -> Path:
    present = [root / name for name in _TEST_FOLDERS if (root / name).is_dir()]
    if not present:
        raise ValueError(
            f"{root / 'test'}: expected a folder with one folder per class; "
            "put the test images there, or set data.root"
        )
    for ignored in present[1:]:
        warnings.warn(
            f"{ignored} is ignored: {present[0]} is the test set, and validation images are taken "
            "from train (data.validation_fraction)",
            stacklevel=2,
        )
    return present[0]


def images_by_class(folder: Path) -> dict[str, list[Path]]:
    """List the image files of each class in `folder`. Classes and files are sorted.

    Raises:
        ValueError: the folder is missing, it has no classes, or a class has no images.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: expected a folder with one folder per class; "
            "put the images there, or set data.root"
        )
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not _hidden(path))
    if not classes:
        raise ValueError(f"{folder}: expected one folder to a class, got none")
    found = {}
    for path in classes:
        found[path.name] = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in SUFFIXES
            and not any(map(_hidden, file.relative_to(path).parents))
            and not _hidden(file)
            and (file.is_file() or file.is_symlink())
        )
        for file in found[path.name]:
            if not file.exists():
                raise ValueError(f"{file}: expected an image, got a link to a file that is missing")
        if not found[path.name]:
            raise ValueError(f"{path}: expected images ({', '.join(sorted(SUFFIXES))}), got none")
    return found


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _require_equal_sizes(files: list[Path], headers: list[Header]) -> None:
    first = headers[0]
    for file, header in zip(files, headers, strict=True):
        if (header.height, header.width) != (first.height, first.width):
            raise ValueError(
                f"{file}: expected {first.width} × {first.height} pixels as in {files[0]}, got "
                f"{header.width} × {header.height}; set data.image_size to scale all images"
            )
