"""The files of torchvision's data sets: reading, checking and downloading them.

If the files are on disk, the network is not used. A download goes to a temporary folder; then only
the missing files are moved to their place. Files that are on disk are never changed.
"""

import http.client
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import datasets as tv
from torchvision.datasets.utils import check_integrity

from darts_noise.data.images import ImageDataset, LabelledImages

Source = type[tv.MNIST] | type[tv.CIFAR10] | type[tv.SVHN]
Checksums = dict[Path, str | None]
"""File, relative to the root → its MD5 checksum. None: any file of this name is accepted."""


def load_both_halves(
    name: str, cls: Source, root: Path, *, flip: bool, classes: tuple[str, ...] | None = None
) -> ImageDataset:
    """Load both halves of a data set.

    Args:
        name: name of the data set.
        cls: class of torchvision that reads it.
        root: folder of the files, in torchvision's layout.
        flip: whether a mirror image keeps its class.
        classes: names of the classes. Default: those of torchvision.

    Raises:
        ValueError: the files are missing and cannot be downloaded, or are damaged.
    """
    root = root.expanduser()
    files = _shown_place(cls, root)
    halves = []
    for train in (True, False):
        try:
            source = _open_or_download(cls, root, train)
            labels = source.labels if isinstance(source, tv.SVHN) else source.targets
            half = LabelledImages(
                _channels_first(source),
                torch.as_tensor(labels, dtype=torch.int64),
                tuple(source.classes) if classes is None else classes,
            )
        except _FilesError as error:
            raise ValueError(f"data set {name!r}: {error}") from error.__cause__
        except ValueError as error:
            raise ValueError(f"data set {name!r}: the files at {files}: {error}") from None
        halves.append(half)
    train_half, test_half = halves
    return ImageDataset(name, train_half, test_half, flip)


class _FilesError(Exception):
    """The files of a data set are missing, in another folder, damaged or not the official ones."""


def _shown_place(cls: Source, root: Path) -> Path:
    """Return where the files are, for a message."""
    if issubclass(cls, tv.SVHN):
        return root / "{train,test}_32x32.mat"
    return root / next(iter(_official(cls)[0])).parent


def _official(cls: Source) -> tuple[Checksums, Checksums]:
    """Return the files that torchvision reads, and the archives that hold them."""
    if issubclass(cls, tv.SVHN):
        halves = [cls.split_list[half] for half in ("train", "test")]
        return {Path(file): md5 for _, file, md5 in halves}, {}
    if issubclass(cls, tv.CIFAR10):
        listed = [*cls.train_list, *cls.test_list, (cls.meta["filename"], cls.meta["md5"])]
        folder = Path(cls.base_folder)
        return {folder / file: md5 for file, md5 in listed}, {Path(cls.filename): cls.tgz_md5}
    raw = Path(cls.__name__) / "raw"
    archives = {raw / file: md5 for file, md5 in cls.resources}
    return {archive.with_suffix(""): None for archive in archives}, dict(archives)


def _open(cls: Source, root: Path, train: bool, download: bool) -> Any:
    half: dict[str, Any] = {"train": train}
    if issubclass(cls, tv.SVHN):
        half = {"split": "train" if train else "test"}
    return cls(root, download=download, **half)


def _open_or_download(cls: Source, root: Path, train: bool) -> Any:
    """Open a half. If files are missing, download them first.

    Raises:
        _FilesError: a file on disk is damaged or not the official one, the files are in another
            folder, or a file is missing and cannot be downloaded.
    """
    try:
        try:
            return _open(cls, root, train, download=False)
        except RuntimeError:  # torchvision raises it for missing or incomplete files
            _require_official(cls, root)
            _download(cls, root, train)
            return _open(cls, root, train, download=False)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise _FilesError(
            f"expected its files at {_shown_place(cls, root)}, and downloading them failed "
            f"({reason}); copy them there from a machine with a network, or set data.root"
        ) from error
    except (AssertionError, EOFError, LookupError, TypeError, ValueError) as error:
        raise _FilesError(
            f"cannot read the files at {_shown_place(cls, root)}; move them away to download again"
        ) from error


def _require_official(cls: Source, root: Path) -> None:
    """Raise `_FilesError` if a file on disk differs, or if the files are in a folder nearby."""
    files, archives = _official(cls)
    for file, md5 in {**files, **archives}.items():
        path = root / file
        if path.exists() and not check_integrity(path, md5):
            raise _FilesError(
                f"{path} differs from the official file (MD5 checksum) and is left as it is; move "
                "it away to download the official one, or load your own images as image_folder"
            )
    if not any((root / file).exists() for file in [*files, *archives]):
        _require_not_nearby(cls, root, [*files, *archives])


def _require_not_nearby(cls: Source, root: Path, files: list[Path]) -> None:
    """Raise `_FilesError` if the files are one or two folders too high or too deep."""
    root = Path(os.path.normpath(root))
    for other in (*root.parents[:2], *root.glob("*/"), *root.glob("*/*/")):
        if any((other / file).is_file() for file in files):
            raise _FilesError(f"found its files in {other}; set data.root to {other}")
    for depth in range(4):  # MNIST's files have the names of Fashion-MNIST's
        for found in root.glob("*/" * depth + files[0].name):
            folders = found.relative_to(root).parent.parts
            if not any(part.endswith("MNIST") and part != cls.__name__ for part in folders):
                raise _FilesError(
                    f"found {found}; move it and the other files to {root / files[0]}"
                )


def _download(cls: Source, root: Path, train: bool) -> None:
    """Download to a temporary folder, and move the files that are missing below the root."""
    files, archives = _official(cls)
    place = next(folder for folder in (root, *root.absolute().parents) if folder.is_dir())
    with tempfile.TemporaryDirectory(prefix=".download-", dir=place) as folder:
        fresh = Path(folder)
        for archive in archives:
            if (root / archive).exists():  # its checksum is right
                (fresh / archive).parent.mkdir(parents=True, exist_ok=True)
                (fresh / archive).symlink_to((root / archive).absolute())
        _open(cls, fresh, train, download=True)
        for file in files:
            if (fresh / file).exists() and not (root / file).exists():
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(fresh / file, root / file)


def _channels_first(source: Any) -> torch.Tensor:
    """Return the pixels of torchvision's data set as uint8 (N, C, H, W)."""
    if isinstance(source.data, torch.Tensor):
        return source.data[:, None]  # MNIST and Fashion-MNIST: (N, H, W)
    pixels = torch.from_numpy(np.ascontiguousarray(source.data))
    if isinstance(source, tv.SVHN):
        return pixels  # (N, C, H, W) already
    return pixels.permute(0, 3, 1, 2).contiguous()  # CIFAR: (N, H, W, C)
