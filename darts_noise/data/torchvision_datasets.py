"""Data sets that torchvision reads and downloads, in torchvision's layout below the root.

If the files are on disk, the network is not used. To add another data set of torchvision, write a
function here. It states how to open a half, where the files are, and whether a mirror image keeps
its class.
"""

import http.client
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import datasets as tv

from darts_noise.data.datasets import register_dataset
from darts_noise.data.images import ImageDataset, LabelledImages

_DIGITS = tuple(str(digit) for digit in range(10))

Open = Callable[[bool, bool], Any]
"""(train, download) → torchvision's data set for one half."""


@register_dataset
def mnist(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
    """70,000 handwritten digits, 28 × 28, grey (LeCun et al., 1998)."""
    return _load(
        "mnist",
        lambda train, download: tv.MNIST(root, train=train, download=download),
        root / "MNIST" / "raw",
        classes=_DIGITS,
        flip=False,
    )


@register_dataset
def fashion_mnist(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
    """70,000 articles of clothing, 28 × 28, grey (Xiao et al., 2017, arXiv:1708.07747)."""
    return _load(
        "fashion_mnist",
        lambda train, download: tv.FashionMNIST(root, train=train, download=download),
        root / "FashionMNIST" / "raw",
        flip=True,
    )


@register_dataset
def cifar10(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
    """60,000 photographs in 10 classes, 32 × 32, colour (Krizhevsky, 2009)."""
    return _load(
        "cifar10",
        lambda train, download: tv.CIFAR10(root, train=train, download=download),
        root / "cifar-10-batches-py",
        flip=True,
    )


@register_dataset
def cifar100(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
    """60,000 photographs in 100 classes, 32 × 32, colour (Krizhevsky, 2009)."""
    return _load(
        "cifar100",
        lambda train, download: tv.CIFAR100(root, train=train, download=download),
        root / "cifar-100-python",
        flip=True,
    )


@register_dataset
def svhn(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
    """99,289 house-number digits, 32 × 32, colour (Netzer et al., 2011), without the extra set."""
    return _load(
        "svhn",
        lambda train, download: tv.SVHN(
            root, split="train" if train else "test", download=download
        ),
        root / "{train,test}_32x32.mat",
        classes=_DIGITS,
        flip=False,
    )


def _load(
    name: str, open_: Open, files: Path, *, flip: bool, classes: tuple[str, ...] | None = None
) -> ImageDataset:
    """Load both halves of a data set at `files`. If `classes` is None, torchvision's are used."""
    halves = []
    for train in (True, False):
        source = _open_or_download(name, open_, files, train)
        labels = source.labels if isinstance(source, tv.SVHN) else source.targets
        try:
            half = LabelledImages(
                _channels_first(source),
                torch.as_tensor(labels, dtype=torch.int64),
                tuple(source.classes) if classes is None else classes,
            )
        except ValueError as error:
            raise ValueError(f"data set {name!r}: the files at {files}: {error}") from None
        halves.append(half)
    train_half, test_half = halves
    return ImageDataset(name, train_half, test_half, flip)


def _open_or_download(name: str, open_: Open, files: Path, train: bool) -> Any:
    try:
        try:
            return open_(train, False)
        except RuntimeError:  # torchvision raises it for missing or incomplete files
            return open_(train, True)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise ValueError(
            f"data set {name!r}: expected its files at {files}, and downloading them failed "
            f"({reason}); copy them there from a machine with a network, or set data.root"
        ) from error
    except (AssertionError, EOFError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"data set {name!r}: cannot read the files at {files}; delete them to download again"
        ) from error


def _channels_first(source: Any) -> torch.Tensor:
    """Return the pixels of torchvision's data set as uint8 (N, C, H, W)."""
    if isinstance(source.data, torch.Tensor):
        return source.data[:, None]  # MNIST and Fashion-MNIST: (N, H, W)
    pixels = torch.from_numpy(np.ascontiguousarray(source.data))
    if isinstance(source, tv.SVHN):
        return pixels  # (N, C, H, W) already
    return pixels.permute(0, 3, 1, 2).contiguous()  # CIFAR: (N, H, W, C)
