"""Another data set as noise: its shape, its labels, and its folder."""

import re

import pytest
import torch
import yaml
from numbered_images import coloured, numbered
from torchvision.io import write_png

from darts_noise.data.conversion import recolour, resize
from darts_noise.data.datasets import list_datasets, load_dataset, register_dataset
from darts_noise.data.file_images import FileImages
from darts_noise.data.images import LabelledImages
from darts_noise.noise.datasets import SHARING_A_ROOT, largest_noise, root_of_others
from darts_noise.noise.families import fingerprint, make_noise

CLASSES = tuple(f"class {c}" for c in range(12))


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits").train


def like(channels, height, width, classes=12, n=500):
    images = torch.zeros((n, channels, height, width), dtype=torch.uint8)
    return LabelledImages(images, torch.arange(n) % classes, CLASSES[:classes])


def write_folder(root, names, n=6, size=(9, 7)):
    """PNG files; the image with number i has the level 10·i in every pixel."""
    for c, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            level = 10 * (c * n + i)
            write_png(
                torch.full((3, *size), level, dtype=torch.uint8), str(root / name / f"{i}.png")
            )
    return root


def rows(images, labels):
    pairs = zip(images.flatten(1).numpy(), labels.tolist(), strict=True)
    return sorted((bytes(image), label) for image, label in pairs)


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 8), (3, 12), (1, 5)])
def test_it_has_the_form_of_the_real_images_and_its_own_labels(digits, channels, size):
    real = like(channels, size, size)
    made = make_noise("dataset:digits", len(digits), real, seed=1)
    expected = resize(recolour(digits.images, channels == 1), size)
    assert made.images.is_contiguous()
    assert rows(made.images, made.labels) == rows(expected, digits.labels)
    assert made.classes == digits.classes  # 10 of the network's 12


def test_colour_images_become_grey_and_a_central_part_has_the_proportions(tmp_path):
    real = coloured(12, 10, 16)
    for i, image in enumerate(real.images):
        folder = tmp_path / "other" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        write_png(image, str(folder / f"{i:02}.png"))
    made = make_noise(f"dataset:{tmp_path / 'other'}", 12, like(1, 10, 10))
    assert made.shape == (1, 10, 10)
    expected = recolour(real.images, True)[..., 3:13]
    assert rows(made.images, made.labels) == rows(expected, torch.arange(12) % 2)


def test_in_memory_and_in_files_it_is_the_same_to_within_rounding(tmp_path, monkeypatch):
    """A data set of another size and proportions, named or a folder; Pillow reads the folder."""
    from darts_noise.data import datasets
    from darts_noise.data.images import ImageDataset

    source = coloured(12, 18, 15, classes=2)
    for i, (image, label) in enumerate(zip(source.images, source.labels, strict=True)):
        folder = tmp_path / "shapes" / source.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        write_png(image, str(folder / f"{i:02}.png"))
    order = source.labels.argsort(stable=True)
    half = source.subset(order)
    monkeypatch.setitem(
        datasets._LOADERS, "shapes", lambda *_: ImageDataset("shapes", half, half, False)
    )
    for shape in ((3, 8, 10), (1, 18, 15), (3, 24, 24)):
        named = make_noise("dataset:shapes", 12, like(*shape))
        read = make_noise(f"dataset:{tmp_path / 'shapes'}", 12, like(*shape))
        assert torch.equal(named.labels, read.labels)
        assert (named.images.int() - read.images.int()).abs().max() <= 1


@pytest.mark.parametrize("below", ["train", "."])
def test_a_folder_has_train_or_its_classes_at_once(tmp_path, below):
    write_folder(tmp_path / "views" / below, ["hills", "lakes"])
    write_folder(tmp_path / "views" / "test", ["hills"]) if below == "train" else None
    made = make_noise(f"dataset:{tmp_path / 'views'}", 12, like(3, 4, 4))
    assert made.classes == ("hills", "lakes")
    levels = made.images[:, 0, 0, 0].long()
    assert levels.sort().values.tolist() == list(range(0, 120, 10))
    assert torch.equal(made.labels, levels // 60)


def test_a_folder_without_classes_has_random_labels_only(tmp_path):
    flat = write_folder(tmp_path, ["views"]) / "views"
    real = like(3, 4, 4)
    made = make_noise({f"dataset:{flat}": {"labels": "random"}}, 6, real)
    assert made.classes == real.classes
    assert made.images[:, 0, 0, 0].sort().values.tolist() == [0, 10, 20, 30, 40, 50]
    with pytest.raises(ValueError, match=r"expected 2 to 12 classes.*got 1; .*labels: random"):
        make_noise(f"dataset:{flat}", 6, real)


def test_where_a_folder_lies_does_not_change_the_set(tmp_path, monkeypatch):
    for root in ("here", "there"):
        write_folder(tmp_path / root / "views", ["hills", "lakes"])
    monkeypatch.chdir(tmp_path / "here")
    names = ["views", "./views", tmp_path / "there" / "views"]
    sets = [make_noise(f"dataset:{name}", 8, like(3, 4, 4), seed=3) for name in names]
    assert len(set(map(fingerprint, sets))) == 1


def test_labels_are_of_the_networks_classes(digits):
    few = like(1, 8, 8, classes=4)
    with pytest.raises(ValueError, match=r"'dataset:digits': expected 2 to 4 classes.*got 10"):
        make_noise("dataset:digits", 20, few)
    made = make_noise({"dataset:digits": {"labels": "random"}}, 400, few)
    assert made.classes == few.classes
    assert (torch.bincount(made.labels, minlength=4) - 100).abs().max() < 40


def test_classes_beside_other_families_are_the_networks(digits):
    """A guess on such a set is among all classes, on the data set alone among its own."""
    real = like(1, 8, 8)
    assert make_noise({"dataset:digits": 1, "uniform": 1}, 40, real).classes == real.classes


def test_two_data_sets_at_once(digits, tmp_path):
    views = write_folder(tmp_path / "views", ["hills", "lakes"], n=10, size=(8, 8))
    made = make_noise({"dataset:digits": 1, f"dataset:{views}": 1}, 40, like(1, 8, 8))
    plain = (made.images.flatten(1) == made.images[:, 0, 0, :1]).all(1)
    assert plain.sum() == 20
    assert made.num_classes == 10


def test_only_training_images_are_taken(digits):
    test = {bytes(image.numpy()) for image in load_dataset("digits").test.images}
    made = make_noise("dataset:digits", len(digits), like(1, 8, 8))
    assert not test & {bytes(image.numpy()) for image in made.images}


def test_no_file_is_decoded_that_is_not_in_the_set(tmp_path, monkeypatch):
    views = write_folder(tmp_path / "views", ["hills", "lakes"])
    decoded = []
    getitem = FileImages.__getitem__
    monkeypatch.setattr(
        FileImages, "__getitem__", lambda self, i: decoded.extend(i.tolist()) or getitem(self, i)
    )
    make_noise(f"dataset:{views}", 5, like(3, 4, 4))
    assert len(decoded) == 5


def test_a_data_set_with_fewer_images_bounds_the_measurement(digits, tmp_path):
    real = like(1, 8, 8, n=2000)
    n = len(digits)
    assert largest_noise("uniform", 2000, real) == 2000
    assert largest_noise("dataset:digits", 2000, real) == n == 1438
    assert largest_noise("dataset:digits", 50, real) == 50
    assert largest_noise({"dataset:digits": 3, "uniform": 1}, 2000, real) == 1917
    assert largest_noise({"dataset:digits": 1438, "uniform": 8562}, 20_000, real) == 10_003
    make_noise({"dataset:digits": 3, "uniform": 1}, 1917, real)
    with pytest.raises(
        ValueError, match=r"samples: expected at most 1438 .*'dataset:digits'.* 1439"
    ):
        make_noise({"dataset:digits": 3, "uniform": 1}, 1918, real)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", "no such folder, and unknown data set 'mnits': did you mean 'mnist'"),
        ("image_folder", "no such folder, and unknown data set 'image_folder'"),
        ("mnist", "expected its files at"),
        ("{tmp}", "expected one folder to a class, got none"),
    ],
)
def test_what_is_not_there_is_one_line(name, message, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.MNIST.__init__", refuse)
    name = name.replace("{tmp}", str(tmp_path))
    with pytest.raises(ValueError, match=message) as refused:
        make_noise(f"dataset:{name}", 5, like(1, 8, 8), root=tmp_path)
    assert str(refused.value).startswith(f"family: 'dataset:{name}': ")
    assert "\n" not in str(refused.value)


def test_the_root_is_the_runs_unless_the_family_has_its_own(tmp_path, monkeypatch):
    asked = []

    def load(name, root):
        asked.append(str(root))
        raise ValueError("not here")

    monkeypatch.setattr("darts_noise.noise.datasets.load_dataset", load)
    for family in ("dataset:mnist", {"dataset:mnist": {"root": "mine"}}):
        with pytest.raises(ValueError, match="not here"):
            make_noise(family, 5, numbered(), root="runs_root")
        with pytest.raises(ValueError, match="not here"):
            largest_noise(family, 5, numbered(), root="runs_root")
    assert asked == ["runs_root", "runs_root", "mine", "mine"]


def test_images_of_the_users_own_do_not_share_their_root(monkeypatch):
    """Those of a folder, or of a data set that a plugin registers."""
    assert {"image_folder", *SHARING_A_ROOT} <= {*list_datasets()}

    def faces(root, image_size, grey): ...

    monkeypatch.setattr("darts_noise.data.datasets._LOADERS", {})
    register_dataset(faces)
    roots = [root_of_others(name, "/data/x") for name in ("mnist", "image_folder", "faces")]
    assert roots == ["/data/x", "data", "data"]


def test_what_to_write_is_told_and_can_be_written(monkeypatch, digits):
    """The setting that a message proposes, between quotation marks, makes the set."""
    few = like(1, 8, 8, classes=4)
    with pytest.raises(ValueError, match="labels: random") as refused:
        make_noise("dataset:digits", 20, few)
    proposed = re.findall(r"'(\{.*\})'", str(refused.value))[0]
    assert make_noise(yaml.safe_load(proposed), 20, few).num_classes == 4
    asked = []

    def load(name, root):
        asked.append(root)
        raise ValueError("not here")

    monkeypatch.setattr("darts_noise.noise.datasets.load_dataset", load)
    with pytest.raises(ValueError, match=r"not here.*root: FOLDER") as refused:
        make_noise("dataset:mnist", 20, few)
    proposed = re.findall(r"'(\{.*\})'", str(refused.value))[0]
    with pytest.raises(ValueError, match="not here"):
        make_noise(yaml.safe_load(proposed.replace("FOLDER", "/my")), 20, few)
    assert asked == ["data", "/my"]
