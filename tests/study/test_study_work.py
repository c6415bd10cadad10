"""A study searches and trains as `search` and `train` do, and measures as `noise_fit` does."""

import json
import signal
from dataclasses import replace

import pytest
import torch
from studies import SEARCH, TRAIN, small, timeless

import darts_noise as dn
from darts_noise.runs import search as searching
from darts_noise.runs import train as training
from darts_noise.runs.train import Trained
from darts_noise.search import candidate_trainings
from darts_noise.search.candidate import read_candidates
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.module import SearchModule
from darts_noise.space.spaces import get_space
from darts_noise.study import work
from darts_noise.study.cells import random_cell
from darts_noise.study.units import compared_networks
from darts_noise.study.work import SeedRuns
from darts_noise.train import noise_runs
from darts_noise.train.noise_record import NoiseFit

pytestmark = pytest.mark.usefixtures("no_drawings")
SEED = 3
CELL = dn.load_genotype("gdas")
RECORD = {"genotype": CELL.to_dict(), "model": {}}


@pytest.fixture
def worker(tmp_path):
    """(a network's key, changes to the small study) → what makes its parts."""

    def make(key="lambda_0.5", seed=SEED, **changes):
        config = small(**{"noise_weights": [0.5], "controls": {}, **changes})
        network = next(n for n in compared_networks(config) if n.key == key)
        return SeedRuns(config, network, seed, tmp_path)

    return make


def run_config(tmp_path):
    return dn.RunConfig(name="run", runs=str(tmp_path / "runs"), wandb="off")


@pytest.mark.parametrize("candidates", [{}, {"candidates": 3, "candidate_epochs": 1}])
def test_the_cell_is_that_of_a_search(candidates, worker, tmp_path, monkeypatch):
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 2)
    setup = replace(SEARCH, model=replace(SEARCH.model, **candidates))
    torch.manual_seed(1)  # what ran before has no say
    found = worker(search=setup).cell(None)
    data = dn.ImageDataModule(replace(setup.data, seed=SEED))
    config = replace(setup.model, noise_weight=0.5, seed=SEED)
    expected = searching.search(data, config, trainer=setup.trainer, run=run_config(tmp_path))
    assert dn.Genotype.from_dict(found["genotype"]) == expected.genotype
    assert found["genotype"]["meta"].get("candidates") == candidates.get("candidates")
    assert found["validation_accuracy"] == expected.card["validation_accuracy"]
    assert found["penalty"] == pytest.approx(expected.card["penalty"], abs=0)
    assert found["objective"] == expected.card["objective"]


def test_a_strategy_has_the_budget_of_another_search(worker, tmp_path, monkeypatch):
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 1)
    raced = {"candidates": 2, "candidate_epochs": 1, "macro": {"logit_scale": [1, 64]}, "race": 2}
    setup = replace(SEARCH, model=replace(SEARCH.model, **raced))
    own = {"twice": {"strategy": "random", "candidate_epochs": 2}}
    cell = worker("strategy_twice_0.5", search=setup, strategies=own).cell
    found = cell({**RECORD, "gradient_steps": 21})
    config = replace(setup.model, noise_weight=0.5, seed=SEED, race=0, strategy="random")
    config = replace(config, candidate_epochs=2, strategy_steps=21)
    data = dn.ImageDataModule(replace(setup.data, seed=SEED))
    expected = searching.search(data, config, run=run_config(tmp_path))
    assert dn.Genotype.from_dict(found["genotype"]) == expected.genotype
    for key in ("objective", "gradient_steps"):
        assert found[key] == pytest.approx(expected.card[key], abs=1e-6)
    assert found["gradient_steps"] >= 21
    file = tmp_path / "search" / f"strategy_twice_0.5-seed{SEED}" / "candidates.json"
    best = read_candidates(file)[0]
    assert found["validation_accuracy"] == best.validation.accuracy
    with pytest.raises(dn.SettingError, match=r"strategies\.twice\.strategy_steps: expected"):
        cell(RECORD)  # of an older study


def test_a_stopped_search_goes_on_and_a_finished_one_is_not_repeated(worker, tmp_path, monkeypatch):
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 1)
    made, signals = [], []

    def counted(name, does):
        def call(*args):
            made.append(name)
            if signals == [name, made.count(name)]:
                signal.raise_signal(signal.SIGTERM)
            return does(*args)

        return call

    for name, owner in {"_step_alpha": SearchModule, "_measured": CandidateTrainings}.items():
        monkeypatch.setattr(owner, name, counted(name.split("_")[1], getattr(owner, name)))

    def found(folder, *signalled, **changes):
        made.clear()
        signals[:] = signalled
        model = replace(SEARCH.model, candidates=2, candidate_epochs=1, **changes)
        setup = replace(SEARCH, model=model)
        runs = worker("lambda_1e+06", search=setup, noise_weights=[1e6])  # no name for a folder
        runs.folder = tmp_path / folder
        return timeless(runs.cell(None))

    whole = found("whole")
    everything = ["step", "step", "measured", "measured"]
    assert made == everything
    for signalled, before in ((("step", 1), everything[:1]), (("measured", 2), everything[1:])):
        with pytest.raises(dn.Interrupted) as stop:
            found("broken", *signalled)
        assert (stop.value.status, made) == (143, before)
    for left in (["measured"], []):
        assert found("broken") == whole
        assert made == left
    with pytest.raises(dn.Interrupted):
        found("broken", "step", 1, learning_rate=0.1)  # other settings: it starts anew
    assert made == ["step"]


def test_the_test_accuracy_is_that_of_a_training(worker, tmp_path):
    found = worker().training(RECORD, Trained.test)
    data = dn.ImageDataModule(replace(TRAIN.data, seed=SEED))
    card = training.train(
        CELL,
        data,
        replace(TRAIN.model, seed=SEED),
        noise=dn.NoiseConfig(check=False),
        trainer=TRAIN.trainer,
        run=run_config(tmp_path),
    ).card
    for key in ("test_accuracy", "test_loss", "parameters", "multiply_adds", "epochs"):
        assert found[key] == card[key], key
    assert found["train_samples"] == card["train_samples"] == 100


def test_the_validation_of_a_proposal_tests_nothing(worker, monkeypatch):
    monkeypatch.setattr(dn.TrainModule, "test_step", lambda *a: pytest.fail("looked at the test"))
    data = replace(TRAIN.data, validation_fraction=0.2)
    found = worker(train=replace(TRAIN, data=data)).training(RECORD)
    assert "test_accuracy" not in found
    assert found["validation_accuracy"] > 0


def test_a_control_trains_with_what_is_its_own(worker):
    still = {"alexnet": {"model": {"learning_rate": 0.0}}}
    alexnet = worker("alexnet", controls=still)
    assert alexnet.training(None, Trained.test)["test_accuracy"] < 0.3
    assert alexnet._settings(None)[1].weight_decay == 5e-4


def test_what_diverges_is_null(worker):
    controls = {"alexnet": {"model": {"learning_rate": 1e30}}}
    two = replace(TRAIN, trainer=replace(TRAIN.trainer, max_epochs=2))
    found = worker("alexnet", train=two, controls=controls).training(None, Trained.test)
    assert found["diverged"]
    json.dumps(found, allow_nan=False)


def measured(worker, protocol, cell=None, file="file.json"):
    return timeless(worker.noise(cell, "gaussian", protocol, file))


def fitted(network, **how):
    data = dn.ImageDataModule(replace(TRAIN.data, seed=SEED))
    data.setup()
    return timeless(
        dn.noise_fit(network, data.train, family="gaussian", seed=SEED, **how).to_dict()
    )


FIT = NoiseFit("quick", "uniform", 0.5, 0.5, 0.1, 10, 1, 0, "", 1.0)
SIZE = {"channels": 4, "num_cells": 3, "stem": "small"}


def test_the_converged_fit_is_that_of_noise_fit_and_goes_on(worker, monkeypatch):
    """Where it is killed, behind the trainings that are finished; and at the cell's own width."""

    class Killed(BaseException):
        pass

    real, made = noise_runs.measure_fit, []

    def counted(make, task, recipe, *args, **settings):
        if made == ["sgd"] and not killed:
            killed.append(True)
            raise Killed
        made.append(recipe.optimiser)
        return real(make, task, recipe, *args, **settings)

    killed = []
    monkeypatch.setattr(noise_runs, "measure_fit", counted)
    with pytest.raises(Killed):
        measured(worker(), "converged", RECORD)
    found = measured(worker(), "converged", RECORD)
    assert made[:2] == ["sgd", "adam"]  # on noise
    assert made[2:] in (["adam"], ["adam", "sgd"])  # on as many real images, the better fit first
    grid = dn.NoiseGrid(
        sgd_rates=(0.01,), adam_rates=(0.01,), muon_rates=(), seeds=1, scales=(1,), enough=1.0
    )
    how = {"protocol": "converged", "samples": 20, "epochs": 2, "grid": grid, "controls": {}}
    assert found == fitted(CELL, recipe=SIZE, **how)
    wide = measured(worker(), "converged", {**RECORD, "model": {"channels": 8}}, "wide.json")
    assert wide == fitted(CELL, recipe={**SIZE, "channels": 8}, **how)


def test_the_quick_fit_has_the_recipe_and_the_epochs_of_the_training(worker):
    recipe = {**SIZE, "auxiliary_weight": 0.0, "drop_path": 0.0, "learning_rate": 0.1}
    how = {"protocol": "quick", "epochs": 1, "trainer": {"gradient_clip_val": 5.0}}
    how["batch_size"] = 32
    found = measured(worker(), "quick", RECORD)
    assert found == fitted(CELL, recipe=recipe, **how)
    assert found["samples"] == 100


def test_the_noise_is_normalised_as_the_images(worker, monkeypatch):
    seen = []
    monkeypatch.setattr(work, "noise_fit", lambda *a, **settings: seen.append(settings) or FIT)
    own = worker()
    data, _ = own._settings(RECORD)
    data.setup()
    own.noise(RECORD, "uniform", "quick", "file.json")
    assert seen[0]["normalisation"] == data.normalisation


@pytest.mark.parametrize("control", ["random", "all_skip"])
def test_every_network_of_cells_may_have_as_many_parameters(control, worker):
    """And no number of channels comes nearer."""
    own = worker(control, parameters=3000, controls={control: None})
    found = own.cell(None)
    form = {"num_classes": 10, "in_channels": 1, "num_cells": 3, "stem": "small"}
    cell, channels = dn.Genotype.from_dict(found["genotype"]), found["model"]["channels"]
    counts = [
        sum(p.numel() for p in dn.create_model(cell, channels=width, **form).parameters())
        for width in (channels - 1, channels, channels + 1)
    ]
    assert abs(counts[1] - 3000) == min(abs(count - 3000) for count in counts)
    assert own.training(found)["parameters"] == counts[1]


def test_the_cells_with_batch_norm_are_those_of_the_search(worker):
    own = worker("batch_norm_0.5", controls={"batch_norm": None})
    bounded = replace(CELL, macro={"gain": "bounded", "reduction": "average"})
    found = own.cell({"genotype": bounded.to_dict(), "model": {}})
    assert dn.Genotype.from_dict(found["genotype"]) == replace(CELL, macro={"reduction": "average"})
    assert dn.Genotype.from_dict(own.cell(RECORD)["genotype"]) == CELL  # which has it already


def test_a_given_cell_is_the_one_that_is_named(worker, tmp_path):
    cells = [random_cell(get_space("noise", 1), seed) for seed in (0, 1)]
    files = [str(tmp_path / f"{number}.json") for number in (0, 1)]
    for file, cell in zip(files, cells, strict=True):
        cell.to_json(file)
    given = {"mine": files, "same": files[0], "v2": "DARTS_V2"}
    for key, seed, expected in (
        ("cell_mine", 1, cells[1]),
        ("cell_same", 2, cells[0]),
        ("cell_v2", 0, dn.load_genotype("darts_v2")),
    ):
        found = worker(key, seed, cells=given, seeds=3).cell(None)["genotype"]
        assert dn.Genotype.from_dict(found) == expected


@pytest.mark.parametrize(
    ("control", "weight_decay"), [("alexnet", 0.02), ("pooled_cnn", 0.0), ("resnet18", 0.0)]
)
def test_a_control_keeps_its_weight_decay_where_it_has_one(
    control, weight_decay, worker, monkeypatch
):
    asked = {}

    def noise_fit(network, images, **how):
        asked.update(how)
        return dn.NoiseFit("converged", "uniform", 1, 1, 0.1, 20, 2, 0, "", 1.0)

    monkeypatch.setattr(work, "noise_fit", noise_fit)
    own = {"model": {"weight_decay": weight_decay}} if weight_decay else {}
    measured(worker(control, controls={control: own}), "converged")
    assert asked["grid"].weight_decay == weight_decay
    assert asked["grid"].enough == (0.99 if control == "resnet18" else 1.0)
    assert asked["controls"] == {}
