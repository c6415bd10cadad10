"""Correlations of input gradients, against the closed forms of wide networks."""

import math

import pytest
import torch
from examined import subject
from torch import Tensor, nn

import darts_noise as dn
from darts_noise.data.seeds import generator
from darts_noise.examine.input_gradients import (
    InputGradientsSection,
    by_distance,
    correlation_by_layer,
    expected_correlation,
    gradient_correlation,
    input_gradients,
    segment,
)
from darts_noise.examine.section import Pieces


class Layer(nn.Module):
    """One layer of `rectifier_network`: (N, width) → (N, width).

    Plain: W ReLU(x). With a skip connection: (x + β W ReLU(x)) / √(1 + β²), which keeps the
    variance. W has He's initial weights.

    Args:
        width: neurons.
        beta: β, the scale of the layer beside its skip connection. None: no skip connection.
        batch_norm: give the input of the rectifier mean 0 and variance 1 over the points. These
            statistics are constants for the gradients, so that a point has its own gradient.
    """

    def __init__(self, width: int, beta: float | None, batch_norm: bool) -> None:
        super().__init__()
        self.beta, self.batch_norm = beta, batch_norm
        self.linear = nn.Linear(width, width, bias=False)
        nn.init.normal_(self.linear.weight, std=math.sqrt(2 / width))

    def forward(self, x: Tensor) -> Tensor:
        seen = x.detach()
        normed = (x - seen.mean(0)) / seen.std(0) if self.batch_norm else x
        out: Tensor = self.linear(normed.relu())
        if self.beta is None:
            return out
        return (x + self.beta * out) / math.sqrt(1 + self.beta**2)


def rectifier_network(
    inputs: int, depth: int, width: int, beta: float | None = None, batch_norm: bool = False
) -> nn.Sequential:
    """Return the network of Balduzzi et al. 2017.

    It is a linear layer (N, inputs) → (N, width), then `Layer` × depth.

    Args:
        inputs: numbers in an input.
        depth: L, number of layers with a rectifier.
        width: neurons of each layer.
        beta: β of the layers. None: no skip connections.
        batch_norm: give the input of each rectifier mean 0 and variance 1 over the points.
    """
    first = nn.Linear(inputs, width, bias=False)
    nn.init.normal_(first.weight, std=math.sqrt(1 / inputs))
    return nn.Sequential(first, *(Layer(width, beta, batch_norm) for _ in range(depth)))


def correlations(net, points, depth):
    """Correlations after each layer with a rectifier, by its number from 1."""
    names = [str(layer) for layer in range(1, depth + 1)]
    return [*correlation_by_layer(net, names, points, generator(0)).values()]


def pair(angle, size=200):
    """Two points at an angle."""
    points = torch.zeros(2, size)
    points[0, 0] = 1
    points[1, 0], points[1, 1] = math.cos(angle), math.sin(angle)
    return points


def test_the_gradients_are_those_of_each_point_alone():
    torch.manual_seed(0)
    net, points = rectifier_network(3, 2, 5), torch.randn(4, 3, requires_grad=True)
    directions = torch.randn(2, 5)
    found = input_gradients(net(points), points, directions)
    for n in range(4):
        jacobian = torch.autograd.functional.jacobian(net, points[n : n + 1])[0, :, 0]
        torch.testing.assert_close(found[:, n], directions @ jacobian)
    flat = found.transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(
        gradient_correlation(found),
        nn.functional.cosine_similarity(flat[:, None], flat[None], dim=2),
    )


def test_a_linear_network_has_correlation_1():
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Linear(8, 20), nn.Linear(20, 20), nn.Linear(20, 3))
    points = segment(torch.randn(8), torch.randn(8), 5)
    found = correlation_by_layer(linear, ["0", "1", "2"], points, generator(0))
    for correlation in found.values():
        torch.testing.assert_close(correlation, torch.ones(5, 5, dtype=torch.float64))
        assert by_distance(correlation) == pytest.approx((1,) * 5)


@pytest.mark.parametrize("beta", [None, 1.0])
@pytest.mark.parametrize("angle", [0.5, math.pi / 2])
def test_a_wide_network_has_the_correlation_of_its_closed_form(angle, beta):
    torch.manual_seed(1)
    net = rectifier_network(200, 6, 1000, beta)
    found = [float(c[0, 1]) for c in correlations(net, pair(angle), 6)]
    expected = [expected_correlation(angle, depth, beta) for depth in range(1, 7)]
    assert found == pytest.approx(expected, abs=0.06)


def test_the_correlation_of_unrelated_points_halves_with_each_layer():
    """2⁻ᴸ to within 0.02, the mean over all pairs, with batch norm as in the paper."""
    torch.manual_seed(2)
    points = torch.randn(40, 200, generator=generator(3))
    net = rectifier_network(200, 5, 600, batch_norm=True)
    for depth, correlation in enumerate(correlations(net, points, 5), 1):
        mean = float(correlation[~torch.eye(40, dtype=torch.bool)].mean())
        assert mean == pytest.approx(2**-depth, abs=0.02)


def test_nearer_points_have_more_related_gradients():
    torch.manual_seed(3)
    points = segment(*torch.randn(2, 10, generator=generator(1)), 9)
    torch.testing.assert_close(points[4], (points[0] + points[8]) / 2)
    lags = by_distance(correlations(rectifier_network(10, 4, 500), points, 4)[-1])
    assert lags[0] == pytest.approx(1)
    assert list(lags) == sorted(lags, reverse=True)


def test_the_section_reads_each_layer_of_a_network_of_cells_that_depends_on_the_images():
    """A bounded network starts with a classifier of zeros, which has no gradient."""
    nodes = [[["conv_3x3", 0]]]

    def cells(**macro):
        cell = dn.Genotype(nodes, [2], nodes, [2], macro=macro)
        size = {"num_classes": 4, "in_channels": 1, "channels": 4, "num_cells": 3}
        return lambda: dn.create_model(cell, **size, stem="small")

    section = InputGradientsSection(lines=2, points=4, draws=2)
    layers = {}
    for gain in ("free", "bounded"):
        found = section.measure(subject(cells(gain=gain)), Pieces())
        assert all(lags[0] == pytest.approx(1) for lags in found.lags)
        assert len(section.figures(found)) == 2
        assert len(section.tables(found)[0].rows) == len(found.layers)
        assert f"correlation of {found.neighbours[-1]:.2f}" in section.sentence(found)
        layers[gain] = found.layers
    assert {"cells.0", "cells.1", "cells.2", "classifier"} <= {*layers["free"]}
    assert {*layers["free"]} - {*layers["bounded"]} == {"classifier"}
