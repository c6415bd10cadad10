"""Which units a study has, and their order."""

from dataclasses import replace

from small_studies import settings_of, written

from darts_noise.study.units import units_of

CONTROLS = {
    "random": None,
    "matched": None,
    "all_skip": None,
    "regularised": None,
    "resnet18": {"seeds": 1, "test": False},
    "alexnet": {"seeds": 1},
    "pooled_cnn": None,
}


def keys(tmp_path, **changes):
    changes = {"seeds": 2, "noise_weights": [0, 0.5, 2], "controls": CONTROLS, **changes}
    return [unit.key for unit in units_of(settings_of(written(tmp_path, **changes)))]


def test_what_tells_most_comes_first(tmp_path):
    found = keys(tmp_path)
    assert found[:4] == ["lambda_0.5/0", "lambda_2/0", "lambda_0/0", "pooled_cnn/0"]
    assert found[4:8] == ["lambda_0.5/1", "lambda_2/1", "lambda_0/1", "pooled_cnn/1"]
    claim = ["lambda_0.5/0", "lambda_2/0", "lambda_0.5/1", "lambda_2/1"]
    assert found[8] == "resnet18/0/converged/uniform"
    assert found[9:13] == [f"{key}/quick/uniform" for key in claim]
    assert all("/converged/" in key for key in found[13:21])
    others = [i for i, key in enumerate(found) if "/quick/" in key][4:]
    assert others == list(range(len(found) - len(others), len(found)))


def test_every_network_seed_and_family_is_there_once(tmp_path):
    found = keys(tmp_path)
    assert len(set(found)) == len(found)
    networks = ["lambda_0", "lambda_0.5", "lambda_2", "matched_0.5", "matched_2", "all_skip"]
    networks += ["regularised", "pooled_cnn"]
    pairs = [f"{name}/{seed}" for name in networks for seed in (0, 1)]
    pairs += [f"random/{seed}" for seed in range(8)] + ["alexnet/0"]
    assert {key for key in found if key.count("/") == 1} == set(pairs)
    unseen = {key for key in found if key.endswith("/converged/gaussian")}
    assert unseen == {f"{pair}/converged/gaussian" for pair in [*pairs, "resnet18/0"]}
    assert {key for key in found if "/quick/" in key} == {f"{pair}/quick/uniform" for pair in pairs}


def test_what_a_unit_needs_comes_before_it(tmp_path):
    units = units_of(
        settings_of(written(tmp_path, seeds=2, noise_weights=[0, 0.5], controls=CONTROLS))
    )
    order = {unit.key: i for i, unit in enumerate(units)}
    needing = [unit for unit in units if unit.needs is not None]
    assert needing
    for unit in needing:
        assert order[unit.needs] < order[unit.key]
        assert "cell" in units[order[unit.needs]].parts
    assert {u.needs for u in units if u.network.key == "regularised" and u.kind == "network"} == {
        "lambda_0/0",
        "lambda_0/1",
    }


def test_more_seeds_add_units_and_change_none(tmp_path):
    settings = settings_of(written(tmp_path))
    fewer, more = units_of(settings), units_of(replace(settings, seeds=3))
    assert {unit.key for unit in fewer} < {unit.key for unit in more}


def test_no_quick_measurement_where_there_is_none(tmp_path):
    assert not [key for key in keys(tmp_path, quick=None) if "/quick/" in key]
