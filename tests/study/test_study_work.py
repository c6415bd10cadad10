"""A study searches and trains as the scripts do, and measures as `noise_fit` does."""

import json

import pytest
import torch
import yaml
from conftest import search, train
from small_studies import SMALL, settings_of, timeless, written

import darts_noise as dn
from darts_noise.search import trials
from darts_noise.study.networks import compared_networks
from darts_noise.study.work import Worker

SEED = 3


@pytest.fixture
def worker(tmp_path):
    settings = settings_of(written(tmp_path, noise_weights=[0.5], controls={"pooled_cnn": None}))
    return Worker(settings, tmp_path, None)


def script_config(tmp_path, kind, **model):
    """The same settings as a config of the script."""
    given = SMALL[kind]
    file = tmp_path / f"{kind}.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "data": given["data"],
                "model": {**given["model"], **model},
                "trainer": given["trainer"],
            }
        )
    )
    options = [f"--config={given['config']}", f"--config={file}", f"--seed={SEED}"]
    return [*options, f"--runs={tmp_path / 'runs'}", "--name=run", "--wandb=off"]


def test_the_cell_is_that_of_search_py(worker, tmp_path):
    network = compared_networks(worker.settings)[0]
    torch.manual_seed(1)  # what ran before has no say
    found = worker.cell(network, SEED, None)
    search(script_config(tmp_path, "search", noise_weight=0.5))
    run = tmp_path / "runs" / "search" / "run"
    assert dn.Genotype.from_dict(found["genotype"]) == dn.load_genotype(run)
    card = json.loads((run / "card.json").read_text())
    assert found["validation_accuracy"] == card["validation_accuracy"]
    assert found["penalty"] == pytest.approx(card["penalty"], abs=0)


def test_with_candidates_too_the_cell_is_that_of_search_py(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "NOISE_EPOCHS", 2)
    model = {"candidates": 3, "candidate_epochs": 1}
    own = {**SMALL["search"], "model": {**SMALL["search"]["model"], **model}}
    file = written(tmp_path, search=own, noise_weights=[0.5], controls={"pooled_cnn": None})
    worker = Worker(settings_of(file), tmp_path, None)
    found = worker.cell(compared_networks(worker.settings)[0], SEED, None)
    search(script_config(tmp_path, "search", noise_weight=0.5, **model))
    cell = dn.load_genotype(tmp_path / "runs" / "search" / "run")
    assert dn.Genotype.from_dict(found["genotype"]) == cell
    assert found["genotype"]["meta"]["candidates"] == cell.meta["candidates"] == 3


def test_the_test_accuracy_is_that_of_train_py(worker, tmp_path):
    cell = dn.load_genotype("gdas")
    cell.to_json(tmp_path / "cell.json")
    network = compared_networks(worker.settings)[0]
    record = worker.test(network, SEED, {"genotype": cell.to_dict(), "model": {}})
    options = script_config(tmp_path, "train", genotype=str(tmp_path / "cell.json"))
    train([*options, "--noise_check=false"])
    card = json.loads((tmp_path / "runs" / "train" / "run" / "card.json").read_text())
    for key in ("test_accuracy", "test_loss", "parameters", "multiply_adds", "epochs"):
        assert record[key] == card[key], key
    assert record["train_samples"] == card["train_samples"] == 100


def test_the_validation_of_a_proposal_tests_nothing(worker, monkeypatch):
    monkeypatch.setattr(dn.TrainModule, "test_step", lambda *a: pytest.fail("looked at the test"))
    network = compared_networks(worker.settings)[0]
    cell = {"genotype": dn.load_genotype("gdas").to_dict(), "model": {}}
    assert "test_accuracy" not in worker.validation(network, SEED, cell)


def test_a_control_trains_with_what_is_its_own(tmp_path):
    controls = {"alexnet": {"model": {"learning_rate": 0.0}}}
    worker = Worker(settings_of(written(tmp_path, controls=controls)), tmp_path, None)
    alexnet = compared_networks(worker.settings)[-1]
    still = worker.test(alexnet, SEED, None)["test_accuracy"]
    assert still < 0.3  # without a learning rate nothing is learnt
    cli = worker._training(alexnet, SEED, None)
    assert cli.model.config.weight_decay == 5e-4


def test_what_diverges_is_null(tmp_path):
    controls = {"alexnet": {"model": {"learning_rate": 1e30}}}
    settings = settings_of(
        written(tmp_path, controls=controls, train={**SMALL["train"], "trainer": {"max_epochs": 2}})
    )
    record = Worker(settings, tmp_path, None).test(compared_networks(settings)[-1], 0, None)
    assert record["diverged"]
    json.dumps(record, allow_nan=False)


def measured(worker, network, protocol, cell=None, file="file"):
    return timeless(worker.noise(network, SEED, cell, "gaussian", protocol, file))


def fitted(network, worker, **how):
    data = worker._training(compared_networks(worker.settings)[0], SEED, None).datamodule
    data.setup()
    how = {"family": "gaussian", "seed": SEED, **how}
    return timeless(dn.noise_fit(network, data.train, **how).to_dict())


SIZE = {"channels": 4, "num_cells": 3, "stem": "small"}
CELL = dn.load_genotype("gdas")
RECORD = {"genotype": CELL.to_dict(), "model": {}}


def test_the_converged_fit_is_that_of_noise_fit(worker):
    network = compared_networks(worker.settings)[0]
    grid = dn.NoiseGrid(sgd_rates=(0.01,), adam_rates=(0.01,), seeds=1, enough=1.0)
    how = {"protocol": "converged", "samples": 20, "epochs": 2, "grid": grid, "controls": {}}
    assert measured(worker, network, "converged", RECORD) == fitted(
        CELL, worker, recipe=SIZE, **how
    )


def test_the_quick_fit_has_the_recipe_and_the_epochs_of_the_training(worker):
    network = compared_networks(worker.settings)[0]
    # What the config of the training says.
    recipe = {**SIZE, "auxiliary_weight": 0.0, "drop_path": 0.1, "learning_rate": 0.1}
    how = {"protocol": "quick", "epochs": 1, "trainer": {"gradient_clip_val": 5.0}}
    found = measured(worker, network, "quick", RECORD)
    assert found == fitted(CELL, worker, recipe=recipe, **how)
    assert found["samples"] == 100


@pytest.mark.parametrize("control", ["random", "all_skip"])
def test_every_network_of_cells_may_have_as_many_parameters(tmp_path, control):
    """And no number of channels comes nearer."""
    file = written(tmp_path, parameters=3000, controls={control: None, "alexnet": None})
    worker = Worker(settings_of(file), tmp_path, None)
    network = next(n for n in compared_networks(worker.settings) if n.control == control)
    found = worker.cell(network, SEED, None)
    form = {"num_classes": 10, "in_channels": 1, "num_cells": 3, "stem": "small"}
    channels = found["model"]["channels"]
    counts = [
        sum(
            p.numel()
            for p in dn.create_model(
                dn.Genotype.from_dict(found["genotype"]), channels=width, **form
            ).parameters()
        )
        for width in (channels - 1, channels, channels + 1)
    ]
    assert abs(counts[1] - 3000) == min(abs(count - 3000) for count in counts)
    assert worker.test(network, SEED, found)["parameters"] == counts[1]


def test_a_matched_cell_is_measured_at_its_own_width(worker):
    network = compared_networks(worker.settings)[0]
    wide = measured(worker, network, "converged", {**RECORD, "model": {"channels": 8}}, "wide")
    assert wide != measured(worker, network, "converged", RECORD)


@pytest.mark.parametrize(
    ("control", "weight_decay"), [("alexnet", 0.02), ("pooled_cnn", 0.0), ("resnet18", 0.0)]
)
def test_a_control_keeps_its_weight_decay_where_it_has_one(
    control, weight_decay, tmp_path, monkeypatch
):
    own = {"model": {"weight_decay": weight_decay}} if weight_decay else {}
    worker = Worker(settings_of(written(tmp_path, controls={control: own})), tmp_path, None)
    asked = {}

    def noise_fit(network, images, **how):
        asked.update(how)
        return dn.NoiseFit("converged", "uniform", 1, 1, 0.1, 20, 2, 0, "", 1.0)

    monkeypatch.setattr("darts_noise.study.work.noise_fit", noise_fit)
    measured(worker, compared_networks(worker.settings)[-1], "converged")
    assert asked["grid"].weight_decay == weight_decay
    assert asked["grid"].enough == (0.99 if control == "resnet18" else 1.0)
    assert asked["controls"] == {}
