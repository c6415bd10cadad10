"""The penalty: bounded, zero at chance, and pulling towards a larger loss on noise."""

import math

import pytest
import torch

from darts_noise.noise.penalties import make_penalty
from darts_noise.noise.penalties.penalty import noise_fit_penalty
from darts_noise.noise.penalties.twin import FLOOR, log_noise_fit_penalty


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_it_is_the_gap_to_chance_as_a_share(classes):
    chance = math.log(classes)
    for share in (0.0, 0.25, 0.5, 1.0, 3.0):
        loss = torch.tensor(share * chance, dtype=torch.float64)
        assert noise_fit_penalty(loss, classes).item() == pytest.approx(max(0.0, 1 - share))


def test_gradient_is_minus_one_over_log_c_below_chance_and_zero_above():
    for start, expected in ((1.0, -1 / math.log(10)), (2.5, 0.0)):
        loss = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        noise_fit_penalty(loss, 10).backward()
        assert loss.grad.item() == pytest.approx(expected)


def test_the_logarithmic_form_is_zero_at_a_guess_and_finite_at_a_perfect_fit():
    assert log_noise_fit_penalty(torch.tensor(math.log(10)), 10).item() == pytest.approx(
        0, abs=1e-6
    )
    assert log_noise_fit_penalty(torch.tensor(5.0), 10) == 0
    perfect = log_noise_fit_penalty(torch.tensor(0.0), 10).item()
    assert perfect == pytest.approx(-math.log(FLOOR), rel=1e-4)


def test_the_logarithmic_form_counts_every_halving_of_the_loss_alike_until_its_floor():
    def halving(share):
        losses = torch.tensor([share / 2, share], dtype=torch.float64) * math.log(10)
        low, high = log_noise_fit_penalty(losses, 10)
        return (low - high).item()

    for share in (1.0, 0.5, 0.1, 0.05):
        assert halving(share) == pytest.approx(math.log(2), rel=0.03)
    assert halving(FLOOR / 10) < 0.1


def test_the_logarithmic_form_has_a_bounded_slope_and_none_above_a_guess():
    slopes = []
    for start in (0.0, 1e-3, 1.0, 2.5):
        loss = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        log_noise_fit_penalty(loss, 10).backward()
        slopes.append(loss.grad.item())
    assert slopes == sorted(slopes)
    assert slopes[0] == pytest.approx(-(1 - FLOOR) / FLOOR / math.log(10))
    assert slopes[-1] == 0


def test_the_form_is_the_functions():
    loss = torch.tensor(1.3)
    assert make_penalty("twin").of_loss(loss, 7) == noise_fit_penalty(loss, 7)
    assert make_penalty({"twin": {"form": "gap"}}).of_loss(loss, 7) == noise_fit_penalty(loss, 7)
    assert make_penalty({"twin": {"form": "log"}}).of_loss(loss, 7) == log_noise_fit_penalty(
        loss, 7
    )
