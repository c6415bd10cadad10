"""The data module: splits, streams, loaders, and runs of Lightning that stop and resume."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint

from darts_noise.data.batches import Batch, BatchStream
from darts_noise.data.images import ImageDataset, LabelledImages, channel_statistics
from darts_noise.data.module import ImageDataModule


def ready(**settings: Any) -> ImageDataModule:
    module = ImageDataModule(**settings)
    module.setup()
    return module


def rows(images: torch.Tensor) -> list[list[int]]:
    return sorted(images.flatten(1).tolist())


def test_training_and_validation_images_are_the_data_sets_and_the_test_set_is_its_own() -> None:
    module = ready()
    assert rows(torch.cat([module.train.images, module.validation.images])) == rows(
        module.dataset.train.images
    )
    assert len(module.validation) == 719
    assert module.test is module.dataset.test
    assert (module.num_classes, module.in_channels, module.image_shape) == (10, 1, (1, 8, 8))
    assert module.normalisation == channel_statistics(module.train.images)


def test_trainings_with_other_seeds_may_have_the_same_images_or_bootstrap_samples_of_them() -> None:
    few = {"train_samples": 100, "batch_size": 16, "wrong_labels": 0.4, "split_seed": 0}
    whole, again = ready(**few, seed=0), ready(**few, seed=1)
    assert torch.equal(whole.train.labels, again.train.labels)
    for part in ("train", "validation"):
        assert torch.equal(getattr(whole, part).images, getattr(again, part).images)
    orders = [module.train_stream().batch(0)[0] for module in (whole, again)]
    assert not torch.equal(*orders)
    drawn = [ready(**few, seed=seed, bootstrap=True) for seed in (0, 1)]
    for module in drawn:
        assert torch.equal(module.validation.images, whole.validation.images)
        found = {tuple(row) for row in rows(module.train.images)}
        assert len(found) < len(module.train) == len(whole.train)
        assert found < {tuple(row) for row in rows(whole.train.images)}
    assert not torch.equal(drawn[0].train.images, drawn[1].train.images)


def test_the_channels_share_their_statistics_if_the_config_says_so(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "train" / label).mkdir(parents=True)
        for number in range(4):
            red = Image.effect_noise((8, 8), 200)
            Image.merge("RGB", [red, Image.new("L", (8, 8), 7 + number), red]).save(
                tmp_path / "train" / label / f"{number}.png"
            )
    own = {"name": "image_folder", "root": str(tmp_path), "batch_size": 2, "test_fraction": 0.25}
    apart, shared = ready(**own), ready(**own, shared_statistics=True)
    assert len(set(apart.normalisation.std)) > 1
    for statistics in (shared.normalisation.mean, shared.normalisation.std):
        assert len(set(statistics)) == 1
    assert shared.normalisation == channel_statistics(shared.train.images, shared=True)


@pytest.mark.parametrize("name", ["train", "test", "dataset", "num_classes", "image_shape"])
def test_what_setup_makes_is_asked_for_too_early(name: str) -> None:
    module = ImageDataModule("digits")
    with pytest.raises(AttributeError, match=rf"'{name}' before setup\(\)"):
        getattr(module, name)
    module.setup()
    assert getattr(module, name)
    assert not hasattr(module, "nothing")


def test_the_test_set_does_not_depend_on_the_seed_and_the_split_does() -> None:
    first, second = ready(seed=0), ready(seed=1)
    assert torch.equal(first.test.images, second.test.images)
    assert not torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.train.images, ready(seed=0).train.images)


def test_train_samples_are_taken_before_the_split() -> None:
    module = ready(train_samples=100, validation_fraction=0.3, batch_size=8)
    assert (len(module.train), len(module.validation)) == (70, 30)
    assert torch.bincount(module.train.labels).tolist() == [7] * 10


def test_setup_loads_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ready()
    train = module.train
    monkeypatch.setattr("darts_noise.data.module.load_dataset", None)
    module.prepare_data()
    module.setup("test")
    assert module.train is train


def test_the_constructor_does_no_input_or_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darts_noise.data.module.load_dataset", None)
    ImageDataModule(name="mnist", root="/nowhere")


def test_without_a_validation_split() -> None:
    module = ready(validation_fraction=0.0)
    assert (len(module.train), len(module.validation)) == (1438, 0)
    assert module.val_dataloader() == []
    with pytest.raises(ValueError, match=r"data\.validation_fraction: .*got 0"):
        module.validation_stream(shuffle=True)
    few = ready(train_samples=3)  # of three classes: nothing can be held out
    with pytest.raises(ValueError, match=r"data\.train_samples: expected .* got 3 in all"):
        few.validation_stream(shuffle=True)


def of_sizes(*sizes: int) -> ImageDataset:
    """A data set with a class of each of these sizes."""
    labels = torch.repeat_interleave(torch.tensor(sizes))
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    half = LabelledImages(images.contiguous(), labels, tuple(f"c{i}" for i in range(len(sizes))))
    return ImageDataset("sizes", half, half, flip=False)


def test_a_class_that_a_half_lacks_is_named_and_alpha_needs_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*sizes: int) -> ImageDataModule:
        with monkeypatch.context() as patch:
            patch.setattr("darts_noise.data.module.load_dataset", lambda *_: of_sizes(*sizes))
            return ready(batch_size=2)

    with pytest.warns(UserWarning, match=r"without a validation image: 1 of 3 \(c1\)") as said:
        module = load(6, 1, 5)
    assert len(said) == 1
    module.validation_stream(shuffle=True)
    with pytest.warns(UserWarning, match=r"validation image: 5 of 6 \(c1, c2, c3, …\)"):
        module = load(6, 1, 1, 1, 1, 1)
    with pytest.raises(
        ValueError, match=r"data\.validation_fraction: expected images of 2 classes"
    ):
        module.validation_stream(shuffle=True)
    module.validation_stream(shuffle=False)
    with pytest.warns(UserWarning, match="without a training image: 6 of 10"):
        ready(train_samples=4, validation_fraction=0.0, batch_size=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(4, 2)
        ready(validation_fraction=0.0)


def test_streams_for_training_are_augmented_and_those_for_evaluation_are_not() -> None:
    module = ready(crop_padding=1, cutout=2, batch_size=32)
    for stream in (module.train_stream(), module.validation_stream(shuffle=True)):
        assert stream.augmentation == module.augmentation
        assert (stream.shuffle, stream.drop_last, stream.batch_size) == (True, True, 32)
    test = module.test_dataloader().stream
    for stream in (module.validation_stream(shuffle=False), test):
        assert stream.augmentation is None
        assert (stream.shuffle, stream.drop_last, stream.batch_size) == (False, False, 128)
    images, labels = map(torch.cat, zip(*module.test_dataloader(), strict=True))
    assert torch.equal(images, module.normalisation(module.test.images))
    assert torch.equal(labels, module.test.labels)


def test_training_and_validation_are_not_drawn_in_step() -> None:
    module = ready(train_samples=1000, batch_size=50)
    assert len(module.train) == len(module.validation)
    streams = module.train_stream(), module.validation_stream(shuffle=True)
    assert not torch.equal(*(stream._order(0) for stream in streams))
    other = ready(train_samples=1000, batch_size=50, seed=1).train_stream()
    assert all(not torch.equal(stream._order(0), other._order(0)) for stream in streams)


@pytest.mark.parametrize(("flip", "expected"), [(None, False), (True, True), (False, False)])
def test_flip_is_the_data_sets_unless_it_is_set(flip: bool | None, expected: bool) -> None:
    assert ready(flip=flip).augmentation.flip is expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "digit"}, "unknown data set 'digit': did you mean 'digits'"),
        ({"batch_size": 0}, r"data\.batch_size: expected 1 or more, got 0"),
        ({"image_size": 0}, r"data\.image_size: expected 1 or more, got 0"),
        ({"train_samples": 0}, r"data\.train_samples: expected 1 or more, got 0"),
        ({"crop_padding": -1}, r"data\.crop_padding: expected 0 or more, got -1"),
        ({"cutout": -1}, r"data\.cutout: expected 0 or more, got -1"),
        ({"seed": -1}, r"data\.seed: expected 0 or more, got -1"),
        ({"validation_fraction": 1.0}, r"data\.validation_fraction: .* less than 1, got 1\.0"),
        ({"test_fraction": 0.0}, r"data\.test_fraction: expected more than 0 .* got 0\.0"),
        ({"test_fraction": 1.0}, r"data\.test_fraction: .* less than 1, got 1\.0"),
        ({"validation_fraction": -0.1}, r"data\.validation_fraction: .*got -0\.1"),
    ],
)
def test_a_setting_out_of_range_is_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageDataModule(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_samples": 1439}, r"data\.train_samples: expected 1 to 1438, got 1439"),
        ({"train_samples": 1}, r"data\.train_samples: expected training images of 2 classes"),
        ({"cutout": 9}, r"data\.cutout: expected at most the 8 pixels of an image, got 9"),
        ({"crop_padding": 9}, r"data\.crop_padding: expected at most the 8 pixels"),
    ],
)
def test_a_setting_that_does_not_suit_the_data_is_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ready(**settings)


def test_a_batch_larger_than_the_split_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.batch_size: expected at least 720 .*got 719"):
        ready(batch_size=720).train_stream()


class Recorder(pl.LightningModule):
    """Notes the batches it is given and learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: list[Batch] = []
        self.validated: list[int] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.trained.append(batch)
        return self.weight * batch[0].mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            self.validated.append(len(batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(
    folder: Path, limit: int | float | None, checkpoint: Path | None = None, **settings: Any
) -> tuple[Recorder, pl.Trainer]:
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        limit_train_batches=limit,
        logger=False,
        enable_checkpointing="callbacks" in settings,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    module, recorder = ImageDataModule(batch_size=128, crop_padding=1, cutout=2), Recorder()
    trainer.fit(recorder, module, ckpt_path=checkpoint, weights_only=True)
    return recorder, trainer


def as_stream(batches: list[Batch], stream: BatchStream, numbers: list[int]) -> bool:
    return len(batches) == len(numbers) and all(
        torch.equal(images, stream.batch(k)[0]) and torch.equal(labels, stream.batch(k)[1])
        for (images, labels), k in zip(batches, numbers, strict=True)
    )


@pytest.mark.parametrize(
    ("limit", "numbers"),
    [
        (None, list(range(12))),  # 719 images are 5 batches of 128
        (3, [0, 1, 2, 5, 6, 7, 10, 11, 12, 15, 16, 17]),
    ],
)
@pytest.mark.parametrize("stop", [2, 3, 5, 6, 8, 10])
def test_lightning_resumes_with_the_very_next_batch(
    stop: int, limit: int | None, numbers: list[int], tmp_path: Path
) -> None:
    stream = ready(batch_size=128, crop_padding=1, cutout=2).train_stream()
    before, trainer = fit(tmp_path, limit, max_steps=stop)
    trainer.save_checkpoint(tmp_path / "stop.ckpt")
    after, _ = fit(tmp_path, limit, tmp_path / "stop.ckpt", max_steps=12)
    assert as_stream(before.trained + after.trained, stream, numbers)


@pytest.mark.parametrize(
    ("limit", "numbers"),
    [
        (1.0, list(range(15))),  # 719 images are 5 batches of 128
        (3, [0, 1, 2, 5, 6, 7, 10, 11, 12]),
        (0.6, [0, 1, 2, 5, 6, 7, 10, 11, 12]),
    ],
)
def test_lightning_resumes_between_epochs_with_the_next_epoch(
    limit: int | float, numbers: list[int], tmp_path: Path
) -> None:
    """Of a run that counts epochs, whose loader Lightning makes anew."""
    stream = ready(batch_size=128, crop_padding=1, cutout=2).train_stream()
    keep = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    unbroken, _ = fit(tmp_path, limit, max_epochs=3, callbacks=[keep])
    assert as_stream(unbroken.trained, stream, numbers)
    for epoch in range(2):
        resumed, _ = fit(tmp_path, limit, tmp_path / f"epoch={epoch}.ckpt", max_epochs=3)
        assert as_stream(resumed.trained, stream, numbers[(epoch + 1) * len(numbers) // 3 :])


def test_data_that_served_a_resumed_run_begin_anew_for_another(tmp_path: Path) -> None:
    data = ready(batch_size=128)
    data.load_state_dict({"position": 5})
    first, second = (next(iter(data.train_dataloader())) for _ in range(2))
    assert as_stream([first], data.train_stream(), [5])
    assert as_stream([second], data.train_stream(), [0])


def test_lightning_sees_the_whole_validation_set_after_its_sanity_check(tmp_path: Path) -> None:
    recorder, _ = fit(tmp_path, None, max_steps=10)
    assert recorder.validated == [512, 207] * 2


def test_a_limit_that_is_a_share_starts_each_epoch_afresh(tmp_path: Path) -> None:
    stream = ready(batch_size=128, crop_padding=1, cutout=2).train_stream()
    recorder, _ = fit(tmp_path, 0.6, max_steps=6)
    assert as_stream(recorder.trained, stream, [0, 1, 2, 5, 6, 7])


def test_streams_follow_the_trainers_rank_and_device(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cuda", 3)),
        global_rank=1,
        world_size=2,
        limit_train_batches=1.0,
    )
    made = []
    module = ready()
    monkeypatch.setattr(module, "trainer", trainer)
    monkeypatch.setattr(
        "darts_noise.data.module.BatchStream", lambda *_, **settings: made.append(settings)
    )
    module.train_stream()
    module.validation_stream(shuffle=False)
    for settings in made:
        assert settings["device"] == torch.device("cuda", 3)
        assert (settings["rank"], settings["world_size"]) == (1, 2)
    assert len(made) == 2


class Writer(Recorder):
    """A recorder that leaves what it saw in a file for each process."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_train_end(self) -> None:
        torch.save((self.trained, self.validated), self.folder / f"{self.global_rank}.pt")


def test_two_processes_of_lightning_share_the_batches_of_one(tmp_path: Path) -> None:
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        max_epochs=2,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Writer(tmp_path), ImageDataModule(batch_size=128))
    (first, first_sizes), (second, second_sizes) = (
        torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    stream = ready(batch_size=128).train_stream()
    whole = [
        tuple(torch.stack(pair, dim=1).flatten(0, 1) for pair in zip(one, two, strict=True))
        for one, two in zip(first, second, strict=True)
    ]
    assert as_stream(whole, stream, list(range(10)))  # type: ignore[arg-type]
    assert first_sizes == [256, 104] * 2
    assert second_sizes == [256, 103] * 2


def test_a_trainer_that_overfits_gets_the_same_batches_in_every_epoch():
    class Sums(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), []

        def training_step(self, batch, batch_idx):
            self.seen.append((batch[0].sum().item(), tuple(batch[1].tolist())))
            return self.weight

        def configure_optimizers(self):
            return torch.optim.SGD([self.weight], 0.1)

    more = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    seen = {}
    for limit in ({"overfit_batches": 2}, {"limit_train_batches": 2}):
        module = Sums()
        data = ImageDataModule("digits", batch_size=16, crop_padding=1)
        pl.Trainer(max_epochs=3, accelerator="cpu", **limit, **more).fit(module, datamodule=data)
        seen[next(iter(limit))] = module.seen
    assert len(set(seen["overfit_batches"])) == 2
    assert seen["overfit_batches"] == 3 * seen["limit_train_batches"][:2]
    assert len(set(seen["limit_train_batches"])) == 6
