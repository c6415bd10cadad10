"""Both scripts on a GPU, in every precision that the README offers."""

import json

import pytest
import torch
from conftest import search, train

from darts_noise.search import candidate_trainings

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("no_drawings")]
FEW = [
    "--data.train_samples=160",
    "--data.batch_size=20",
    "--data.grey=false",
    "--trainer.accelerator=gpu",
    "--trainer.devices=1",
    "--trainer.max_epochs=2",
    "--wandb=off",
]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_search(precision, tmp_path, monkeypatch):
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 2)
    small = ["--model.channels=4", "--model.nodes=1", "--model.warmup_epochs=0", "--model.race=0"]
    small += ["--model.candidates=2", "--model.candidate_epochs=1", "--model.noise_samples=40"]
    small += [f"--trainer.precision={precision}"]
    search([*FEW, *small, f"--runs={tmp_path}", "--name=s"])
    run = tmp_path / "search" / "s"
    assert (run / "genotype.json").is_file()
    card = json.loads((run / "card.json").read_text())
    assert card["hardware"] == torch.cuda.get_device_name()
    assert card["cell_validation_accuracy"] > 0


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_train(precision, tmp_path):
    small = ["--model.channels=4", "--model.num_cells=3", f"--trainer.precision={precision}"]
    train([*FEW, *small, "--model.genotype=darts_v1", f"--runs={tmp_path}", "--name=t"])
    card = json.loads((tmp_path / "train" / "t" / "card.json").read_text())
    assert card["precision"] == precision
    assert card["test_accuracy"] > 0


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_noise_is_measured_over_a_grid(precision, tmp_path):
    """Eighty images are few enough for any of its trainings."""
    more = ["--model.channels=8", "--model.num_cells=3", f"--trainer.precision={precision}"]
    more += ["--noise_protocol=converged", "--noise_samples=80", "--noise_grid.enough=1.0"]
    train([*FEW, *more, "--model.genotype=darts_v1", f"--runs={tmp_path}", "--name=t"])
    card = json.loads((tmp_path / "train" / "t" / "card.json").read_text())
    assert card["noise_accuracy"] > 0.9
    assert card["noise"]["control_reached"]
