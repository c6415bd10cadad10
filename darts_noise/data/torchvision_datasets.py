"""Data sets that torchvision reads and downloads, in torchvision's layout below the root.

To add another data set of torchvision, write a function here. It states the class and whether a
mirror image keeps its class. `torchvision_files.py` reads the files; its list of the files of each
class, `_official`, needs the new class too.
"""

from pathlib import Path

from darts_noise.data.datasets import register_dataset
from darts_noise.data.images import ImageDataset

_DIGITS = tuple(str(digit) for digit in range(10))


@register_dataset
def mnist(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
    """70,000 handwritten digits, 28 × 28, grey (LeCun et al., 1998)."""
    return _load("mnist", "MNIST", root, flip=False, classes=_DIGITS)


@register_dataset
def fashion_mnist(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
    """70,000 articles of clothing, 28 × 28, grey (Xiao et al., 2017, arXiv:1708.07747)."""
    return _load("fashion_mnist", "FashionMNIST", root, flip=True)


@register_dataset
def cifar10(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
    """60,000 photographs in 10 classes, 32 × 32, colour (Krizhevsky, 2009)."""
    return _load("cifar10", "CIFAR10", root, flip=True)


@register_dataset
def cifar100(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
    """60,000 photographs in 100 classes, 32 × 32, colour (Krizhevsky, 2009)."""
    return _load("cifar100", "CIFAR100", root, flip=True)


@register_dataset
def svhn(root: Path, image_size: int | None, grey: bool | None) -> ImageDataset:
    """99,289 house-number digits, 32 × 32, colour (Netzer et al., 2011), without the extra set."""
    return _load("svhn", "SVHN", root, flip=False, classes=_DIGITS)


def _load(
    name: str, cls: str, root: Path, *, flip: bool, classes: tuple[str, ...] | None = None
) -> ImageDataset:
    from torchvision import datasets  # one second: not before images are read

    from darts_noise.data.torchvision_files import load_both_halves

    return load_both_halves(name, getattr(datasets, cls), root, flip=flip, classes=classes)
