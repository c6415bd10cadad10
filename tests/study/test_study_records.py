"""From the parts of the units to means, flags and the table."""

import statistics

import pytest
from small_studies import settings_of, written

from darts_noise.study.networks import compared_networks
from darts_noise.study.records import (
    figures_of,
    positive_control,
    proposals_of,
    records_of,
    summary_of,
)
from darts_noise.study.table import markdown
from darts_noise.study.units import units_of


def fit(accuracy):
    return {"accuracy": accuracy, "accuracy_largest": accuracy, "chance": 0.1}


def trained(accuracy, diverged=False):
    return {"test_accuracy": accuracy, "parameters": 1000, "diverged": diverged}


@pytest.fixture
def settings(tmp_path):
    controls = {"resnet18": {"seeds": 2, "test": False}}
    sample = {"trials": 4, "settings": {"noise_weight": [1.0]}}
    return settings_of(written(tmp_path, seeds=3, controls=controls, sample=sample))


PARTS = {
    "lambda_1/0": {"cell": {"genotype": {}}, "test": trained(0.9), "noise": fit(0.3)},
    "lambda_1/1": {"cell": {"genotype": {}}, "test": trained(0.8), "noise": fit(0.5)},
    "lambda_1/2": {"cell": {"genotype": {}}, "test": trained(0.1, diverged=True)},
    "lambda_1/0/converged/gaussian": {"noise": fit(0.4)},
    "lambda_1/0/quick/uniform": {"noise": fit(0.12)},
    "lambda_0/0": {"cell": {"genotype": {}}},
    "resnet18/0/converged/uniform": {"noise": fit(1.0)},
    "resnet18/1/converged/uniform": {"noise": fit(0.985)},
    "resnet18/0/converged/gaussian": {"noise": fit(0.99)},
}


def summary(settings, parts=PARTS, key="lambda_1"):
    network = next(n for n in compared_networks(settings) if n.key == key)
    return summary_of(network, records_of(units_of(settings), parts))


def test_a_record_holds_all_that_is_known_of_a_network_and_seed(settings):
    records = records_of(units_of(settings), PARTS)
    pairs = [(record["network"], record["seed"]) for record in records]
    assert set(pairs) == {(key.split("/")[0], int(key.split("/")[1])) for key in PARTS}
    first = records[0]
    assert first["converged"] == {"uniform": fit(0.3), "gaussian": fit(0.4)}
    assert first["quick"] == {"uniform": fit(0.12)}
    assert figures_of(first) == {
        "seed": 0,
        "parameters": 1000,
        "test_accuracy": 0.9,
        "converged/uniform": 0.3,
        "converged/gaussian": 0.4,
        "quick/uniform": 0.12,
    }


def test_a_summary_has_mean_deviation_and_n_and_every_seed(settings):
    found = summary(settings)
    assert found["test_accuracy"] == {
        "mean": pytest.approx(0.85),
        "sd": pytest.approx(statistics.stdev([0.9, 0.8])),
        "n": 2,
    }
    assert found["converged/gaussian"] == {"mean": 0.4, "sd": None, "n": 1}
    assert [seed["seed"] for seed in found["seeds"]] == [0, 1, 2]
    assert found["seeds"][2]["test_accuracy"] is None  # it diverged


def test_the_positive_control_reaches_99_per_cent_with_every_seed_or_is_flagged(settings):
    control = positive_control(settings, records_of(units_of(settings), PARTS))
    assert control["uniform"]["seeds"] == {"0": 1.0, "1": 0.985}
    assert not control["uniform"]["reached"]
    assert control["gaussian"]["reached"]


def table(settings, parts):
    records = records_of(units_of(settings), parts)
    summaries = [summary_of(network, records) for network in compared_networks(settings)]
    return markdown(
        settings,
        {
            "networks": [s for s in summaries if s["seeds"]],
            "positive_control": positive_control(settings, records),
            "proposals": proposals_of(units_of(settings), parts),
        },
    )


def test_the_table_shows_what_is_there_and_flags_what_is_weak(settings):
    text = table(settings, PARTS)
    rows = {line.split(" | ")[0][2:]: line for line in text.splitlines() if line[:2] == "| "}
    assert "85.00 ± 7.07 (n = 2) | 40.00 ± 14.14 (n = 2) | 40.00 (n = 1)" in rows["λ = 1"]
    assert rows["λ = 0"].count("|  |") >= 1
    weak = [line for line in text.splitlines() if "too weak" in line]
    assert len(weak) == 1
    assert "uniform" in weak[0]
    assert "98.50 %" in weak[0]
    assert "gaussian: no positive control yet" in table(
        settings, {"lambda_1/0": PARTS["lambda_0/0"]}
    )


def test_the_best_proposals_are_those_that_no_other_beats(settings):
    measured = [(0.9, 0.5), (0.8, 0.3), (0.85, 0.5), (None, 0.1)]
    parts = {
        f"sample/{number}": {
            "proposal": {"noise_weight": 1.0},
            "cell": {"genotype": {}},
            "validation": {
                "validation_accuracy": validation,
                "diverged": validation is None,
                "parameters": 10,
            },
            "noise": fit(noise),
        }
        for number, (validation, noise) in enumerate(measured)
    }
    found = proposals_of(units_of(settings), parts)
    assert [proposal["best"] for proposal in found] == [True, True, False, False]
    assert table(settings, parts).count("| yes |") == 2
