"""``converged``: the largest accuracy of all trainings, with controls."""

import math
from dataclasses import replace
from itertools import chain, repeat

import pytest
from noise_networks import BreaksAfter, blind, few_digits, linear, measure, wide

import darts_noise as dn

GRID = dn.NoiseGrid(
    sgd_rates=(0.01, 0.1), adam_rates=(1e-4, 3e-3), muon_rates=(), seeds=2, scales=(1,)
)


def on_noise(fit):
    return [run for run in fit.runs if run.data == "noise"]


def test_a_network_that_can_memorises_and_one_that_cannot_stays_at_chance():
    fits = measure(wide)
    cannot = measure(blind)
    assert fits.accuracy == fits.accuracy_largest == 1.0
    assert cannot.accuracy == cannot.chance  # the best constant answer
    assert fits.fingerprint == cannot.fingerprint
    assert (fits.protocol, fits.samples, fits.epochs) == ("converged", 60, 40)


def test_it_is_the_largest_of_one_run_for_each_optimiser_rate_and_seed():
    fit = measure(linear, epochs=3, grid=GRID)
    runs = on_noise(fit)
    made = [(run.optimiser, run.learning_rate, run.initial_scale, run.seed) for run in runs]
    assert sorted(made) == sorted(GRID)
    assert len(set(made)) == len(GRID) == 8
    accuracies = [run.accuracy for run in runs]
    assert fit.accuracy == max(accuracies)
    assert len(set(accuracies)) > 1
    assert fit.seeds == (0, 1)


def test_a_run_ends_with_the_epoch_that_fits_all():
    run = measure(wide).runs[0]
    assert run.accuracy == 1.0
    assert run.epochs < 40
    assert run.reached == run.steps == 3 * run.epochs  # 60 images in batches of 20


def test_with_enough_the_other_runs_are_left_out():
    grid = dn.NoiseGrid(
        sgd_rates=(1e-5, 0.1, 0.03), adam_rates=(), muon_rates=(), seeds=1, scales=(1,), enough=1.0
    )
    assert [run.learning_rate for run in on_noise(measure(wide, grid=grid))] == [1e-5, 0.1]


def test_the_usual_optimiser_of_a_network_comes_first():
    grid = dn.NoiseGrid(sgd_rates=(0.1,), adam_rates=(3e-3,), seeds=1, scales=(1, 2))
    bounded = replace(dn.load_genotype("darts_v2"), macro={"gain": "bounded"})
    sizes = {"channels": 1, "num_cells": 1, "stem": "small", "stem_stride": 4}
    recipe = {**sizes, "auxiliary_weight": 0.0}
    fit = measure(
        bounded, samples=20, grid=grid, epochs=1, controls={"blind": blind}, recipe=recipe
    )
    made = {name: [r.optimiser for r in fit.runs if r.network == name] for name in fit.controls}
    assert [run.optimiser for run in on_noise(fit)][:3] == ["muon", "muon", "sgd"]
    assert made["blind"] == ["sgd", "sgd", "adam", "muon", "adam", "muon"]


def test_a_control_says_whether_the_measurement_was_strong_enough():
    strong = measure(blind, controls={"wide": wide})
    weak = measure(blind, controls={"wide": wide}, epochs=1)
    assert strong.controls["wide"] >= 0.99
    assert strong.control_reached
    assert weak.control_reached is False
    assert measure(blind).control_reached is None
    assert strong.accuracy == strong.chance  # a control's accuracy is not the network's
    assert [run.network for run in on_noise(strong)] == ["network", "wide"]


def test_a_control_stops_at_99_per_cent():
    """The network itself is trained until it answers all right."""
    grid = dn.NoiseGrid(sgd_rates=(0.01, 0.02), adam_rates=(), muon_rates=(), seeds=1, scales=(1,))
    fit = measure(wide, controls={"wide": wide}, samples=200, epochs=60, grid=grid)
    of_network = [run for run in on_noise(fit) if run.network == "network"]
    (of_control,) = [run for run in fit.runs if run.network == "wide"]
    assert [run.accuracy for run in of_network] == [1.0, 1.0]
    assert 0.99 <= of_control.accuracy < 1
    assert of_control.steps < of_network[0].steps


def test_every_initial_scale_is_tried():
    grid = dn.NoiseGrid(sgd_rates=(0.1,), adam_rates=(), muon_rates=(), seeds=1, scales=(1e-3, 1))
    fit = measure(wide, grid=grid, epochs=10)
    small, large = on_noise(fit)
    assert (small.initial_scale, large.initial_scale) == (1e-3, 1)
    assert small.accuracy < 0.5 < large.accuracy == fit.accuracy  # gradients are too small at first


def test_the_same_trainings_on_real_images_say_whether_they_are_strong_enough():
    learns, cannot = measure(wide), measure(blind, epochs=2)
    assert (learns.real_samples, learns.real_reached) == (60, True)
    assert learns.real_accuracy >= 0.9
    assert (cannot.real_reached, cannot.to_dict()["real_reached"]) == (False, False)
    assert cannot.real_accuracy < 0.2
    assert [(run.network, run.data) for run in learns.runs] == [
        ("network", "noise"),
        ("network", "real"),
    ]
    assert measure(linear, epochs=1, protocol="selectivity", controls=None).real_reached is None


def test_real_images_are_first_trained_as_the_noise_that_was_fitted_best():
    """And no more once a training is good enough."""
    grid = dn.NoiseGrid(
        sgd_rates=(1e-5, 1e-4, 0.1), adam_rates=(), muon_rates=(), seeds=1, scales=(1,)
    )
    fit = measure(wide, grid=grid)
    assert [run.learning_rate for run in on_noise(fit)] == [1e-5, 1e-4, 0.1]
    assert [run.learning_rate for run in fit.runs if run.data == "real"] == [0.1]
    all_fail = measure(blind, grid=grid, epochs=2)
    assert len([run for run in all_fail.runs if run.data == "real"]) == 3


def test_there_may_be_more_noise_than_real_images():
    assert measure(linear, few_digits(30), epochs=1).real_samples == 30


def test_where_every_training_on_real_images_diverged_there_is_no_accuracy():
    fit = measure(lambda c, i: BreaksAfter(linear(c, i), 0), epochs=2)
    assert fit.to_dict()["real_accuracy"] is None
    assert fit.real_reached is False


def test_weight_decay_is_part_of_what_is_measured_where_the_grid_says_so():
    decayed = dn.NoiseGrid(
        sgd_rates=(0.1,), adam_rates=(), muon_rates=(), seeds=1, scales=(1,), weight_decay=3.0
    )
    assert measure(linear).accuracy == 1.0
    assert measure(linear, grid=decayed).accuracy < 0.8


def test_runs_that_diverge_are_flagged_and_are_no_evidence():
    # Passes until NaN: for the identity, for each of three runs on noise, for runs on real images.
    made = chain([0, 1000, 7, 0], repeat(1000))

    def network(num_classes, in_channels):
        return BreaksAfter(linear(num_classes, in_channels), next(made))

    grid = dn.NoiseGrid(
        sgd_rates=(0.01, 0.02, 0.03), adam_rates=(), muon_rates=(), seeds=1, scales=(1,)
    )
    fit = measure(network, grid=grid, epochs=5)
    whole, late, at_once = on_noise(fit)
    assert [run.diverged for run in on_noise(fit)] == [False, True, True]
    assert fit.diverged == (late, at_once)
    assert late.accuracy is not None  # after the sixth step, when two epochs were over
    assert at_once.accuracy is None
    assert fit.accuracy == max(whole.accuracy, late.accuracy)
    assert fit.to_dict()["diverged"] == 2


def test_where_every_run_diverged_there_is_no_accuracy():
    fit = measure(lambda c, i: BreaksAfter(linear(c, i), 7), epochs=5)
    assert fit.runs[0].accuracy is not None
    assert math.isnan(fit.accuracy)
    assert fit.to_dict()["accuracy"] is None


def test_cells_are_measured_in_the_form_of_the_recipe():
    form = {"channels": 4, "num_cells": 3, "stem": "small"}
    one = measure("darts_v1", epochs=1, recipe=form)
    assert one == measure("darts_v1", epochs=1, recipe={**form, "mixup": 1.0, "drop_path": 0.5})
    assert one.runs[0].steps == 3


def test_samples_default_to_a_thousand_or_as_many_as_there_are():
    assert measure(linear, samples=None, epochs=1).samples == 200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"controls": {"network": wide}}, "controls: .*'network'"),
        ({"protocol": "convergd"}, "protocol: .*did you mean 'converged'"),
        ({"callbacks": [None]}, "callbacks: expected none with the protocol 'converged'"),
        ({"protocol": "quick"}, "grid: expected none with the protocol 'quick'"),
        ({"epochs": 0}, "epochs: expected a whole number from 1, got 0"),
    ],
)
def test_what_a_protocol_cannot_use_is_refused_in_one_line(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        measure(wide, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("network", [3, lambda c, i: "no module"])
def test_what_is_no_network_is_refused(network):
    with pytest.raises(ValueError, match="network: expected"):
        measure(network)
    with pytest.raises(ValueError, match="network: expected"):
        measure(network, protocol="quick", grid=None, controls=None)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda c, i: wide(c + 1, i), r"network: expected logits \(2, 10\) .*got \(2, 11\)"),
        (lambda c, i: wide(c, i + 1), r"network: cannot take images of \(1, 8, 8\)"),
    ],
)
def test_a_network_that_does_not_suit_the_images_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        measure(network)
