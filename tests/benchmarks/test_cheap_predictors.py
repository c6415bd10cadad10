"""Cheap predictors: each has the property that its paper states; ranks are those of all cells."""

import math

import pytest
import torch
from torch import nn

import darts_noise as dn
from benchmarks import cheap_predictors as cheap
from benchmarks.cheap_predictors import gradient_norm, naswot, ntk_condition, synflow
from benchmarks.noise_fit_by_choice import Measurement, Sizes
from darts_noise.search.table import MeasuredCell


def chain(layers: int) -> nn.Sequential:
    torch.manual_seed(0)
    parts: list[nn.Module] = [nn.Flatten(), nn.Linear(12, 8, bias=False)]
    for _ in range(layers - 1):
        parts += [nn.ReLU(), nn.Linear(8, 8, bias=False)]
    return nn.Sequential(*parts)


def test_naswot_is_the_determinant_of_the_counted_agreements() -> None:
    net, images = chain(3), torch.randn(5, 3, 2, 2)
    codes = []
    x = images
    for layer in net:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            codes.append(x > 0)
    code = torch.cat(codes, 1)
    agree = torch.tensor([[float((a == b).sum()) for b in code] for a in code])
    assert naswot(net, images) == pytest.approx(float(torch.logdet(agree)), rel=1e-4)
    assert naswot(net, 3 * images) == pytest.approx(naswot(net, images))  # no biases
    assert naswot(net, images[[0, 1, 1]]) < -30  # the same image twice
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_synflow_is_conserved_from_layer_to_layer(layers: int) -> None:
    """In a homogeneous chain, the weights of each layer have the saliency R together."""
    net = chain(layers)
    x = torch.ones(1, 12, dtype=torch.float64)
    for layer in net:
        if isinstance(layer, nn.Linear):
            x = x @ layer.weight.detach().double().abs().T
    before = [weight.clone() for weight in net.parameters()]
    assert synflow(net, (3, 2, 2)) == pytest.approx(layers * float(x.sum()))
    assert all(map(torch.equal, before, net.parameters()))


def test_the_gradient_norm_is_the_steepest_slope() -> None:
    net, images = chain(2).double(), torch.randn(6, 3, 2, 2, dtype=torch.float64)
    labels = torch.arange(6)
    loss = nn.functional.cross_entropy(net(images), labels)
    gradient = torch.autograd.grad(loss, list(net.parameters()))
    norm, step = gradient_norm(net, images, labels), 1e-5
    with torch.no_grad():
        for weight, part in zip(net.parameters(), gradient, strict=True):
            weight += step * part / norm
    slope = (nn.functional.cross_entropy(net(images), labels) - loss).detach() / step
    assert float(slope) == pytest.approx(norm, rel=1e-3)


def test_the_condition_of_a_linear_network_is_that_of_its_images() -> None:
    """f(x) = Σ (W x + b) has the tangent kernel K · (XXᵀ + 1) for K logits."""
    images = torch.randn(4, 6, dtype=torch.float64)
    net = nn.Linear(6, 3).double()
    kernel = images @ images.T + 1
    expected = -math.log(float(torch.linalg.cond(kernel)))
    assert ntk_condition(net, images) == pytest.approx(expected)
    assert ntk_condition(net, images[[0, 1, 1]]) == -math.inf


def test_shared_weights_rank_a_cell_that_learns_above_one_that_cannot() -> None:
    measurement = Measurement(Sizes(samples=64, channels=4, num_cells=3, validation_fraction=0.9))
    macro = {"normalisation": "batch"}

    def cell(operation: str) -> dn.Genotype:
        edges = [[(operation, 0), (operation, 1)]]
        return dn.Genotype(edges, [2], edges, [2], macro=macro)

    cells = [cell("conv_3x3"), cell("avg_pool_3x3")]
    learns, cannot = cheap.inherited(measurement, cells, {"validation": 1, "uniform": 50})
    assert learns["shared, uniform"] > cannot["shared, uniform"] + 0.15
    assert 0 < learns["shared, validation"] < 1


def test_a_cell_has_every_figure_and_a_faster_fit_is_a_larger_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cheap, "IMAGES", 4)
    measurement = Measurement(Sizes(samples=64, channels=2, num_cells=3, validation_fraction=0.9))
    cell = [[("conv_3x3", 0), ("skip_connect", 1)]]
    figures = {"parameters": 9.0, "loss_1": 2.0, "uniform_3": 0.4}
    figures |= {"test": 0.9, "uniform": 1.0, "random_labels": 0.5}
    rows = [
        MeasuredCell(dn.Genotype(cell, [2], cell, [2], macro={"normalisation": norm}), f, steps)
        for norm, f, steps in [
            ("none", figures, 50),
            ("batch", {**figures, "uniform": 0.992, "loss_1": 1.0}, 40),
            ("layer", {**figures, "uniform": 0.5, "loss_1": 3.0}, 90),
        ]
    ]
    shared = {"shared, validation": 0.5, "shared, uniform": -1.0}
    found = [cheap.predictors(measurement, row, shared) for row in rows]
    assert all(math.isfinite(value) for of in found for value in of.values())
    assert {"synflow", "naswot, uniform", "ntk_condition, real", *shared, "loss_1"} <= found[
        0
    ].keys()
    again = cheap.predictors(measurement, rows[0], shared)
    assert again == found[0]
    wanted = [cheap.targets(row, 0.99) for row in rows]
    ranks = cheap.correlations(found, wanted)
    assert ranks["uniform"]["loss_1"] == {"rho": 1.0, "tau": 1.0}
    assert ranks["test"]["loss_1"] == {"rho": None, "tau": None}
