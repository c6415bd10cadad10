"""``selectivity``: steps to half of the noise divided by steps to half of the data, or a bound."""

import pytest
from noise_networks import ONE_RATE, blind, few_digits, linear, measure, wide

import darts_noise as dn
from darts_noise.train.selectivity import steps_ratio


def run(data, steps, reached=True, diverged=False):
    return dn.NoiseRun(
        "network",
        data,
        "sgd",
        0.1,
        0,
        accuracy=None if diverged else 0.5,
        epochs=1,
        steps=steps,
        reached=steps if reached else None,
        diverged=diverged,
    )


def noise(*args, **settings):
    return run("noise", *args, **settings)


def real(*args, **settings):
    return run("real", *args, **settings)


def test_the_fewest_steps_of_each_are_compared():
    assert steps_ratio([noise(90), noise(60)], [real(5), real(4)], 100) == (15.0, False)


def test_where_noise_is_not_learnt_a_whole_run_gives_a_bound():
    """Also if the network sees one image in all noise images, and so stops after one step."""
    for steps in (100, 1):
        stuck = [noise(steps, reached=False), noise(900, reached=False, diverged=True)]
        assert steps_ratio(stuck, [real(4)], 100) == (25.0, True)


def test_runs_that_diverged_are_no_evidence_that_noise_cannot_be_learnt():
    assert steps_ratio([noise(9, reached=False, diverged=True)], [real(4)], 100) == (None, False)


def test_where_the_data_are_not_learnt_there_is_no_figure():
    assert steps_ratio([noise(100)], [real(100, reached=False)], 100) == (None, False)


def test_noise_takes_longer_than_data_and_relabelled_data_as_long():
    """The second control: what is learnt as the data are has a selectivity of one."""
    settings = {"protocol": "selectivity", "samples": 200, "epochs": 60}
    uniform = measure(wide, **settings)
    relabelled = measure(wide, family="label_permutation", **settings)
    assert uniform.selectivity > 2
    assert relabelled.selectivity == pytest.approx(1, abs=0.3)
    assert uniform.steps[0] / uniform.steps[1] == uniform.selectivity
    assert uniform.shown_selectivity == f"{uniform.selectivity:.3g}"
    assert not uniform.is_bound
    assert all(r.accuracy >= 0.55 for r in uniform.runs)
    assert [r.data for r in uniform.runs] == ["noise", "real"]


def test_a_bound_is_shown_as_one():
    short = measure(linear, protocol="selectivity", samples=200, epochs=1)
    assert short.is_bound
    assert short.steps[0] is None
    assert short.shown_selectivity == f"> {10 / short.steps[1]:.3g}"  # an epoch of 10 steps
    whole = measure(linear, protocol="selectivity", samples=200, epochs=3)
    assert whole.shown_selectivity == f"> {30 / whole.steps[1]:.3g}"
    none = measure(blind, protocol="selectivity", samples=60, epochs=2)
    assert (none.selectivity, none.shown_selectivity) == (None, None)


def test_as_many_real_images_are_needed():
    with pytest.raises(ValueError, match="samples: expected at most the 50 real images"):
        measure(wide, few_digits(50), protocol="selectivity", samples=51)


def test_controls_have_no_place_in_it():
    with pytest.raises(ValueError, match="controls: expected none with the protocol 'selectivity'"):
        measure(wide, protocol="selectivity", controls={"wide": wide}, grid=ONE_RATE)
