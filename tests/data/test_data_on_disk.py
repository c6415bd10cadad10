"""Settings of the data module for ImageNet: images on disk, crops, colours, evaluation."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from darts_noise.data import memory
from darts_noise.data.augment import Augmentation, cutout, random_flip
from darts_noise.data.batches import BatchStream
from darts_noise.data.colour import jitter_parameters
from darts_noise.data.crops import random_crops
from darts_noise.data.datasets import load_dataset
from darts_noise.data.file_images import FileImages
from darts_noise.data.module import ImageDataModule
from darts_noise.data.seeds import Stream, generator

pytestmark = pytest.mark.filterwarnings("ignore:.*central square")

NEEDED = 16 * 3 * 8 * 8
"""Bytes of all images at 8 × 8."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, six training images and two test images of each, in colour, 20 × 30."""
    random = np.random.default_rng(0)
    for half, n in (("train", 6), ("test", 2)):
        for name in ("cat", "dog"):
            (tmp_path / half / name).mkdir(parents=True)
            for i in range(n):
                pixels = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / half / name / f"{i}.png")
    return tmp_path


def ready(root: Path, **settings: Any) -> ImageDataModule:
    defaults = {"name": "image_folder", "root": str(root), "image_size": 8, "batch_size": 2}
    module = ImageDataModule(**(defaults | settings))
    module.setup()
    return module


def on_disk(module: ImageDataModule) -> set[bool]:
    return {
        isinstance(half.images, FileImages)
        for half in (module.train, module.validation, module.test)
    }


@pytest.mark.parametrize(("available", "stays"), [(2 * NEEDED - 1, True), (2 * NEEDED, False)])
def test_images_that_take_more_than_half_of_the_memory_stay_on_disk_and_one_line_says_so(
    available: int, stays: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: available)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", ".*central square")
        module = ready(root)
        module.prepare_data()
    assert on_disk(module) == {stays}
    assert len(said) == stays
    for warning in said:
        assert str(warning.message).startswith("16 images take 0.0 MiB, more than half of the")
        assert "stay on disk" in str(warning.message)
        assert "data.in_memory" in str(warning.message)
        assert "\n" not in str(warning.message)


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_key_decides_where_it_is_set(
    in_memory: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: NEEDED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*central square")
        module = ready(root, in_memory=in_memory)
    assert on_disk(module) == {not in_memory}


def test_what_cannot_be_met_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^in_memory: expected true or null for 'digits'"):
        load_dataset("digits", in_memory=False)
    monkeypatch.setattr(memory, "available_memory", lambda: NEEDED - 1)
    with pytest.raises(ValueError, match=r"data\.in_memory: expected false or null, .* 16 im"):
        ready(root, in_memory=True)


@pytest.mark.parametrize("colours", [{"color_jitter": 0.4}, {"grey": True}])
def test_both_give_the_same_splits_statistics_and_batches(
    colours: dict[str, Any], root: Path
) -> None:
    loaded, disk = (
        ready(root, in_memory=kind, train_samples=10, crop_padding=2, cutout=2, **colours)
        for kind in (True, False)
    )
    assert disk.normalisation == loaded.normalisation
    for open_stream in (
        lambda module: module.train_stream(),
        lambda module: module.validation_stream(shuffle=True),
        lambda module: module.validation_stream(shuffle=False),
        lambda module: module.test_dataloader().stream,
    ):
        streams = [open_stream(module) for module in (disk, loaded)]
        for k in range(5):
            first, second = (stream.batch(k) for stream in streams)
            assert torch.equal(first[0], second[0])
            assert torch.equal(first[1], second[1])


def test_with_both_sizes_and_colours_given_files_are_opened_only_when_they_are_used(
    root: Path,
) -> None:
    bad = root / "train" / "dog" / "0.png"
    bad.write_text("no image")
    data = load_dataset("image_folder", root, 8, False, in_memory=False)
    assert data.train.shape == (3, 8, 8)
    for image_size, grey, in_memory in ((8, None, False), (8, False, True)):
        with pytest.raises(ValueError, match="not an image") as raised:
            load_dataset("image_folder", root, image_size, grey, in_memory)
        assert str(raised.value).startswith(f"{bad}: ")


def test_streams_for_training_crop_at_random_and_those_for_evaluation_in_the_centre(
    root: Path,
) -> None:
    module = ready(root, random_resized_crop=True, color_jitter=0.4, crop_pct=0.875, cutout=2)
    assert module.augmentation == Augmentation(0, True, 2, True, 0.4)
    for stream in (module.train_stream(), module.validation_stream(shuffle=True)):
        assert (stream.augmentation, stream.crop_pct) == (module.augmentation, 1.0)
    for stream in (module.validation_stream(shuffle=False), module.test_dataloader().stream):
        assert (stream.augmentation, stream.crop_pct) == (None, 0.875)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"color_jitter": -0.1}, r"data\.color_jitter: expected 0 to 1, got -0\.1"),
        ({"color_jitter": 1.1}, r"data\.color_jitter: expected 0 to 1, got 1\.1"),
        ({"color_jitter": float("nan")}, r"data\.color_jitter: expected 0 to 1, got nan"),
        ({"crop_pct": 0.0}, r"data\.crop_pct: expected more than 0 and at most 1, got 0\.0"),
        ({"crop_pct": 1.5}, r"data\.crop_pct: expected more than 0 and at most 1, got 1\.5"),
        (
            {"random_resized_crop": True, "crop_padding": 4},
            r"data\.crop_padding: expected 0 with random_resized_crop.*got 4",
        ),
    ],
)
def test_a_setting_out_of_range_is_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageDataModule(**settings)


def test_the_colours_of_grey_images_are_not_changed(root: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.color_jitter: expected 0 for grey.*got 0\.4"):
        ready(root, grey=True, color_jitter=0.4)
    ready(root, grey=True, color_jitter=0.0)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_batch_is_torchvisions_pipeline_of_each_image(in_memory: bool, root: Path) -> None:
    """Crop, colours and normalisation one by one; flip and cutout have tests of their own."""
    module = ready(
        root,
        image_size=16,
        batch_size=6,
        in_memory=in_memory,
        random_resized_crop=True,
        color_jitter=0.4,
        cutout=3,
    )
    stream = module.train_stream()
    random = generator(stream.seed, Stream.AUGMENTATION, 0, 0)
    crops = random_crops(6, random)
    factors, orders = jitter_parameters(6, 0.4, random)
    names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    jitter = v2.ColorJitter(0.4, 0.4, 0.4, 0.2)
    normalise = v2.Normalize(module.normalisation.mean, module.normalisation.std)
    expected = []
    for index, crop, row, order in zip(stream._indices(0), crops, factors, orders, strict=True):
        if in_memory:
            image = module.train.images[index]
        else:
            image = v2.functional.pil_to_tensor(Image.open(module.train.images.files[index]))
        box = crop(*image.shape[1:])._asdict()
        part = v2.functional.resized_crop(image, **box, size=[16, 16])
        part = v2.functional.to_dtype(part, torch.float32, scale=True)
        parameters = dict(zip(names, row.tolist(), strict=True)) | {"fn_idx": order}
        expected.append(normalise(jitter.transform(part, parameters)))
    reference = cutout(random_flip(torch.stack(expected), random), 3, random)
    # Of a file Pillow scales the part, which may round otherwise than torchvision by one level.
    difference = (stream.batch(0)[0] - reference).abs()
    assert difference.max() <= (1e-4 if in_memory else 0.1)
    assert difference.mean() <= 0.005


@pytest.mark.cuda
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_gpu_makes_the_same_batches(in_memory: bool, root: Path) -> None:
    module = ready(root, in_memory=in_memory, random_resized_crop=True, crop_pct=0.875)
    for data, settings in (
        (module.train, {"augmentation": module.augmentation}),
        (module.test, {"crop_pct": 0.875, "shuffle": False}),
    ):
        cpu, gpu = (
            BatchStream(data, 2, module.normalisation, device=device, **settings)
            for device in ("cpu", "cuda")
        )
        for k in range(4):
            images, labels = gpu.batch(k)
            assert images.is_cuda
            assert torch.equal(labels.cpu(), cpu.batch(k)[1])
            # Scaling in float on a GPU may round to another of the 256 levels.
            assert (images.cpu() - cpu.batch(k)[0]).abs().max() <= 0.05
