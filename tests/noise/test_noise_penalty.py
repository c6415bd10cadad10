"""The penalty: bounded, zero at chance, and pulling towards a larger loss on noise."""

import math

import pytest
import torch

from darts_noise.noise import noise_fit_penalty


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
