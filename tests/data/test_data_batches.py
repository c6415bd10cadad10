"""Streams as pure functions of (seed, k); loaders that resume exactly; ranks that share a batch."""

from itertools import chain

import pytest
import torch

from darts_noise.data.augment import Augmentation
from darts_noise.data.batches import Batch, BatchStream, EpochLoader
from darts_noise.data.images import LabelledImages, Normalisation

AUGMENTATION = Augmentation(crop_padding=1, flip=True, cutout=2)
PLAIN = Normalisation((0.0,), (1 / 255,))
"""Leaves pixels as they are, so that an image names its sample."""


def numbered(n: int) -> LabelledImages:
    """n images (1, 4, 4), each filled with its own index."""
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 4, 4).contiguous()
    return LabelledImages(images, torch.arange(n) % 3, ("a", "b", "c"))


def noisy(n: int) -> LabelledImages:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 4, 4), generator=random, dtype=torch.uint8)
    return LabelledImages(images, torch.arange(n) % 3, ("a", "b", "c"))


def samples(batch: Batch) -> list[int]:
    images, labels = batch
    indices = images[:, 0, 0, 0].round().long()
    assert torch.equal(labels, indices % 3)
    return indices.tolist()


def same(first: Batch, second: Batch) -> bool:
    return torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_a_batch_is_the_same_whatever_was_asked_for_before() -> None:
    def stream(seed: int = 5) -> BatchStream:
        return BatchStream(noisy(20), 6, PLAIN, seed=seed, augmentation=AUGMENTATION)

    one = stream()
    in_order = [one.batch(k) for k in range(10)]
    other = stream()
    torch.manual_seed(123)
    for k in (9, 0, 4, 4, 3, 8, 1):
        assert same(other.batch(k), in_order[k])
    assert not same(stream(6).batch(0), in_order[0])
    images, labels = in_order[0]
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.shape == (6, 1, 4, 4)


def test_an_epoch_visits_samples_once_in_an_order_of_its_own() -> None:
    stream = BatchStream(numbered(20), 5, PLAIN)
    epochs = [[i for k in range(4) for i in samples(stream.batch(4 * e + k))] for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(20))
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_augmentation_differs_from_batch_to_batch_of_the_same_samples() -> None:
    stream = BatchStream(noisy(8), 8, PLAIN, shuffle=False, augmentation=AUGMENTATION)
    assert torch.equal(stream.batch(0)[1], stream.batch(1)[1])
    assert not torch.equal(stream.batch(0)[0], stream.batch(1)[0])


def test_the_padding_of_the_crop_is_black_and_cutout_is_the_mean() -> None:
    white = LabelledImages(
        torch.full((64, 1, 4, 4), 255, dtype=torch.uint8), torch.arange(64) % 2, ("a", "b")
    )
    normalisation = Normalisation((0.5,), (0.25,))
    cropped = BatchStream(white, 64, normalisation, augmentation=Augmentation(crop_padding=2))
    assert cropped.batch(0)[0].unique().tolist() == pytest.approx([-2, 2])
    blanked = BatchStream(white, 64, normalisation, augmentation=Augmentation(cutout=2))
    assert blanked.batch(0)[0].unique().tolist() == pytest.approx([0, 2])


@pytest.mark.parametrize(
    ("n", "drop_last", "sizes"),
    [(20, True, [6, 6, 6]), (20, False, [6, 6, 6, 2]), (18, False, [6, 6, 6]), (4, False, [4])],
)
def test_the_remainder_is_dropped_or_given(n: int, drop_last: bool, sizes: list[int]) -> None:
    stream = BatchStream(numbered(n), 6, PLAIN, shuffle=False, drop_last=drop_last)
    epoch = [samples(stream.batch(k)) for k in range(stream.batches_per_epoch)]
    assert [len(batch) for batch in epoch] == sizes
    assert list(chain(*epoch)) == list(range(sum(sizes)))
    assert samples(stream.batch(stream.batches_per_epoch)) == epoch[0]


def test_two_ranks_together_give_the_batch_of_one_process() -> None:
    whole = BatchStream(numbered(20), 6, PLAIN, seed=2)
    parts = [BatchStream(numbered(20), 6, PLAIN, seed=2, rank=r, world_size=2) for r in (0, 1)]
    for k in range(7):
        shares = [samples(part.batch(k)) for part in parts]
        assert [len(share) for share in shares] == [3, 3]
        assert [i for pair in zip(*shares, strict=True) for i in pair] == samples(whole.batch(k))


def test_ranks_draw_different_augmentation() -> None:
    same_image = LabelledImages(
        noisy(1).images.expand(32, 1, 4, 4), torch.zeros(32).long(), ("a", "b")
    )
    first, second = (
        BatchStream(same_image, 32, PLAIN, augmentation=AUGMENTATION, rank=r, world_size=2)
        for r in (0, 1)
    )
    assert not torch.equal(first.batch(0)[0], second.batch(0)[0])


@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("n", range(4, 40))
def test_evaluation_over_ranks_gives_each_sample_once_and_no_empty_batch(
    n: int, world_size: int
) -> None:
    streams = [
        BatchStream(
            numbered(n), 12, PLAIN, shuffle=False, drop_last=False, rank=r, world_size=world_size
        )
        for r in range(world_size)
    ]
    (batches,) = {stream.batches_per_epoch for stream in streams}
    seen = []
    for k in range(batches):
        shares = [samples(stream.batch(k)) for stream in streams]
        sizes = [len(share) for share in shares]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        seen += chain(*shares)
    assert sorted(seen) == list(range(n))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 21}, "batch_size: expected at least 21 images.*got 20"),
        ({"batch_size": 0}, "batch_size: .*got 0"),
        ({"batch_size": 5, "world_size": 2}, "batch_size: .*multiple of the 2 .*got 5"),
        ({"batch_size": 4, "world_size": 2, "rank": 2}, "rank: expected 0 to 1, got 2"),
        ({"batch_size": 4, "seed": -1}, "seed: expected 0 or more, got -1"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(settings: dict[str, int], message: str) -> None:
    batch_size = settings.pop("batch_size")
    with pytest.raises(ValueError, match=message):
        BatchStream(numbered(20), batch_size, PLAIN, **settings)  # type: ignore[arg-type]


def test_a_negative_batch_number_is_refused() -> None:
    with pytest.raises(ValueError, match="batch number: expected 0 or more, got -1"):
        BatchStream(numbered(4), 2, PLAIN).batch(-1)


def loader(limit: int | None = None, n: int = 22) -> EpochLoader:
    return EpochLoader(BatchStream(noisy(n), 4, PLAIN, augmentation=AUGMENTATION), limit)


def test_a_loader_gives_the_stream_epoch_by_epoch() -> None:
    epochs = loader()
    assert len(epochs) == 5
    given = [batch for _ in range(3) for batch in epochs]
    assert len(given) == 15
    stream = loader().stream
    assert all(same(batch, stream.batch(k)) for k, batch in enumerate(given))


@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("stop", range(10))
def test_a_resumed_loader_goes_on_as_if_it_had_not_stopped(stop: int, limit: int | None) -> None:
    unbroken = loader(limit)
    expected = [batch for _ in range(4) for batch in unbroken]
    broken = loader(limit)
    given: list[Batch] = []
    while len(given) < stop:
        for batch in broken:
            given.append(batch)
            if len(given) == stop:
                break
    resumed = loader(limit)
    resumed.load_state_dict(broken.state_dict())
    while len(given) < len(expected):
        given += resumed
    assert len(given) == len(expected)
    assert all(map(same, given, expected))


def test_a_pass_left_early_is_followed_by_the_next_epoch() -> None:
    epochs = loader()
    next(iter(epochs))
    stream = loader().stream
    assert all(same(batch, stream.batch(5 + k)) for k, batch in enumerate(epochs))
    assert epochs.state_dict() == {"position": 10}


def test_an_evaluation_loader_starts_over_after_a_pass_left_early() -> None:
    stream = BatchStream(numbered(10), 4, PLAIN, shuffle=False, drop_last=False)
    epochs = EpochLoader(stream)
    next(iter(epochs))
    assert [i for batch in epochs for i in samples(batch)] == list(range(10))


def test_limits() -> None:
    assert [len(loader(limit)) for limit in (None, 2, 99)] == [5, 2, 5]
    with pytest.raises(ValueError, match="limit: expected 1 batch or more, got 0"):
        loader(limit=0)


@pytest.mark.cuda
def test_a_gpu_makes_the_same_batches() -> None:
    cpu, gpu = (
        BatchStream(noisy(20), 6, PLAIN, augmentation=AUGMENTATION, device=device)
        for device in ("cpu", "cuda")
    )
    for k in range(5):
        images, labels = gpu.batch(k)
        assert images.is_cuda
        torch.testing.assert_close(images.cpu(), cpu.batch(k)[0])
        assert torch.equal(labels.cpu(), cpu.batch(k)[1])
