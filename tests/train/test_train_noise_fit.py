"""The measurement of noise fit: one fixed set, from scratch, with a clear difference of fits."""

import random
import re
import subprocess
import sys

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn

import darts_noise as dn
from darts_noise.data.datasets import load_dataset
from darts_noise.noise.families import fingerprint

RECIPE = {
    "channels": 8,
    "num_cells": 3,
    "stem": "small",
    "auxiliary_weight": 0.0,
    "drop_path": 0.0,
    "learning_rate": 0.1,
}
CPU = {"accelerator": "cpu"}


def test_lightning_prints_nothing():
    """In a process of its own, in which nothing else has set up the loggers."""
    code = (
        "import darts_noise as dn; images = dn.load_dataset('digits').train.subset(range(40)); "
        f"dn.noise_fit('darts_v1', images, epochs=1, recipe={RECIPE}, trainer={CPU})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture(scope="module")
def images():
    return load_dataset("digits").train


def test_a_network_with_capacity_fits_a_small_set_and_a_blind_one_stays_at_chance(images):
    """One skip and one average: with a cell of convolutions, 40 images are memorised."""
    fits = dn.noise_fit(
        "darts_v1", images, samples=40, epochs=40, batch_size=20, recipe=RECIPE, trainer=CPU
    )
    assert fits.accuracy > 0.9
    still = dn.noise_fit(
        "darts_v1",
        images,
        samples=40,
        epochs=2,
        batch_size=20,
        recipe={**RECIPE, "learning_rate": 0.0},
        trainer=CPU,
    )
    assert still.accuracy < 0.4
    assert fits.fingerprint == still.fingerprint
    assert fits.samples == 40
    assert (len(fits.curve), fits.curve[-1]) == (40, fits.accuracy)
    assert fits.accuracy_largest == max(fits.curve)
    assert 0.1 <= fits.chance < 0.5


def test_a_fit_of_few_steps_is_read_in_full(images):
    """64 images are one batch, so these are 8 steps: too few for running averages."""

    def normed(num_classes, in_channels):
        shifted = nn.Conv2d(in_channels, 8, 3, padding=1)
        nn.init.constant_(shifted.bias, 50.0)  # which the norm removes once it knows of it
        layers = shifted, nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(512, num_classes))

    recipe = {**RECIPE, "learning_rate": 0.1}
    fit = dn.noise_fit(normed, images, samples=64, epochs=8, recipe=recipe, trainer=CPU)
    assert fit.accuracy > 0.9


def test_it_does_not_depend_on_what_was_random_before(images):
    records = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        fit = dn.noise_fit("darts_v1", images, samples=30, epochs=2, recipe=RECIPE, trainer=CPU)
        records.append({k: v for k, v in fit.to_dict().items() if k != "seconds"})
    assert records[0] == records[1]


def test_its_accuracies_are_shares_of_the_images_as_chance_is(images):
    """An accuracy at chance is not a hair below it."""
    fit = dn.noise_fit("darts_v1", images, samples=30, epochs=2, recipe=RECIPE, trainer=CPU)
    counts = [30 * value for value in (*fit.curve, fit.accuracy, fit.chance)]
    assert [count / 30 for count in map(round, counts)] == [*fit.curve, fit.accuracy, fit.chance]


def test_noise_is_not_mixed(images):
    """Mixing makes noise harder to fit: it would flatter the cell."""

    def record(**mixing):
        recipe = {**RECIPE, **mixing}
        fit = dn.noise_fit("darts_v1", images, samples=30, epochs=2, recipe=recipe, trainer=CPU)
        return {k: v for k, v in fit.to_dict().items() if k != "seconds"}

    assert record() == record(mixup=1.0, cutmix=1.0)


class Fault(pl.Callback):
    """Ends the training in the midst of its third epoch."""

    def on_train_batch_end(self, trainer, *args):
        if trainer.current_epoch == 2:
            raise RuntimeError("power cut")


def test_the_quick_measurement_goes_on_from_its_last_epoch(images, tmp_path):
    """To the same record as the unbroken one, with random numbers drawn in every step."""
    common = {"samples": 40, "batch_size": 10, "trainer": CPU, "epochs": 4}
    common["recipe"] = {**RECIPE, "drop_path": 0.5}

    def record(**more):
        fit = dn.noise_fit("darts_v1", images, **common, **more)
        return {k: v for k, v in fit.to_dict().items() if k != "seconds"}

    whole, kept = record(), tmp_path / "noise"
    with pytest.raises(RuntimeError, match="power cut"):
        record(path=kept, callbacks=[Fault()])
    with pytest.raises(ValueError, match=f"path: {kept} holds the epochs of .*expected"):
        record(path=kept, seed=1)
    seen = []
    watch = pl.callbacks.LambdaCallback(
        on_train_epoch_start=lambda trainer, _: seen.append(trainer.current_epoch)
    )
    assert record(path=kept, callbacks=[watch]) == whole
    assert seen == [2, 3]
    assert not kept.exists()


def test_a_folder_that_holds_something_else_stays(images, tmp_path):
    mine = tmp_path / "results" / "mine.txt"
    mine.parent.mkdir()
    mine.touch()
    dn.noise_fit(
        "darts_v1",
        images,
        samples=20,
        batch_size=10,
        trainer=CPU,
        epochs=1,
        recipe=RECIPE,
        path=mine.parent,
    )
    assert [*mine.parent.iterdir()] == [mine]


def test_samples_default_to_as_many_as_there_are_real_images(images):
    few = images.subset(list(range(50)))
    fit = dn.noise_fit("darts_v1", few, epochs=1, recipe=RECIPE, trainer=CPU)
    assert fit.samples == 50
    assert fit.protocol == "quick"


def test_any_family_is_measured_and_named(images, tmp_path):
    """Also several at once and another data set, which bounds the number of images."""
    few = images.subset(list(range(60)))
    generator = torch.Generator().manual_seed(0)
    for i in range(24):
        folder = tmp_path / "views" / ("hills", "lakes")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image = torch.randint(256, (3, 9, 9), generator=generator, dtype=torch.uint8)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    views = f"dataset:{tmp_path / 'views'}"
    for family, samples, name in (
        ("label_permutation", 60, "label_permutation"),
        ({"uniform": 2, "shuffled_pixels": 1}, 60, "33.3% shuffled_pixels + 66.7% uniform"),
        (views, 24, views),
        ({views: 1, "blur": 1}, 49, f"50.0% blur + 50.0% {views}"),
    ):
        fit = dn.noise_fit(
            "darts_v1", few, family=family, epochs=1, recipe=RECIPE, trainer=CPU, seed=4
        )
        assert (fit.samples, fit.family) == (samples, name)
        assert fit.fingerprint == fingerprint(dn.make_noise(family, samples, few, seed=4))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"samples": 2.5}, "samples: expected a whole number from 1, got 2.5"),
        ({"epochs": "two"}, "epochs: expected a whole number from 1, got 'two'"),
        ({"batch_size": 0}, "batch_size: expected a whole number from 1, got 0"),
        ({"seed": -1}, "seed: expected a whole number from 0, got -1"),
        ({"protocol": "converged", "grid": {"seeds": 1}}, "grid: expected NoiseGrid, got dict"),
        ({"protocol": "converged", "controls": "resnet18"}, "controls: expected Mapping, got str"),
        ({"recipe": {"channles": 3}}, "recipe.channles: unknown setting 'channles': did you mean"),
        ({"trainer": {"max_epochs": 1}}, "trainer: expected no 'max_epochs', which noise_fit"),
        ({"trainer": {"logger": True}}, "trainer: expected no 'logger', which noise_fit sets"),
        ({"trainer": {"precison": 1}}, "trainer: unknown argument of Trainer 'precison': did you"),
    ],
)
@pytest.mark.parametrize("protocol", ["quick", "converged"])
def test_what_a_caller_mistypes_is_named(images, protocol, changes, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        dn.noise_fit("darts_v1", images, **{"protocol": protocol, "recipe": RECIPE, **changes})


def test_the_random_numbers_of_the_caller_go_on(images):
    drawn = []
    for measured in (True, False):
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        if measured:
            dn.noise_fit("darts_v1", images, samples=20, epochs=1, recipe=RECIPE, trainer=CPU)
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
    assert drawn[0] == drawn[1]


def test_images_and_networks_of_other_kinds_are_refused(images):
    with pytest.raises(ValueError, match=r"images: expected LabelledImages, got ImageDataModule"):
        dn.noise_fit("darts_v1", dn.ImageDataModule("digits"))
    with pytest.raises(ValueError, match="got Linear"):
        dn.noise_fit(nn.Linear(1, 1), images)


@pytest.mark.parametrize("protocol", ["quick", "converged"])
def test_a_function_that_makes_the_same_module_again_is_refused(images, protocol):
    """Its second training would go on from the first and fit what that had not."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def same(num_classes, in_channels):
        return net

    settings = {"samples": 20, "epochs": 1, "trainer": CPU}
    if protocol == "quick":
        dn.noise_fit(same, images, **settings)
    else:
        settings["controls"] = {}
    with pytest.raises(ValueError, match="to make a new module at every call, got the same Seq"):
        dn.noise_fit(same, images, protocol=protocol, **settings)
