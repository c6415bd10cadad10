"""The noise of the twin in a search, and the loss of a guess on it."""

import math

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

import darts_noise as dn
from darts_noise.noise.families import fingerprint
from darts_noise.noise.penalties.twin import Twin

pytestmark = pytest.mark.usefixtures("small_space")

TINY = {"space": "small", "nodes": 1, "channels": 4, "num_cells": 3, "stem": "small"}


@pytest.fixture
def views(tmp_path):
    """A folder of 24 images in two classes, dark and light."""
    for i in range(24):
        folder = tmp_path / "views" / ("dark", "light")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (10, 10), 200 * (i % 2) + i).save(folder / f"{i}.png")
    return tmp_path / "views"


def searched(data, epochs=1, **settings):
    torch.manual_seed(0)
    module = dn.SearchModule(**TINY, **settings)
    run = pl.Trainer(
        max_epochs=epochs,
        limit_train_batches=1,
        limit_val_batches=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    run.fit(module, datamodule=data)
    return module, run.callback_metrics


def test_it_is_the_set_that_the_setting_names(digits, views):
    family = {f"dataset:{views}": 1, "random_pixels": {"labels": "own", "weight": 2}}
    data = digits()
    module, _ = searched(data, noise_family=family, noise_samples=30, seed=5)
    assert module.noise_fingerprint == fingerprint(dn.make_noise(family, 30, data.train, seed=5))
    assert module.genotype().meta["noise_family"] == family


def test_a_guess_is_among_the_classes_of_the_other_data_set(digits, views):
    """Two of ten: the penalty is 0 at log 2 and above, and not only at log 10."""
    _, figures = searched(
        digits(), epochs=6, noise_family=f"dataset:{views}", noise_samples=24, learning_rate=0.1
    )
    loss = figures["noise/loss"].item()
    assert 0.05 < loss < 0.9 * math.log(10)
    expected = max(0.0, 1 - loss / math.log(2))
    assert figures["noise/penalty"].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("family", "classes"), [("dataset:{views}", 2), ("uniform", 10), ("blur", 10)]
)
def test_so_it_is_for_the_penalty_after_a_step_of_the_twin(
    family, classes, digits, views, monkeypatch
):
    asked = []
    of_loss = Twin.of_loss
    monkeypatch.setattr(
        Twin, "of_loss", lambda self, loss, c: asked.append(c) or of_loss(self, loss, c)
    )
    searched(
        digits(),
        noise_family=family.replace("{views}", str(views)),
        noise_samples=24,
        hypergradient="exact",
    )
    assert set(asked) == {classes}
