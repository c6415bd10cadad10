"""Images in files against the same images in memory, and against Pillow."""

import multiprocessing
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from darts_noise.data import decoding, images, memory
from darts_noise.data.augment import Augmentation
from darts_noise.data.batches import Batch, BatchStream, EpochLoader
from darts_noise.data.crops import random_crops
from darts_noise.data.file_images import FileImages
from darts_noise.data.images import LabelledImages, Normalisation, channel_statistics
from darts_noise.data.seeds import Stream, generator
from darts_noise.noise.families import fingerprint, list_noise, make_noise

PLAIN = Normalisation((0.0,) * 3, (1 / 255,) * 3)
SIDE = 12


def write(folder: Path, n: int, height: int = SIDE, width: int = SIDE) -> list[Path]:
    """n colour images of random pixels."""
    random = np.random.default_rng(0)
    files = [folder / f"{i:03}.png" for i in range(n)]
    for file in files:
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    return files


def labelled(files: Sequence[Path], side: int = SIDE) -> LabelledImages:
    labels = torch.arange(len(files)) % 2
    return LabelledImages(FileImages(files, (3, side, side)), labels, ("a", "b"))


def in_memory(data: LabelledImages) -> LabelledImages:
    return LabelledImages(data.images.contiguous(), data.labels, data.classes)


def same(first: Batch, second: Batch) -> bool:
    return torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_it_looks_like_the_tensor_and_gives_its_images(tmp_path: Path) -> None:
    files = write(tmp_path, 5)
    data = labelled(files)
    whole = data.images.contiguous()
    assert (data.images.shape, data.images.dtype) == (whole.shape, whole.dtype)
    assert (len(data.images), data.shape) == (5, (3, SIDE, SIDE))
    for file, image in zip(files, whole, strict=True):
        assert np.array_equal(np.asarray(Image.open(file)), image.permute(1, 2, 0).numpy())
    chosen = torch.tensor([3, 0, 3])
    assert torch.equal(data.images[chosen], whole[chosen])


def test_subsets_read_nothing(tmp_path: Path) -> None:
    data = labelled([tmp_path / f"not there {i}" for i in range(6)])
    part = data.subset([5, 2])
    assert part.images.files == [data.images.files[5], data.images.files[2]]
    assert (part.labels.tolist(), len(part), len(data.subset([]))) == ([1, 0], 2, 0)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"augmentation": Augmentation(crop_padding=2, flip=True, cutout=3, color_jitter=0.4)},
        {"shuffle": False, "drop_last": False},
        {"rank": 1, "world_size": 2},
    ],
)
def test_batches_of_images_of_the_size_asked_for_are_those_of_images_in_memory(
    settings: dict, tmp_path: Path
) -> None:
    data = labelled(write(tmp_path, 22))
    on_disk, loaded = (BatchStream(d, 4, PLAIN, **settings) for d in (data, in_memory(data)))
    assert all(same(on_disk.batch(k), loaded.batch(k)) for k in range(13))


@pytest.mark.parametrize(
    "settings", [{"augmentation": Augmentation(random_resized_crop=True)}, {"crop_pct": 0.7}]
)
def test_crops_of_such_images_are_those_in_memory_up_to_rounding(
    settings: dict, tmp_path: Path
) -> None:
    data = labelled(write(tmp_path, 8))
    on_disk, loaded = (BatchStream(d, 4, PLAIN, **settings) for d in (data, in_memory(data)))
    for k in range(5):
        difference = on_disk.batch(k)[0] - loaded.batch(k)[0]
        assert difference.abs().max() <= 1.001


def test_crops_are_taken_from_the_whole_file(tmp_path: Path) -> None:
    files = write(tmp_path, 6, height=40, width=60)
    augmentation = Augmentation(random_resized_crop=True)
    stream = BatchStream(
        labelled(files), 6, PLAIN, seed=3, augmentation=augmentation, shuffle=False
    )
    evaluation = BatchStream(labelled(files), 6, PLAIN, crop_pct=0.5, shuffle=False)
    crops = random_crops(6, generator(3, Stream.AUGMENTATION, 0, 0))
    bilinear = Image.Resampling.BILINEAR
    for file, crop, random, central in zip(
        files, crops, stream.batch(0)[0], evaluation.batch(0)[0], strict=True
    ):
        top, left, height, width = crop(40, 60)
        picture = Image.open(file)
        part = picture.crop((left, top, left + width, top + height)).resize((SIDE, SIDE), bilinear)
        assert np.array_equal(np.asarray(part), random.permute(1, 2, 0).round().byte().numpy())
        part = picture.crop((20, 10, 40, 30)).resize((SIDE, SIDE), bilinear)
        assert np.array_equal(np.asarray(part), central.permute(1, 2, 0).round().byte().numpy())


def test_a_batch_is_the_same_whatever_was_asked_for_before(tmp_path: Path) -> None:
    data = labelled(write(tmp_path, 20, 30, 25))
    augmentation = Augmentation(0, True, 3, random_resized_crop=True, color_jitter=0.4)

    def stream() -> BatchStream:
        return BatchStream(data, 6, PLAIN, seed=5, augmentation=augmentation)

    one = stream()
    in_order = [one.batch(k) for k in range(10)]
    assert all(same(stream().batch(k), in_order[k]) for k in range(10))  # nothing was read ahead
    other = stream()
    torch.manual_seed(123)
    for k in (9, 0, 4, 4, 5, 3, 8, 1):
        assert same(other.batch(k), in_order[k])


@pytest.mark.parametrize("stop", [1, 3, 4, 5])
def test_a_resumed_loader_goes_on_as_if_it_had_not_stopped(stop: int, tmp_path: Path) -> None:
    data = labelled(write(tmp_path, 18, 20, 20))
    augmentation = Augmentation(random_resized_crop=True, color_jitter=0.2)

    def loader() -> EpochLoader:
        return EpochLoader(BatchStream(data, 4, PLAIN, augmentation=augmentation))

    unbroken = loader()
    expected = [batch for _ in range(3) for batch in unbroken]
    broken, given = loader(), []
    while len(given) < stop:
        for batch in broken:
            given.append(batch)
            if len(given) == stop:
                break
    resumed = loader()
    resumed.load_state_dict(broken.state_dict())
    while len(given) < len(expected):
        given += resumed
    assert all(map(same, given, expected))


def test_the_next_batch_is_read_while_one_is_used_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = labelled(write(tmp_path, 20))
    begun: list[list[int]] = []
    begin = FileImages.begin

    def recorded(self: FileImages, indices: torch.Tensor, crops: object = None) -> object:
        begun.append(indices.tolist())
        return begin(self, indices, crops)  # type: ignore[arg-type]

    monkeypatch.setattr(FileImages, "begin", recorded)
    train = BatchStream(data, 5, PLAIN)
    numbers = [train._indices(k).tolist() for k in range(8)]
    for k in range(6):
        train.batch(k)
        assert begun == numbers[: k + 2]
    begun.clear()
    evaluation = BatchStream(data, 8, PLAIN, shuffle=False, drop_last=False)
    for k in range(3):
        evaluation.batch(k)
    assert [len(indices) for indices in begun] == [8, 8, 4]  # a pass ends with its last batch


def test_any_number_of_streams_share_the_threads_of_the_process(tmp_path: Path) -> None:
    data = labelled(write(tmp_path, 20))

    def decoders() -> int:
        return sum(thread.name.startswith("decoding") for thread in threading.enumerate())

    for seed in range(30):
        stream = BatchStream(data, 10, PLAIN, seed=seed)
        for k in (0, 1, 5):
            stream.batch(k)
    assert 1 <= decoders() <= decoding._THREADS
    assert data.subset([1, 2]).images.contiguous().shape[0] == 2
    assert decoders() <= decoding._THREADS


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_number_of_threads_changes_nothing(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = labelled(write(tmp_path, 40, 30, 20))
    expected = data.images.contiguous()
    decoding._pool.cache_clear()
    monkeypatch.setattr(decoding, "_THREADS", threads)
    assert torch.equal(data.images.contiguous(), expected)
    decoding._pool(multiprocessing.current_process().pid).shutdown()
    decoding._pool.cache_clear()


def test_a_process_that_was_forked_has_threads_of_its_own(tmp_path: Path) -> None:
    data = labelled(write(tmp_path, 4))
    data.images.contiguous()

    def child() -> None:
        data.images.contiguous()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    hung = process.is_alive()
    process.kill()
    assert not hung
    assert process.exitcode == 0


@pytest.mark.parametrize("damage", ["missing", "text", "truncated"])
def test_a_bad_file_is_named_by_the_batch_that_holds_it_and_by_no_other(
    damage: str, tmp_path: Path
) -> None:
    files = write(tmp_path, 20)
    stream = BatchStream(labelled(files), 5, PLAIN)
    bad = files[int(stream._indices(2)[3])]
    content = bad.read_bytes()
    bad.unlink()
    if damage != "missing":
        bad.write_bytes(b"hello" if damage == "text" else content[:150])
    for k in (0, 1):
        stream.batch(k)  # batch 2 is read ahead by now
    for _ in range(2):
        with pytest.raises(ValueError, match="cannot read the image") as raised:
            stream.batch(2)
        assert str(raised.value).startswith(f"{bad}: ")
        assert "\n" not in str(raised.value)
    stream.batch(3)
    bad.write_bytes(content)
    assert len(stream.batch(2)[1]) == 5


def test_statistics_of_few_files_are_exact_and_of_many_those_of_a_fixed_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = labelled(write(tmp_path, 30, 20, 16))
    monkeypatch.setattr(images, "_CHUNK", 7)
    assert channel_statistics(data.images) == channel_statistics(data.images.contiguous())
    monkeypatch.setattr(images, "_STATISTICS_SAMPLE", 10)
    read: list[int] = []
    getitem = FileImages.__getitem__

    def recorded(self: FileImages, indices: torch.Tensor) -> torch.Tensor:
        read.extend(indices.tolist())
        return getitem(self, indices)

    monkeypatch.setattr(FileImages, "__getitem__", recorded)
    sampled = channel_statistics(data.images)
    assert len(set(read)) == len(read) == 10
    torch.manual_seed(7)
    assert channel_statistics(data.images) == sampled
    assert read[:10] == read[10:]
    assert sampled == channel_statistics(getitem(data.images, torch.tensor(read[:10])))


@pytest.mark.parametrize("family", sorted({*list_noise()} - {"dataset"}))
def test_noise_is_what_it_is_for_images_in_memory(family: str, tmp_path: Path) -> None:
    data = labelled(write(tmp_path, 12))
    noise, expected = (make_noise(family, 8, like, seed=1) for like in (data, in_memory(data)))
    assert fingerprint(noise) == fingerprint(expected)
    assert fingerprint(data) == fingerprint(in_memory(data))


def test_more_images_at_once_than_there_is_memory_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = labelled(write(tmp_path, 4))
    monkeypatch.setattr(memory, "available_memory", lambda: 3 * 3 * SIDE * SIDE)
    assert len(data.images[torch.arange(3)]) == 3
    with pytest.raises(ValueError, match=r"expected a selection that fits.*got 4 images"):
        data.images.contiguous()
    with pytest.raises(ValueError, match="got 4 images"):
        make_noise("random_labels", 4, data)
