"""The trainings of a measurement: each once, and values that make sense."""

import pytest

import darts_noise as dn


def test_the_default_is_two_optimisers_three_rates_each_and_three_seeds():
    runs = list(dn.NoiseGrid())
    assert len(set(runs)) == len(runs) == len(dn.NoiseGrid()) == 18
    assert {(o, s) for o, _, s in runs} == {(o, s) for o in ("sgd", "adam") for s in range(3)}
    assert [seed for _, _, seed in runs] == sorted(seed for _, _, seed in runs)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"sgd_rates": (0.1, 0.1)}, "sgd_rates"),
        ({"adam_rates": (-0.1,)}, "adam_rates"),
        ({"adam_rates": (float("nan"),)}, "adam_rates"),
        ({"sgd_rates": (), "adam_rates": ()}, "sgd_rates, adam_rates"),
        ({"seeds": 0}, "seeds"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"gradient_clip": float("inf")}, "gradient_clip"),
        ({"enough": 0.0}, "enough"),
        ({"enough": 1.1}, "enough"),
    ],
)
def test_values_out_of_bounds_are_refused(settings, key):
    with pytest.raises(ValueError, match=f"^{key}: expected .*got"):
        dn.NoiseGrid(**settings)
