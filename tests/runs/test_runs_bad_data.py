"""Unusable data: one line that names the file or the key, before the training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import refused, search, train
from PIL import Image

SCRIPTS = {
    "search": (search, ["--model.nodes=1", "--model.warmup_epochs=0", "--model.race=0"]),
    "train": (train, ["--model.genotype=darts_v1", "--model.auxiliary_weight=0"]),
}
FEW = ["--data.batch_size=4", "--model.channels=2", "--model.num_cells=3", "--model.stem=small"]
FEW += ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--wandb=off", "--name=a"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with eight training images and two test images each, 8 × 8, in colour."""
    random = np.random.default_rng(0)
    for half, count in (("train", 8), ("test", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / half / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "images"


def line(
    kind: str,
    root: Path,
    capsys: pytest.CaptureFixture[str],
    *more: str,
    name: str = "image_folder",
) -> str:
    """The one line with which a script ends."""
    main, settings = SCRIPTS[kind]
    own = [f"--data.name={name}", f"--data.root={root}", f"--runs={root.parent / 'runs'}"]
    return refused(main, [*FEW, *settings, *own, *more], capsys)


def begun(root: Path) -> bool:
    """Whether anything has been left of a run that cannot go on, an empty folder included."""
    return (root.parent / "runs").exists()


def empty(root: Path) -> Path:
    for file in (root / "train").rglob("*.png"):
        file.unlink()
    return root / "train" / "cat"


def no_classes(root: Path) -> Path:
    empty(root)
    for name in ("cat", "dog"):
        (root / "train" / name).rmdir()
    return root / "train"


def truncated(root: Path) -> Path:
    file = root / "train" / "dog" / "3.png"
    file.write_bytes(file.read_bytes()[:150])
    return file


def corrupt(root: Path) -> Path:
    file = root / "test" / "cat" / "1.png"
    content = bytearray(file.read_bytes())
    content[60:120] = bytes(60)
    file.write_bytes(bytes(content))
    return file


def not_numbers(root: Path) -> Path:
    file = root / "train" / "dog" / "9.tiff"
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(file)
    return file


def thirty_two_bits(root: Path) -> Path:
    file = root / "train" / "cat" / "9.tiff"
    Image.fromarray(np.full((8, 8), 1 << 20, np.int32)).save(file)
    return file


@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize(
    "damage", [empty, no_classes, truncated, corrupt, not_numbers, thirty_two_bits]
)
def test_a_file_or_folder_is_named_before_the_run_begins(
    kind: str, damage: Callable[[Path], Path], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = damage(root)
    assert f"error: {named}: " in line(kind, root, capsys)
    assert not begun(root)


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_damaged_file_that_is_read_late_is_named_too(
    kind: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images on disk are opened for their headers, and decoded when their batch is due."""
    file = truncated(root)
    assert f"{file}: cannot read the image" in line(kind, root, capsys, "--data.in_memory=false")


@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("--data.batch_size=64", "data.batch_size"),
        ("--data.train_samples=1", "data.train_samples"),
        ("--data.train_samples=17", "data.train_samples"),
        ("--data.image_size=0", "data.image_size"),
    ],
)
def test_a_setting_that_does_not_suit_the_data_is_named(
    kind: str, setting: str, key: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert key in line(kind, root, capsys, setting)
    assert not begun(root)


@pytest.mark.parametrize("kind", SCRIPTS)
def test_one_class_alone_is_line(kind: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for half in ("train", "test"):
        for file in (root / half / "dog").iterdir():
            file.unlink()
        (root / half / "dog").rmdir()
    assert "expected training images of 2 classes or more" in line(kind, root, capsys)
    assert not begun(root)


def idx(values: np.ndarray) -> bytes:
    """The format of MNIST's files: two zeros, uint8, rank, and the sizes as big-endian int32."""
    sizes = np.array(values.shape, ">i4").tobytes()
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


def write_mnist(root: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for half in ("train", "t10k"):
        (raw / f"{half}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{half}-labels-idx1-ubyte").write_bytes(idx(labels))
    return raw


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        ((20, 28, 28), np.arange(20) % 10 + 3, "labels: expected 0 to 9"),
        ((20, 28, 28), np.arange(12) % 10, "labels: expected one for each of 20 images, got 12"),
        ((20, 28, 28, 3), np.arange(20) % 10, "cannot read the files"),
        ((20, 28), np.arange(20) % 10, "cannot read the files"),
    ],
    ids=["labels out of range", "too few labels", "channels", "no images"],
)
def test_files_of_a_data_set_that_do_not_fit_together_are_named(
    images: tuple[int, ...],
    labels: np.ndarray,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "data"
    raw = write_mnist(root, np.zeros(images, np.uint8), labels.astype(np.uint8))
    error = line("search", root, capsys, name="mnist")
    assert str(raw) in error
    assert said in error
    assert not begun(root)


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda whole: whole[:500],
    lambda whole: b"hello, this is no image" + whole[23:],
    lambda whole: bytes([0, 0, 99, 3]) + whole[4:],  # no type of numbers
    lambda whole: bytes([0, 0, 9, 3]) + whole[4:],  # signed
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_of_a_data_set_that_is_damaged_is_named(
    damage: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    raw = write_mnist(root, np.zeros((20, 28, 28), np.uint8), np.zeros(20, np.uint8))
    file = raw / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    assert f"files at {raw}" in line("search", root, capsys, name="mnist")
    assert not begun(root)
