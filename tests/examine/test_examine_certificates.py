"""Certificates: no change of an image below its radius changes the class of the network."""

import math

import pytest
import torch
from torch import nn

import darts_noise as dn
from darts_noise.attacks.pixels import OnPixels
from darts_noise.data.images import Normalisation
from darts_noise.examine.certificates import (
    _mean_gains,
    certified_radii,
    feature_gain,
    require_bounded,
)
from darts_noise.nets.gain import weight_of
from darts_noise.nets.macro_layers import Parts, Shift, average
from darts_noise.reading import evaluating
from darts_noise.space.operations import registry

RGB = Normalisation((0.4, 0.5, 0.6), (0.3, 0.2, 0.25))
NORMAL = [[["conv_5x5", 0], ["max_pool_3x3", 1]], [["skip_connect", 2], ["blur_pool_3x3", 0]]]
REDUCE = [[["dil_conv_3x3", 0], ["skip_connect", 1]], [["sep_conv_3x3", 2], ["avg_pool_3x3", 1]]]
SKIPS = [[["skip_connect", 0], ["skip_connect", 1]], [["skip_connect", 0], ["skip_connect", 2]]]


def network(normal=NORMAL, reduce=REDUCE, channels=4, stem="small", **macro):
    """A network of bounded gain with random weights."""
    macro = {"gain": "bounded", "reduction": "average", **macro}
    genotype = dn.Genotype(normal, [2, 3], reduce, [2, 3], macro=macro)
    net = dn.create_model(genotype, num_classes=3, channels=channels, num_cells=3, stem=stem)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return net.eval()


def transparent(**macro):
    """A network that only averages: its convolutions copy channels, and its biases are 0."""
    net = network(SKIPS, SKIPS, channels=3, **macro)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, Shift):
                layer.bias.zero_()
            if isinstance(layer, nn.Conv2d):
                weight = weight_of(layer).zero_()
                for out in range(len(weight)):
                    centre = [side // 2 for side in weight.shape[2:]]
                    weight[(out, out % weight.shape[1], *centre)] = 1
    return net


def jacobian(net, pixels, normalisation=RGB):
    """The matrix of the classifier's inputs by the pixels, at one image: a row for each copy."""
    copies = pixels.repeat(net.head_hidden_size, 1, 1, 1).requires_grad_()
    features = net.forward_head(net.forward_features(normalisation(255 * copies)), pre_logits=True)
    return torch.autograd.grad(features.trace(), copies)[0].flatten(1)


def measured_gain(net, pixels):
    return float(torch.linalg.matrix_norm(jacobian(net, pixels), 2))


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        ((8, 8), {}),
        ((9, 7), {"reduction": "strided"}),
        ((9, 7), {"positions": 2, "pooling": "average_2", "filters": "haar"}),
        ((12, 9), {"stem": "imagenet", "features": 16, "pooling": "average_2"}),
        ((6, 5), {"colour": "tinted", "input_filter": "blur_3x3"}),
        ((5, 5), {"contrast": "standardised", "positions": 4}),
    ],
)
def test_no_image_and_no_weights_exceed_the_gain(size, settings):
    torch.manual_seed(0)
    net = network(channels=2, **settings)
    bound = feature_gain(net, RGB, torch.rand(1, 3, *size))
    grey = torch.full((1, 3, *size), 0.5) + 1e-3 * torch.randn(1, 3, *size)
    for pixels in (torch.rand(1, 3, *size), grey):
        assert 0 < measured_gain(net, pixels) <= bound * (1 + 1e-4)


@pytest.mark.parametrize(
    ("size", "settings"),
    [((8, 8), {}), ((8, 16), {"pooling": "average_2"}), ((16, 16), {"positions": 2})],
)
def test_a_network_that_only_averages_reaches_its_gain_and_its_radius(size, settings):
    """So neither can be stated larger: a step of 1.01 radii changes the class."""
    torch.manual_seed(0)
    net = transparent(**settings, logit_scale=64.0)
    pixels = torch.tensor([0.2, 0.8, 0.5]).view(1, 3, 1, 1) + 0.01 * torch.rand(1, 3, *size)
    assert measured_gain(net, pixels) == pytest.approx(feature_gain(net, RGB, pixels), rel=1e-3)

    alike = Normalisation(RGB.mean, (0.25,) * 3)  # so that every channel has the largest gain
    of_means = jacobian(net, pixels, alike).unflatten(1, (3, -1)).sum(2)  # (features, 3)
    with torch.no_grad():
        weight_of(net.classifier).copy_(0.1 * torch.randn(3, 3) @ of_means.T)
    on_pixels, radius = OnPixels(net, alike), float(certified_radii(net, alike, pixels))
    pixels.requires_grad_()
    logits = on_pixels(pixels)[0]
    top = int(logits.argmax())
    found = {}
    for share in (0.99, 1.01):
        for other in {0, 1, 2} - {top}:
            step = torch.autograd.grad(logits[other] - logits[top], pixels, retain_graph=True)[0]
            near = pixels + share * radius * step / step.norm()
            found.setdefault(share, set()).add(int(on_pixels(near).argmax()))
    assert found[0.99] == {top} < found[1.01]


@pytest.mark.parametrize("size", [(5, 7), (8, 8), (3, 1)])
@pytest.mark.parametrize(
    "mean", [average(2), average(4), Parts(2), Parts(4), nn.AdaptiveAvgPool2d(1)], ids=str
)
def test_the_gain_of_an_average_is_the_norm_of_its_matrix(mean, size):
    """Also where the windows at the border are smaller."""
    pixels = torch.rand(1, 1, *size)
    matrix = torch.autograd.functional.jacobian(lambda x: mean(x).flatten(), pixels).flatten(1)
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    assert _mean_gains(nn.Sequential(mean), pixels) == {mean: pytest.approx(exact)}


def test_a_radius_is_at_least_the_margin_over_the_largest_gain_of_a_difference():
    torch.manual_seed(0)
    net, pixels = network(logit_scale=16.0), torch.rand(20, 3, 8, 8)
    margins = OnPixels(net, RGB)(pixels).topk(2).values
    least = (margins[:, 0] - margins[:, 1]) / (math.sqrt(2) * 16 * feature_gain(net, RGB, pixels))
    radii = certified_radii(net, RGB, pixels)
    assert (radii >= least * (1 - 1e-6)).all()
    assert radii.dtype == torch.float64
    with torch.no_grad():
        weight_of(net.classifier).zero_()  # the class is that of the biases for every image
    assert certified_radii(net, RGB, pixels).isinf().all()
    with torch.no_grad():
        net.classifier.bias[:2] = net.classifier.bias.max() + 1  # a tie
    assert not certified_radii(net, RGB, pixels).any()


def test_what_cannot_be_certified_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @dn.register_operation("skip")
    def twice(channels, stride, affine):
        return nn.Identity()

    of_plugin = [[["twice", 0], ["skip_connect", 1]], *SKIPS[1:]]
    random = [[["noise", 0], ["skip_connect", 1]], *SKIPS[1:]]
    small = {"channels": 4, "num_cells": 3}
    for net, reason in [
        (nn.Linear(2, 2), "Linear"),
        (dn.create_model("darts_v2", **small), "batch norm"),
        (dn.create_model(network().genotype, num_classes=0, **small), "classifier"),
        (network(of_plugin), "'twice'"),
        (network(random), "'noise'"),
    ]:
        with pytest.raises(dn.SettingError, match=reason):
            require_bounded(net)
    require_bounded(network())


def test_the_modes_of_a_network_are_restored():
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout())).train()
    net[1].eval()
    with evaluating(net):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net.modules()] == [True, True, False, False]
