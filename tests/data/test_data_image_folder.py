"""Image folders made in a temporary directory: what is read, and what is said of a wrong one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from darts_noise.data.datasets import load_dataset
from darts_noise.data.decoding import Decoding
from darts_noise.data.images import ImageDataset


def pixels(seed: int, height: int = 6, width: int = 6, channels: int = 3) -> np.ndarray:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, two training images and one test image of each, in colour, 6 × 6."""
    for label, name in enumerate(("cat", "dog")):
        write(tmp_path / "train" / name / "0.png", pixels(10 * label))
        write(tmp_path / "train" / name / "1.png", pixels(10 * label + 1))
        write(tmp_path / "test" / name / "0.png", pixels(10 * label + 2))
    return tmp_path


def load(root: Path, image_size: int | None = None, grey: bool | None = None) -> ImageDataset:
    return load_dataset("image_folder", root, image_size, grey)


def test_pixels_labels_and_classes_are_those_of_the_files(root: Path) -> None:
    data = load(root)
    assert data.train.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.flip
    for image, seed in zip(data.train.images, (0, 1, 10, 11), strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels(seed))
    assert np.array_equal(data.test.images[1].permute(1, 2, 0).numpy(), pixels(12))


def test_other_files_and_hidden_ones_are_ignored_and_folders_within_a_class_are_not(
    root: Path,
) -> None:
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    (root / "train" / "cat" / "._0.png").write_text("no image")
    (root / "train" / ".ipynb_checkpoints").mkdir()
    (root / "train" / "cat" / ".thumbnails").mkdir()
    (root / "train" / "cat" / ".thumbnails" / "deep").mkdir()
    (root / "train" / "cat" / ".thumbnails" / "deep" / "0.png").write_text("no image")
    write(root / "train" / "cat" / "more" / "2.PNG", pixels(5))
    assert load(root).train.labels.tolist() == [0, 0, 0, 1, 1]


def test_grey_files_give_one_channel_unless_there_is_colour_or_the_key_says_so(
    root: Path,
) -> None:
    assert load(root, grey=True).train.shape == (1, 6, 6)
    for number, file in enumerate(sorted(root.rglob("*.png"))):
        write(file, pixels(number, channels=1))
    data = load(root)
    assert data.train.shape == (1, 6, 6)
    assert load(root, grey=False).train.shape == (3, 6, 6)
    write(root / "test" / "dog" / "1.png", pixels(99))
    mixed = load(root)
    assert mixed.train.shape == (3, 6, 6)
    assert torch.equal(mixed.train.images, data.train.images.expand(-1, 3, -1, -1))


def test_unequal_sizes_need_image_size(root: Path) -> None:
    odd = root / "train" / "dog" / "1.png"
    write(odd, pixels(0, height=5, width=7))
    with pytest.raises(ValueError, match=r"data\.image_size") as raised:
        load(root)
    assert str(raised.value).startswith(f"{odd}: expected 6 × 6 pixels as in {root}")
    assert "got 7 × 5" in str(raised.value)
    assert load(root, image_size=4).train.shape == (3, 4, 4)


def test_scaling_while_decoding_is_what_load_dataset_does_to_other_data_sets(
    tmp_path: Path,
) -> None:
    from darts_noise.data.conversion import resize

    files = [tmp_path / f"{seed}.png" for seed in range(4)]
    for seed, file in enumerate(files):
        write(file, pixels(seed, height=12, width=20))
    whole = Decoding(files, (12, 20), grey=False).result()
    small = Decoding(files, (5, 5), grey=False).result()
    assert (small.int() - resize(whole, 5).int()).abs().max() <= 1


def test_the_rotation_that_a_camera_noted_is_applied(root: Path) -> None:
    picture = Image.fromarray(pixels(0, height=6, width=9))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    for file in root.rglob("*.png"):
        picture.save(file, exif=exif)
    image = load(root).train.images[0].permute(1, 2, 0).numpy()
    assert np.array_equal(image, np.rot90(pixels(0, height=6, width=9), k=-1))


def test_palettes_and_transparency_become_colour(root: Path) -> None:
    colour = Image.fromarray(pixels(3)).quantize(8)
    colour.save(root / "train" / "cat" / "0.png", transparency=0)
    Image.fromarray(pixels(4, channels=4)).save(root / "train" / "cat" / "1.png")
    images = load(root).train.images
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), np.asarray(colour.convert("RGB")))
    assert np.array_equal(images[1].permute(1, 2, 0).numpy(), pixels(4, channels=4)[..., :3])


@pytest.mark.parametrize("name", ["val", "valid"])
def test_val_is_the_test_set_where_there_is_no_test(root: Path, name: str) -> None:
    expected = load(root).test.images
    (root / "test").rename(root / name)
    assert torch.equal(load(root).test.images, expected)


def test_val_beside_test_is_ignored_with_a_warning(root: Path) -> None:
    (root / "val").mkdir()
    with pytest.warns(UserWarning, match=r"val is ignored.*data\.validation_fraction"):
        assert len(load(root).test) == 2


@pytest.mark.parametrize(("has", "lacks"), [("train", "test"), ("test", "train")])
def test_a_class_in_one_half_only_is_named(root: Path, has: str, lacks: str) -> None:
    write(root / has / "eel" / "0.png", pixels(0))
    with pytest.raises(ValueError, match="expected a folder") as raised:
        load(root)
    assert str(raised.value).startswith(f"{root / lacks / 'eel'}: ")


def test_missing_and_empty_folders_are_named(root: Path, tmp_path: Path) -> None:
    (root / "train" / "eel").mkdir()
    with pytest.raises(ValueError, match=r"train/eel: expected images \(.*\.jpg.*got none"):
        load(root)
    (root / "empty" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match="empty/train: expected one folder to a class, got none"):
        load(root / "empty")
    with pytest.raises(ValueError, match=r"nowhere/train: expected a folder.*data\.root"):
        load(root / "nowhere")
    (root / "train" / "eel").rmdir()
    (root / "test").rename(root / "elsewhere")
    with pytest.raises(ValueError, match=f"{root}/test: expected a folder"):
        load(root)


def test_a_link_to_what_is_not_there_is_named(root: Path) -> None:
    before = load(root).train.images.shape[0]
    link = root / "train" / "dog" / "7.png"
    link.symlink_to(root / "gone.png")
    with pytest.raises(ValueError, match="expected an image, got a link to a file that is missing"):
        load(root)
    write(root / "gone.png", pixels(7))
    assert load(root).train.images.shape[0] == before + 1


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "16 bits"])
def test_a_file_that_is_no_readable_image_is_named(root: Path, damage: str) -> None:
    bad = root / "train" / "dog" / "0.png"
    if damage == "16 bits":
        Image.fromarray(np.zeros((6, 6), np.uint16)).save(bad)
    else:
        content = {"empty": b"", "text": b"hello", "truncated": bad.read_bytes()[:90]}
        bad.write_bytes(content[damage])
    with pytest.raises(ValueError, match="cannot read the image") as raised:
        load(root)
    assert str(raised.value).startswith(f"{bad}: ")
    assert "\n" not in str(raised.value)


def test_of_many_damaged_files_the_first_is_named(root: Path) -> None:
    good = (root / "train" / "cat" / "0.png").read_bytes()
    for number in range(400):
        truncated = number in (150, 151, 390)
        (root / "train" / "dog" / f"n{number:03}.png").write_bytes(good[:90] if truncated else good)
    with pytest.raises(ValueError, match=r"dog/n150\.png: cannot read"):
        load(root)
