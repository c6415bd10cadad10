"""The trainings of a grid: each once, with valid values."""

from itertools import product

import pytest

import darts_noise as dn


def test_the_default_has_three_optimisers_two_scales_and_three_seeds():
    runs = list(dn.NoiseGrid())
    assert len(set(runs)) == len(runs) == len(dn.NoiseGrid()) == 42
    assert {(run.optimiser, run.initial_scale, run.seed) for run in runs} == set(
        product(("sgd", "adam", "muon"), (1, 4), range(3))
    )
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert {run.initial_scale for run in runs[:7]} == {1}  # the usual weights come first


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"sgd_rates": (0.1, 0.1)}, "sgd_rates"),
        ({"adam_rates": (-0.1,)}, "adam_rates"),
        ({"adam_rates": (float("nan"),)}, "adam_rates"),
        (
            {"sgd_rates": (), "adam_rates": (), "muon_rates": ()},
            "sgd_rates, adam_rates, muon_rates",
        ),
        ({"seeds": 0}, "seeds"),
        ({"scales": ()}, "scales"),
        ({"scales": (1, 1)}, "scales"),
        ({"scales": (0,)}, "scales"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"gradient_clip": float("inf")}, "gradient_clip"),
        ({"enough": 0.0}, "enough"),
        ({"enough": 1.1}, "enough"),
    ],
)
def test_values_out_of_bounds_are_refused(settings, key):
    with pytest.raises(ValueError, match=f"^{key}: expected .*got"):
        dn.NoiseGrid(**settings)
