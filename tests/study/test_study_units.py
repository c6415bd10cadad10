"""The units of a study and their order."""

from dataclasses import replace

from studies import SEARCH, small

from darts_noise.study.settings import Sample
from darts_noise.study.units import units_of

CONTROLS = {
    "random": None,
    "matched": None,
    "batch_norm": None,
    "all_skip": None,
    "regularised": None,
    "resnet18": {"seeds": 1, "test": False},
    "alexnet": {"seeds": 1},
    "pooled_cnn": None,
}
SAMPLE = Sample(2, {"noise_weight": [1.0]})


def units(**changes):
    changes = {"seeds": 2, "noise_weights": [0, 0.5, 2], "controls": CONTROLS, **changes}
    return units_of(small(**changes))


def keys(**changes):
    return [unit.key for unit in units(**changes)]


def test_what_tells_most_comes_first():
    found = keys()
    of_seed = [f"{name}/0" for name in ("lambda_0.5", "lambda_2", "lambda_0", "pooled_cnn")]
    seen = list(dict.fromkeys("/".join(key.split("/")[:2]) for key in found))
    assert seen[:8] == [*of_seed, *(key.replace("/0", "/1") for key in of_seed)]
    assert found[:4] == [
        "lambda_0.5/0/cell",
        "lambda_0.5/0/test",
        "lambda_0.5/0/converged/uniform",
        "lambda_2/0/cell",
    ]
    after = found[found.index("resnet18/0/converged/uniform") :]
    claim = ["lambda_0.5/0", "lambda_2/0", "lambda_0.5/1", "lambda_2/1"]
    assert after[1:5] == [f"{key}/quick/uniform" for key in claim]
    assert all(key.endswith("/converged/gaussian") for key in after[5:13])
    others = [i for i, key in enumerate(found) if "/quick/" in key][4:]
    assert others == list(range(len(found) - len(others), len(found)))
    assert [key for key in keys(sample=SAMPLE) if key not in found] == keys(sample=SAMPLE)[-6:]


def test_every_network_seed_and_family_is_there_once():
    found = keys()
    assert len(set(found)) == len(found)
    networks = ["lambda_0", "lambda_0.5", "lambda_2", "matched_0.5", "matched_2", "all_skip"]
    networks += ["batch_norm_0.5", "batch_norm_2", "regularised", "pooled_cnn"]
    pairs = [f"{name}/{seed}" for name in networks for seed in (0, 1)]
    pairs += [f"random/{seed}" for seed in range(8)] + ["alexnet/0"]
    assert {key for key in found if key.endswith("/test")} == {f"{pair}/test" for pair in pairs}
    for family in ("uniform", "gaussian"):
        measured = {key for key in found if key.endswith(f"/converged/{family}")}
        assert measured == {f"{pair}/converged/{family}" for pair in [*pairs, "resnet18/0"]}
    assert {key for key in found if "/quick/" in key} == {f"{pair}/quick/uniform" for pair in pairs}
    without = {key for key in found if key.endswith("/cell")}
    assert without == {f"{p}/cell" for p in pairs if p[:6] not in ("pooled", "alexne")}
    assert not [key for key in keys(quick=None) if "/quick/" in key]


def test_what_a_unit_needs_comes_before_it():
    found = units(sample=SAMPLE)
    order = {unit.key: i for i, unit in enumerate(found)}
    needing = {unit.key: unit.needs for unit in found if unit.needs is not None}
    for key, needs in needing.items():
        assert order[needs] < order[key]
        assert needs.endswith("/cell")
    assert needing["regularised/1/cell"] == "lambda_0/1/cell"
    assert needing["matched_2/0/cell"] == "lambda_2/0/cell"
    assert needing["batch_norm_0.5/1/cell"] == "lambda_0.5/1/cell"
    assert needing["random/3/converged/gaussian"] == "random/3/cell"
    assert needing["sample/1/validation"] == "sample/1/cell"
    assert not {"lambda_0/0/cell", "alexnet/0/test", "sample/0/cell"} & needing.keys()


def test_a_strategy_searches_with_the_steps_of_the_search_of_its_seed_and_weight():
    search = replace(SEARCH, model=replace(SEARCH.model, candidates=2))
    own = {"random": None, "mine": {"strategy": "nas", "strategy_steps": 9, "nodes": 2}}
    found = units(search=search, controls={}, strategies=own)
    needing = {unit.key: unit.needs for unit in found}
    order = list(needing)
    for weight in ("0", "0.5", "2"):
        needed = f"lambda_{weight}/1/cell"
        assert needing[f"strategy_random_{weight}/1/cell"] == needed
        assert order.index(needed) < order.index(f"strategy_random_{weight}/1/cell")
        assert needing[f"strategy_mine_{weight}/1/cell"] is None
    assert needing["strategy_mine_2/1/test"] == "strategy_mine_2/1/cell"
    titles = {unit.network.title for unit in found}
    assert {"darts, λ = 2", "random, λ = 2", "mine, λ = 2"} <= titles
    assert keys(controls={}) == [key for key in order if not key.startswith("strategy_")]


def test_more_seeds_add_units_and_change_none():
    fewer, more = keys(seeds=2), keys(seeds=3)
    assert set(fewer) < set(more)


def test_a_list_of_cells_has_one_for_each_seed_and_one_cell_has_those_of_the_searches():
    found = keys(controls={}, seeds=3, cells={"mine": ["a.json", "b.json"], "v2": "darts_v2"})
    assert [key for key in found if key.startswith("cell_mine") and key.endswith("/cell")] == [
        "cell_mine/0/cell",
        "cell_mine/1/cell",
    ]
    assert len([key for key in found if key.startswith("cell_v2") and key.endswith("/test")]) == 3
