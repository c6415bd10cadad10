"""The kernel of a two-layer network, tangent kernels, and the trainings that they predict."""

import math
from dataclasses import replace

import pytest
import torch
from examined import subject
from torch import nn
from torch.func import functional_call, jacrev

import darts_noise as dn
from darts_noise.data.seeds import generator
from darts_noise.examine import label_complexity as module
from darts_noise.examine.label_complexity import (
    TANGENT,
    TWO_LAYER,
    Contrast,
    LabelComplexitySection,
    TwoLayer,
    label_complexity,
    measured_losses,
    predicted_losses,
    relu_kernel,
    stable_rate,
    tangent_kernel,
    unit_inputs,
)
from darts_noise.examine.section import Pieces

DOUBLE = torch.float64


def points(n, size=5, seed=0):
    return unit_inputs(torch.randn(n, size, generator=generator(seed)))


def test_the_closed_form_is_the_mean_over_random_weights():
    """Monte Carlo with 200,000 draws: six standard errors are 0.007 at most."""
    x = points(6)
    active = (torch.randn(200_000, 5, generator=generator(1), dtype=DOUBLE) @ x.T >= 0).double()
    sampled = x @ x.T * (active.T @ active) / len(active)
    torch.testing.assert_close(relu_kernel(x), sampled, atol=0.007, rtol=0)


def test_the_tangent_kernel_of_a_wide_two_layer_network_is_near_the_closed_form():
    x = points(6)
    found = tangent_kernel(TwoLayer(5, 20_000, generator(2)), x)
    torch.testing.assert_close(found, relu_kernel(x), atol=0.02, rtol=0)


def test_a_tangent_kernel_is_the_product_of_jacobians_in_any_number_of_parts(monkeypatch):
    torch.manual_seed(0)
    nodes = [[["conv_3x3", 0]]]
    cell = dn.Genotype(nodes, [2], nodes, [2], macro={"gain": "bounded"})
    net = dn.create_model(cell, num_classes=3, in_channels=1, channels=4, num_cells=3, stem="small")
    net.classifier.parametrizations.weight.original.data.normal_()
    function, images = Contrast(net, (2, 0)), torch.randn(5, 1, 6, 6, dtype=DOUBLE)
    logits = net.double().eval()(images)
    torch.testing.assert_close(function(images), logits[:, 2] - logits[:, 0])
    weights = {name: p.detach() for name, p in function.named_parameters()}
    jacobian = jacrev(lambda w: functional_call(function, w, (images,)))(weights)
    J = torch.cat([part.flatten(1) for part in jacobian.values()], 1)
    for gradients in (2**25, 2 * 2 * J.shape[1], 1):
        monkeypatch.setattr(module, "_GRADIENTS", gradients)
        torch.testing.assert_close(tangent_kernel(function, images), J @ J.T)


def test_a_linear_network_follows_its_prediction_exactly():
    """It has the same tangent kernel everywhere."""
    linear = nn.Sequential(nn.Linear(5, 1, dtype=DOUBLE), nn.Flatten(0))
    x, y = points(8), torch.tensor([1.0, -1.0] * 4, dtype=DOUBLE)
    kernel = tangent_kernel(linear, x)
    torch.testing.assert_close(kernel, x @ x.T + 1)
    rate = stable_rate(kernel)
    measured = measured_losses(linear, x, y, rate, 30)
    assert measured == pytest.approx(predicted_losses(kernel, y, rate, 30))
    assert measured[0] == 4
    assert label_complexity(kernel, y) == math.inf  # 8 labels, 6 weights


def test_a_wide_two_layer_network_follows_the_closed_form():
    """The loss is within 1% of the first one, for labels along a direction and random ones."""
    x = points(20, 10)
    kernel = relu_kernel(x)
    rate = stable_rate(kernel)
    easy, random = x[:, 0].sign(), 2.0 * torch.randint(2, (20,), generator=generator(3)) - 1
    net = TwoLayer(10, 10_000, generator(4))
    for labels in (easy, random):
        predicted = predicted_losses(kernel, labels, rate, 60)
        measured = measured_losses(net, x, labels, rate, 60)
        assert measured == pytest.approx(predicted, abs=0.1)
        assert measured[-1] < 0.7 * measured[0] == pytest.approx(7)
    assert predicted_losses(kernel, easy, rate, 60)[-1] < predicted[-1]
    assert label_complexity(kernel, easy) < label_complexity(kernel, random)


def test_equal_images_with_different_labels_cannot_be_fitted():
    x = points(4)[[0, 1, 2, 2]]
    assert label_complexity(relu_kernel(x), torch.tensor([1, 1, 1, -1])) == math.inf
    same = label_complexity(relu_kernel(x), torch.tensor([1, 1, 1, 1]))
    assert same < 10


def test_an_image_without_any_pixel_has_no_direction():
    with pytest.raises(ValueError, match="expected no image whose normalised pixels are all 0"):
        unit_inputs(torch.zeros(2, 1, 3, 3))


def test_the_section_finds_random_labels_more_complex_and_predicts_the_trainings():
    section = LabelComplexitySection(classes=(3, 1), samples=24, width=2000, epochs=20)
    found = section.measure(subject(), Pieces())
    assert found.classes == ("3", "1")
    for kernel in (TWO_LAYER, TANGENT):
        fits = found.of(kernel)
        assert [fit.random_share for fit in fits] == [0, 0.5, 1]
        assert fits[0].complexity < fits[-1].complexity
        assert fits[0].measured[-1] < fits[-1].measured[-1]
        assert fits[0].measured[0] == 12
    assert max(fit.error for fit in found.of(TWO_LAYER)) < 0.05
    assert "times as complex" in section.sentence(found)
    endless = replace(found, fits=tuple(replace(fit, complexity=math.inf) for fit in found.fits))
    assert "impossible to fit for the tangent kernel" in section.sentence(endless)
    assert section.tables(endless)[0].rows[0][2] == "∞"
    assert len(section.figures(found)) == 3
    assert len(section.tables(found)[0].rows) == 6
    with pytest.raises(ValueError, match="classes: expected 0 to 3, got 7"):
        LabelComplexitySection(classes=(0, 7)).measure(subject(), Pieces())
