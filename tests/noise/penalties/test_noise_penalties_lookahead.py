"""The loss that one step removes, for cases with a closed form."""

import math

import pytest
import torch

from darts_noise.noise.penalties import make_penalty
from darts_noise.noise.penalties.lookahead import removed_by_a_step

CHANCE = math.log(10)


def removed(start, curvature, learning_rate, floor=0.0):
    """On L(v) = floor + ½ k v², one step leads to v (1 − η k)."""
    v = torch.tensor([start], dtype=torch.float64)
    k = torch.tensor(curvature, dtype=torch.float64, requires_grad=True)

    def loss(weights):
        return floor + 0.5 * (k * weights[0].square()).sum()

    penalty = removed_by_a_step(loss, [v], learning_rate, 10)
    return penalty, torch.autograd.grad(penalty, k)[0]


def test_on_a_quadratic_loss_it_is_what_the_step_removes():
    penalty, slope = removed(1.5, 0.8, 0.3)
    before, after = 0.5 * 0.8 * 1.5**2, 0.5 * 0.8 * (1.5 * (1 - 0.3 * 0.8)) ** 2
    assert penalty.item() == pytest.approx((before - after) / CHANCE)
    # d/dk [½ k v² (1 − (1 − ηk)²)] = v² η k (2 − 3/2 η k): through the step as well
    assert slope.item() == pytest.approx(1.5**2 * 0.3 * 0.8 * (2 - 1.5 * 0.3 * 0.8) / CHANCE)


def test_what_lies_above_a_guess_does_not_count():
    floor = 5.0  # above log 10 before and after
    penalty, slope = removed(1.5, 0.8, 0.3, floor)
    assert (penalty.item(), slope.item()) == (0.0, 0.0)
    crossing, _ = removed(3.0, 1.0, 0.5)  # from 4.5, which is above a guess, to 1.125
    assert crossing.item() == pytest.approx((CHANCE - 1.125) / CHANCE)


def test_a_step_uphill_and_a_twin_that_is_done_are_zero_and_flat():
    for penalty, slope in (removed(1.0, 1.0, 2.5), removed(0.0, 1.0, 0.3)):
        assert (penalty.item(), slope.item()) == (0.0, 0.0)


def test_the_rate_is_checked():
    with pytest.raises(ValueError, match=r"penalty.lookahead.learning_rate: expected more"):
        make_penalty({"lookahead": {"learning_rate": 0}})
