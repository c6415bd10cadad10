"""The same seed gives the same run, with any number of reading threads, with W&B or without."""

import json

import numpy as np
import pytest
from conftest import search, train
from PIL import Image

from darts_noise.data import decoding

FEW = ["--data.name=image_folder", "--data.batch_size=8", "--data.in_memory=false"]
FEW += ["--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--model.num_cells=3"]
FEW += ["--model.channels=4", "--model.stem=small"]
OF_SEARCH = ["--model.nodes=1", "--model.warmup_epochs=0", "--model.noise_samples=16"]
TIMES = {"wall_time_s", "seconds", "genotype", "cell"}
"""What may differ between two cards: how long it took, and the names of the runs' folders."""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for half in ("train", "test"):
        for name in ("a", "b"):
            (root / half / name).mkdir(parents=True)
            for i in range(24):
                pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(root / half / name / f"{i}.png")
    return root


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return value


def found(script, argv, run):
    """Cell, metrics and card of a run."""
    script(argv)
    card = json.loads((run / "card.json").read_text())
    cell = json.loads((run / "genotype.json").read_text())
    return cell, (run / "metrics.csv").read_text(), without_times(card)


def runs_of(images, folder, monkeypatch, threads, wandb):
    monkeypatch.setattr(decoding, "_THREADS", threads)
    decoding._pool.cache_clear()  # whose threads were counted when it was made
    own = [f"--data.root={images}", f"--wandb={wandb}", "--name=a", f"--runs={folder}"]
    searched = found(search, [*FEW, *OF_SEARCH, *own], folder / "search" / "a")
    cell = f"--model.genotype={folder / 'search' / 'a'}"
    more = ["--model.auxiliary_weight=0", "--noise_samples=16", cell]
    return searched, found(train, [*FEW, *more, *own], folder / "train" / "a")


@pytest.mark.slow
def test_two_runs_are_alike(images, tmp_path, monkeypatch):
    """One thread without W&B, four with it."""
    one = runs_of(images, tmp_path / "one", monkeypatch, 1, "off")
    four = runs_of(images, tmp_path / "four", monkeypatch, 4, "offline")
    assert one == four
