"""Image folders in a temporary directory: the images that are read, and the error messages."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from darts_noise.data.datasets import load_dataset
from darts_noise.data.decoding import Decoding
from darts_noise.data.images import ImageDataset
from darts_noise.noise.families import make_noise


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


def test_unequal_sizes_are_scaled_without_a_change_of_proportions_and_one_line_says_so(
    root: Path,
) -> None:
    """A wide image and a high one become the squares at their centres."""
    wide, high = pixels(0, height=40, width=70), pixels(1, height=90, width=50)
    write(root / "train" / "dog" / "0.png", wide)
    write(root / "train" / "dog" / "1.png", high)
    with pytest.warns(UserWarning, match=r"image_size") as said:
        assert load(root).train.shape == (3, 6, 6)  # the shortest side of all
    assert len(said) == 1
    assert "6 images of 6×6 to 70×90 pixels" in str(said[0].message)
    for file in root.rglob("*.png"):
        if file.parent.name == "cat" or file.parts[-3] == "test":
            write(file, pixels(2, height=41, width=41))
    with pytest.warns(UserWarning, match="scaled to 32×32"):
        images = load(root).train.images
    for image, part in zip(images[2:], (wide[:, 15:55], high[20:70]), strict=True):
        square = Image.fromarray(part).resize((32, 32), Image.Resampling.BILINEAR)
        expected = torch.from_numpy(np.array(square)).permute(2, 0, 1)
        assert (image.int() - expected.int()).abs().max() <= 1
    with pytest.warns(UserWarning, match="scaled to 4×4"):
        assert load(root, image_size=4).train.shape == (3, 4, 4)


def test_images_of_one_size_stay_as_they_are_and_nothing_is_said(root: Path) -> None:
    for number, file in enumerate(root.rglob("*.png")):
        write(file, pixels(number, height=5, width=9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(root).train.shape == (3, 5, 9)


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


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
def test_the_rotation_that_a_camera_noted_is_applied(root: Path, suffix: str) -> None:
    picture = Image.fromarray(pixels(0, height=6, width=9))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    for file in list(root.rglob("*.png")):
        file.unlink()
        more = {"lossless": True} if suffix == ".webp" else {}
        picture.save(file.with_suffix(suffix), exif=exif, **more)
    image = load(root).train.images[0].permute(1, 2, 0).numpy()
    assert np.array_equal(image, np.rot90(pixels(0, height=6, width=9), k=-1))


@pytest.mark.parametrize("exif", [b"XX*\0\x08\0\0\0", b"II*\0"])
def test_a_note_that_cannot_be_read_is_ignored(root: Path, exif: bytes) -> None:
    file = root / "train" / "cat" / "0.png"
    Image.fromarray(pixels(0)).save(file, exif=b"Exif\0\0" + exif)
    image = load(root).train.images[0].permute(1, 2, 0).numpy()
    assert np.array_equal(image, pixels(0))


def test_palettes_and_transparency_become_colour(root: Path) -> None:
    colour = Image.fromarray(pixels(3)).quantize(8)
    colour.save(root / "train" / "cat" / "0.png", transparency=0)
    Image.fromarray(pixels(4, channels=4)).save(root / "train" / "cat" / "1.png")
    images = load(root).train.images
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), np.asarray(colour.convert("RGB")))
    assert np.array_equal(images[1].permute(1, 2, 0).numpy(), pixels(4, channels=4)[..., :3])


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_val_is_the_test_set_where_there_is_no_test(root: Path, name: str) -> None:
    expected = load(root).test.images
    (root / "test").rename(root / name)
    assert torch.equal(load(root).test.images, expected)


def test_capitals_in_the_names_of_the_two_folders_do_not_matter(root: Path) -> None:
    expected = load(root)
    for name in ("train", "test"):
        (root / name).rename(root / name.capitalize())
    assert torch.equal(load(root).train.images, expected.train.images)
    assert torch.equal(load(root).test.images, expected.test.images)
    with pytest.raises(ValueError, match=r"^test_fraction: expected null.*Test is the test set"):
        load_dataset("image_folder", root, test_fraction=0.2)


def test_a_folder_in_the_home_folder_and_with_capitals_is_noise_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    name = f"~/{root.name}"
    expected = load(root)
    assert torch.equal(load_dataset("image_folder", name).train.images, expected.train.images)
    for half in ("train", "test"):
        (root / half).rename(root / half.capitalize())
    assert make_noise(f"dataset:{name}", 4, expected.train).classes == ("cat", "dog")


def test_a_test_folder_beside_the_classes_is_no_class(root: Path) -> None:
    for folder in (root / "train").iterdir():
        folder.rename(root / folder.name)
    (root / "train").rmdir()
    with pytest.raises(ValueError, match=r"^test_fraction: expected null.*test is the test set"):
        load_dataset("image_folder", root, test_fraction=0.2)


@pytest.mark.parametrize("name", ["val", "validation", "more"])
def test_a_folder_beside_test_is_ignored_with_the_number_of_its_images(
    root: Path, name: str
) -> None:
    for number in range(3):
        write(root / name / "cat" / f"{number}.png", pixels(number))
    match = rf"{name} with 3 images is ignored.*data\.validation_fraction"
    with pytest.warns(UserWarning, match=match) as said:
        assert len(load(root).test) == 2
    assert len(said) == 1


def test_files_that_are_not_read_are_counted_in_one_line(root: Path) -> None:
    (root / "train" / "cat" / "a.heic").write_bytes(b"")
    (root / "train" / "dog" / "b.HEIC").write_bytes(b"")
    write(root / "train" / "of no class.png", pixels(0))
    with pytest.warns(UserWarning, match=r"ignored 3 files.*\(2 \.heic, 1 \.png\)") as said:
        assert len(load(root).train) == 4
    assert len(said) == 1
    assert str(root / "train" / "cat" / "a.heic") in str(said[0].message)


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JPG", "avif"])
def test_files_of_other_suffixes_are_read(root: Path, suffix: str) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("needs Pillow with AVIF")
    kind = "avif" if suffix == "avif" else "jpeg"
    Image.fromarray(pixels(5)).save(root / "train" / "cat" / f"9.{suffix}", kind)
    assert len(load(root).train) == 5


def test_folders_within_a_class_are_named(root: Path) -> None:
    """Also where they are the classes and the folder around them is not."""
    write(root / "train" / "cat" / "tabby" / "9.png", pixels(5))
    with pytest.warns(UserWarning, match="train: 1 image in folders within a class.*tabby"):
        assert load(root).train.labels.tolist() == [0, 0, 0, 1, 1]
    (root / "animals").mkdir()
    (root / "train").rename(root / "animals" / "train")
    (root / "test").rename(root / "animals" / "test")
    with pytest.raises(ValueError, match=f"set data.root to {root / 'animals'}"):
        load(root)
    (root / "deep" / "train").mkdir(parents=True)
    (root / "animals" / "train").rename(root / "deep" / "train" / "all")
    with pytest.raises(ValueError, match=r"2 classes or more, got 'all' alone.*\(cat, dog, …\)"):
        load(root / "deep")


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Two classes of ten images each, without a test set."""
    for label, name in enumerate(("cat", "dog")):
        for number in range(10):
            write(tmp_path / "flat" / name / f"{number}.png", pixels(10 * label + number))
    return tmp_path / "flat"


@pytest.mark.parametrize("below", ["", "train"])
def test_test_images_are_held_out_class_by_class_and_always_the_same(
    flat: Path, below: str
) -> None:
    if below:
        (flat / "train").mkdir()
        for name in ("cat", "dog"):
            (flat / name).rename(flat / "train" / name)
    data = load_dataset("image_folder", flat, test_fraction=0.2)
    again = load_dataset("image_folder", flat, test_fraction=0.2)
    assert torch.equal(data.test.images, again.test.images)
    assert torch.bincount(data.train.labels).tolist() == [8, 8]
    assert torch.bincount(data.test.labels).tolist() == [2, 2]
    found = {
        (int(label), image.numpy().tobytes())
        for half in (data.train, data.test)
        for image, label in zip(half.images, half.labels, strict=True)
    }
    expected = {(n // 10, pixels(n).transpose(2, 0, 1).tobytes()) for n in range(20)}
    assert found == expected


def test_the_setting_is_offered_where_it_helps_and_refused_where_it_does_not(
    flat: Path, root: Path
) -> None:
    with pytest.raises(ValueError, match=r"\(cat, dog\).*set data\.test_fraction"):
        load(flat)
    with pytest.raises(ValueError, match=r"^test_fraction: expected null.*test is the test set"):
        load_dataset("image_folder", root, test_fraction=0.2)
    with pytest.raises(ValueError, match=r"^test_fraction: expected null for 'digits'"):
        load_dataset("digits", test_fraction=0.2)
    write(flat / "eel" / "0.png", pixels(0))
    with pytest.raises(ValueError, match="eel: expected 2 images or more"):
        load_dataset("image_folder", flat, test_fraction=0.2)


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_sixteen_bits_are_scaled_to_eight(root: Path, suffix: str) -> None:
    levels = np.arange(0, 0x10000, 1821, dtype=np.uint16)[:36].reshape(6, 6)
    for file in root.rglob("*.png"):
        file.unlink()
        Image.fromarray(levels).save(file.with_suffix(f".{suffix}"))
    data = load(root)
    assert data.train.shape == (1, 6, 6)
    expected = np.rint(levels / 65535 * 255)
    assert np.array_equal(data.train.images[0, 0].numpy(), expected)


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


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "floats"])
def test_a_file_that_is_no_readable_image_is_named(root: Path, damage: str) -> None:
    bad = root / "train" / "dog" / "0.png"
    if damage == "floats":
        bad.unlink()
        bad = bad.with_suffix(".tiff")
        Image.fromarray(np.zeros((6, 6), np.float32)).save(bad)
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
