"""The tangent kernel and the cost of labels against explicit least squares."""

import pytest
import torch
import torch.nn.functional as F

from darts_noise.noise.penalties import make_penalty
from darts_noise.noise.penalties.gram import fitting_cost, relative_ease, tangent_kernel

IMAGES = torch.randn(6, 1, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 0, 1, 1])


def linear(weights, images):
    """f = W x + b, with three classes."""
    return F.linear(images.flatten(1), *weights)


def start():
    generator = torch.Generator().manual_seed(1)
    shapes = ((3, 12), (3,))
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


def test_the_kernel_of_a_linear_network_is_that_of_its_inputs():
    """∂(Σ_c f_c / √C)/∂W is x / √C for each of the C classes, and 1 / √C for each bias."""
    x = IMAGES.flatten(1)
    torch.testing.assert_close(tangent_kernel(linear, start(), IMAGES), x @ x.T + 1)


def test_the_kernel_is_the_product_of_the_jacobian_with_itself():
    def network(weights, images):
        return torch.tanh(linear(weights[:2], images)) @ weights[2]

    weights = [*start(), torch.randn(3, 5, dtype=torch.float64)]
    jacobian = torch.func.jacrev(lambda w: network(w, IMAGES).sum(1) / 5**0.5)(weights)
    rows = torch.cat([j.flatten(1) for j in jacobian], 1)
    torch.testing.assert_close(tangent_kernel(network, weights, IMAGES), rows @ rows.T)


def test_a_weight_that_the_network_does_not_use_changes_nothing():
    with_more = [*start(), torch.ones(7, dtype=torch.float64)]
    found = tangent_kernel(lambda w, x: linear(w[:2], x), with_more, IMAGES)
    torch.testing.assert_close(found, tangent_kernel(linear, start(), IMAGES))


def test_the_cost_is_the_squared_length_of_the_shortest_step_that_fits_the_labels():
    features = torch.cat([IMAGES.flatten(1), torch.ones(6, 1, dtype=torch.float64)], 1)
    y = F.one_hot(LABELS).double()
    y = y - y.mean(0)
    shortest = torch.linalg.lstsq(features, y, driver="gelsd").solution
    expected = shortest.square().sum() / y.square().sum()
    found = fitting_cost(features @ features.T, LABELS, jitter=1e-10)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("jitter", [1e-9, 0.5])
def test_labels_along_a_weak_direction_cost_more(jitter):
    """1 / (k + ε tr(K) / B) if all labels lie along an eigenvector of eigenvalue k."""
    labels = torch.tensor([0, 1, 0, 1])
    directions = torch.tensor([[1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1], [1, 1, 1, 1]]) / 2.0
    for k in (4.0, 0.1):
        kernel = directions.T @ torch.diag(torch.tensor([k, 1.0, 1.0, 1.0])) @ directions
        expected = 1 / (k + jitter * (k + 3) / 4)
        assert fitting_cost(kernel, labels, jitter).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("labels", [[0, 1, 0, 1], [2, 2, 2, 2]])
def test_a_network_that_sees_nothing_finds_data_as_hard_as_noise(labels):
    nothing = torch.zeros(4, 4)
    cost = fitting_cost(nothing, torch.tensor(labels), 1e-3)
    assert torch.isfinite(cost)
    expected = 0.5 if len(set(labels)) > 1 else 0.0
    assert relative_ease(cost, cost).item() == pytest.approx(expected, abs=1e-3)


def test_labels_that_are_all_the_same_cost_nothing():
    assert fitting_cost(torch.eye(4), torch.tensor([1, 1, 1, 1]), 1e-3) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 1}, "penalty.gram.samples: expected at least 2, got 1"),
        (
            {"jitter": 0.0},
            "penalty.gram.jitter: expected more than 0 and at most 1, got 0.0",
        ),
        ({"jitter": "small"}, "penalty.gram.jitter: expected a finite number, got 'small'"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_penalty({"gram": settings})
