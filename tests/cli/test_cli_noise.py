"""Noise families on the command line: several at once, another data set, and what the cards say."""

import json

import pytest
import torch
import yaml
from conftest import search, train
from PIL import Image

import darts_noise as dn
from darts_noise.noise.families import fingerprint

FEW = [
    "--data.train_samples=80",
    "--data.batch_size=20",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--model.channels=4",
    "--wandb=off",
    "--name=a",
]


@pytest.fixture
def views(tmp_path):
    """A folder of 30 images in three classes."""
    for i in range(30):
        folder = tmp_path / "views" / f"view {i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 9), (8 * i, 0, 255 - 8 * i)).save(folder / f"{i}.png")
    return tmp_path / "views"


def test_a_mixture_is_searched_and_another_family_is_measured(views, tmp_path):
    mixture = {"uniform": 2.0, f"dataset:{views}": {"labels": "random", "weight": 1}}
    argv = [*FEW, f"--runs={tmp_path}", "--model.nodes=1", "--model.warmup_epochs=0"]
    argv += ["--model.noise_samples=45", f"--model.noise_family={json.dumps(mixture)}"]
    search(argv)
    run = tmp_path / "search" / "a"
    real = dn.ImageDataModule("digits", train_samples=80)
    real.setup()
    card = json.loads((run / "card.json").read_text())
    named = f"33.3 % dataset:{views} (random labels) + 66.7 % uniform"
    assert card["noise_family"] == named
    assert card["noise_fingerprint"] == fingerprint(dn.make_noise(mixture, 45, real.train))
    assert f"| Noise family of the search | {named} |" in (run / "card.md").read_text()
    assert dn.load_genotype(run).meta["noise_family"] == mixture
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["noise_family"] == mixture
    held = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert held["hyper_parameters"]["noise_family"] == mixture

    more = ["--model.num_cells=3", f"--noise_family=dataset:{views}", f"--runs={tmp_path}"]
    train([*FEW, *more])
    run = tmp_path / "train" / "a"
    card = json.loads((run / "card.json").read_text())
    assert card["noise_family"] == mixture
    assert card["noise"]["family"] == f"dataset:{views}"
    assert card["noise"]["samples"] == 30  # all there are, fewer than the 72 real ones
    text = (run / "card.md").read_text()
    assert f"| Noise protocol | quick: 30 dataset:{views} images, 1 epochs" in text
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["noise_family"] == f"dataset:{views}"


def test_a_later_setting_takes_the_place_of_a_mixture(capsys, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("model:\n  noise_family: {uniform: 1, blur: 1}\n")
    for later, expected in (
        ("gaussian", "gaussian"),
        ("{gaussian: 1}", {"gaussian": 1}),
        ("dataset:mnist", "dataset:mnist"),
    ):
        with pytest.raises(SystemExit):
            search([f"--config={config}", f"--model.noise_family={later}", "--print_config"])
        printed = yaml.safe_load(capsys.readouterr().out)
        assert printed["model"]["noise_family"] == expected


def test_noise_that_cannot_be_made_is_said_before_the_training(capsys, tmp_path):
    argv = [*FEW, f"--runs={tmp_path}", "--model.genotype=darts_v1", "--data.name=digits"]
    with pytest.raises(SystemExit) as stop:
        train([*argv, f"--noise_family=dataset:{tmp_path}"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert f"error: noise_family: 'dataset:{tmp_path}': " in error
    assert error.count("\n") == 1
    assert not (tmp_path / "train").exists()
