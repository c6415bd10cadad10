"""The means, flags and the table of given results."""

import statistics
from dataclasses import replace

import numpy
import pytest
from studies import SEARCH, small

from darts_noise.study.results import (
    figures_of,
    fits_of,
    front_of,
    hypervolume,
    hypervolumes,
    positive_control,
    proposals_of,
    records_of,
    slow_learners,
    summary_of,
    table,
)
from darts_noise.study.settings import Sample
from darts_noise.study.units import compared_networks


def fit(accuracy):
    return {"accuracy": accuracy, "accuracy_largest": accuracy, "chance": 0.1}


def trained(accuracy, diverged=False):
    return {"test_accuracy": accuracy, "parameters": 1000, "diverged": diverged}


CONFIG = small(
    seeds=3,
    controls={"resnet18": {"seeds": 2, "test": False}},
    sample=Sample(4, {"noise_weight": [1.0]}),
)
FOUND = {
    "lambda_1/0/cell": {"genotype": {}},
    "lambda_1/0/test": trained(0.9),
    "lambda_1/0/converged/uniform": fit(0.3),
    "lambda_1/1/test": trained(0.8),
    "lambda_1/1/converged/uniform": fit(0.5),
    "lambda_1/2/test": trained(0.1, diverged=True),
    "lambda_1/0/converged/gaussian": fit(0.4),
    "lambda_1/0/quick/uniform": fit(0.12),
    "lambda_0/0/cell": {"genotype": {}},
    "resnet18/0/converged/uniform": fit(1.0),
    "resnet18/1/converged/uniform": fit(0.985),
    "resnet18/0/converged/gaussian": fit(0.99),
}


def records(found=FOUND):
    return records_of(CONFIG, found)


def test_a_record_holds_all_that_is_known_of_a_network_and_seed():
    found = records()
    pairs = {(record["network"], record["seed"]) for record in found}
    assert pairs == {(key.split("/")[0], int(key.split("/")[1])) for key in FOUND}
    first = found[0]
    assert first["converged"] == {"uniform": fit(0.3), "gaussian": fit(0.4)}
    assert first["quick"] == {"uniform": fit(0.12)}
    assert figures_of(first, fits_of(CONFIG)) == {
        "seed": 0,
        "parameters": 1000,
        "test_accuracy": 0.9,
        "converged/uniform": 0.3,
        "converged/gaussian": 0.4,
        "quick/uniform": 0.12,
    }


def test_a_summary_has_mean_deviation_and_n_and_every_seed():
    network = next(n for n in compared_networks(CONFIG) if n.key == "lambda_1")
    found = summary_of(network, records(), fits_of(CONFIG))
    assert found["test_accuracy"] == {
        "mean": pytest.approx(0.85),
        "sd": pytest.approx(statistics.stdev([0.9, 0.8])),
        "n": 2,
    }
    assert found["converged/gaussian"] == {"mean": 0.4, "sd": None, "n": 1}
    assert [seed["seed"] for seed in found["seeds"]] == [0, 1, 2]
    assert found["seeds"][2]["test_accuracy"] is None  # it diverged


def test_the_positive_control_reaches_99_per_cent_with_every_seed_or_is_flagged():
    control = positive_control(CONFIG, records())
    assert control["uniform"]["seeds"] == {"0": 1.0, "1": 0.985}
    assert not control["uniform"]["reached"]
    assert control["gaussian"]["reached"]


def test_the_hypervolume_is_the_share_of_random_points_that_are_worse():
    random = numpy.random.default_rng(0)
    for count in (1, 2, 5):
        points = random.random((count, 2))
        test, noise = random.random((2, 200_000, 1))
        worse = ((test < points[:, 0]) & (noise > points[:, 1])).any(axis=1)
        assert hypervolume(map(tuple, points)) == pytest.approx(worse.mean(), abs=0.005)
    assert hypervolume([]) == hypervolume([(0.9, 1.0)]) == 0


def test_strategies_have_their_cost_and_the_hypervolume_of_each_seed():
    search = replace(SEARCH, model=replace(SEARCH.model, candidates=2))
    config = small(
        seeds=3, noise_weights=[0.5, 2], search=search, strategies={"nas": None}, controls={}
    )
    figures = {  # (network, seed) → test accuracy, noise accuracy
        ("lambda_0.5", 0): (0.9, 0.6),
        ("lambda_2", 0): (0.5, 0.2),
        ("lambda_0.5", 1): (0.8, 0.5),
        ("lambda_2", 1): (0.4, 0.6),  # worse in both
        ("lambda_0.5", 2): (1.0, 0.0),  # λ = 2 is missing
        ("strategy_nas_0.5", 0): (0.9, 0.9),
        ("strategy_nas_2", 0): (None, 0.1),  # diverged
    }
    found = {}
    for (key, seed), (test, noise) in figures.items():
        found[f"{key}/{seed}/cell"] = {"genotype": {}, "objective": 0.5, "gradient_steps": 1500}
        found[f"{key}/{seed}/test"] = trained(test or 0.1, diverged=test is None)
        found[f"{key}/{seed}/converged/uniform"] = fit(noise)
    made = records_of(config, found)
    summaries = [summary_of(n, made, fits_of(config)) for n in compared_networks(config)]
    volumes = hypervolumes(config, summaries)
    areas = 0.9 * 0.4 + 0.5 * 0.4, 0.8 * 0.5
    assert volumes["darts"]["mean"] == pytest.approx(sum(areas) / 2)
    half = 12.7062 * (areas[0] - areas[1]) / 2  # Student's t of two values
    mean = sum(areas) / 2
    assert volumes["darts"]["interval"] == pytest.approx([mean - half, mean + half], rel=1e-4)
    assert volumes["nas"] == {"mean": pytest.approx(0.9 * 0.1), "interval": None, "n": 1}
    text = table(
        config,
        {
            "networks": summaries,
            "positive_control": {},
            "proposals": [],
            "hypervolume": volumes,
        },
    )
    assert "| darts | 2 | 0.4800 | -0.5365 to 1.4965 |" in text
    assert "| 0.5000 ± 0.0000 | 1,500 ± 0 |" in text
    assert "The budget of nas is the number of the darts search" in text


def test_the_front_has_the_networks_that_none_is_better_than():
    model = replace(SEARCH.model, candidates=2, objectives={"latency": {"weight": 0}})
    search = replace(SEARCH, model=model)
    names = {name: {"strategy": "darts"} for name in ("a", "b", "c", "d")}
    config = small(noise_weights=[1], search=search, strategies=names, controls={}, seeds=2)
    figures = {  # multiply-adds, test accuracy of each seed
        "lambda_1": (900, 0.9, 0.8),
        "strategy_a_1": (500, 0.9, 0.7),
        "strategy_b_1": (500, 0.7, 0.7),  # worse than a in one, and equal in the other
        "strategy_c_1": (950, 0.8, 0.85),  # worse than the first in both
        "strategy_d_1": (200, 0.5, None),  # a seed that diverged
    }
    found = {}
    for key, (count, *accuracies) in figures.items():
        for seed, accuracy in enumerate(accuracies):
            result = trained(accuracy, diverged=accuracy is None)
            found[f"{key}/{seed}/test"] = {**result, "multiply_adds": count}
            found[f"{key}/{seed}/cell"] = {"objective_values": {"latency": accuracy or 9.0}}
    for first, expected in (
        ("test_accuracy", ["d, λ = 1", "a, λ = 1", "darts, λ = 1"]),
        ("objectives/latency", ["b, λ = 1", "d, λ = 1"]),
    ):
        config = replace(config, front=(first, "multiply_adds"))
        made = records_of(config, found)
        summaries = [
            summary_of(network, made, fits_of(config), config.front)
            for network in compared_networks(config)
        ]
        assert list(front_of(config, summaries)) == expected
    text = table(
        replace(config, front=("test_accuracy", "multiply_adds")),
        {"networks": [], "positive_control": {}, "proposals": [], "front": {"x": [0.5, 20]}},
    )
    assert "| x | 50.00 | 20 |" in text


def test_noise_that_a_slow_network_does_not_fit_proves_nothing():
    slow = {**fit(0.15), "real_accuracy": 0.847, "real_reached": False}
    weight = max(CONFIG.noise_weights)
    keys = [f"lambda_{weight:g}/{seed}/converged/uniform" for seed in (0, 1)]
    made = records(dict(zip(keys, (slow, fit(0.2)), strict=True)))
    [only] = slow_learners(made)
    assert (only["seed"], only["accuracy"], only["real_accuracy"]) == (0, 0.15, 0.847)
    summaries = [summary_of(n, made, fits_of(CONFIG)) for n in compared_networks(CONFIG)]
    networks = [summary for summary in summaries if summary["seeds"]]
    result = {"networks": networks, "positive_control": {}, "proposals": [], "slow": [only]}
    line = f"- λ = {weight:g}, seed 0: 15.00% of uniform proves nothing, because"
    assert line in table(CONFIG, result)


def shown(found, proposals=()):
    made = records(found)
    summaries = [
        summary_of(network, made, fits_of(CONFIG)) for network in compared_networks(CONFIG)
    ]
    return table(
        CONFIG,
        {
            "networks": [s for s in summaries if s["seeds"]],
            "positive_control": positive_control(CONFIG, made),
            "proposals": proposals,
        },
    )


def test_the_table_shows_what_is_there_and_flags_what_is_weak():
    text = shown(FOUND)
    rows = {line.split(" | ")[0][2:]: line for line in text.splitlines() if line[:2] == "| "}
    assert "85.00 ± 7.07 (n = 2) | 40.00 ± 14.14 (n = 2) | 40.00 (n = 1)" in rows["λ = 1"]
    assert rows["λ = 0"].count("|  |") >= 1
    weak = [line for line in text.splitlines() if "too weak" in line]
    assert len(weak) == 1
    assert "uniform" in weak[0]
    assert "98.50%" in weak[0]
    assert "gaussian: no positive control yet" in shown({"lambda_0/0/cell": {"genotype": {}}})


def test_a_proposal_is_there_once_it_is_whole():
    found = {
        "sample/1/cell": {"genotype": {"a": 1}},
        "sample/1/validation": {"validation_accuracy": 0.9, "diverged": False, "parameters": 10},
        "sample/1/converged/uniform": fit(0.5),
        "sample/2/cell": {"genotype": {}},
        "sample/2/validation": {"validation_accuracy": 0.1, "diverged": True, "parameters": 10},
        "sample/2/converged/uniform": fit(None),
        "sample/3/cell": {"genotype": {}},
        "sample/3/converged/uniform": fit(0.5),
    }
    proposed = {number: {"noise_weight": 1.0} for number in range(4)}
    first, second = proposals_of(CONFIG, found, proposed)
    assert (first["number"], first["genotype"]) == (1, {"a": 1})
    assert (first["validation_accuracy"], first["noise_accuracy"]) == (0.9, 0.5)
    assert (second["validation_accuracy"], second["noise_accuracy"]) == (None, None)
    text = shown(found, [{**first, "best": True}, {**second, "best": False}])
    assert "| 1 | 1 | 10 | 90.00% | 50.00% | yes |" in text
    assert "| 2 | 1 | 10 | diverged | diverged |  |" in text
