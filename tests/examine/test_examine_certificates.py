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
from darts_noise.nets.input_filter import Contrast, neighbour_correlation
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
        ((7, 7), {"input_filter": "blur_5x5", "filters": "whitened", "logit_scaling": "learnt"}),
    ],
)
def test_no_image_and_no_weights_exceed_the_gain(size, settings):
    torch.manual_seed(0)
    net = network(channels=2, **settings)
    bound = feature_gain(net, RGB, torch.rand(1, 3, *size))
    assert certified_radii(net, RGB, torch.rand(2, 3, *size)).shape == (2,)
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


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 9)])
def test_the_factor_of_smooth_contrast_is_steady_within_its_radius(shape):
    torch.manual_seed(0)
    step = Contrast("smooth")
    rough = torch.randn(40, *shape, dtype=torch.float64)
    smooth = rough.cumsum(-1).cumsum(-2)  # neighbours are alike
    for images, factor in ((smooth, 1.0), (rough, 0.0)):
        radii = step.steady_radius(images)
        centred = images - images.mean((2, 3), keepdim=True)
        kept = (step(images) == factor * centred).flatten(1).all(1)
        assert (radii[~kept] == 0).all()
        images, centred, radii = images[kept], centred[kept], radii[kept]
        assert len(images) > 20
        # The direction in which the correlation changes fastest, found by its gradient.
        moving = centred.clone().requires_grad_()
        step_to = torch.autograd.grad(neighbour_correlation(moving).sum(), moving)[0]
        for direction in ((1 - 2 * factor) * step_to, torch.randn_like(images)):
            unit = direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            near = centred + 0.999 * radii.view(-1, 1, 1, 1) * unit
            near_centred = near - near.mean((2, 3), keepdim=True)
            torch.testing.assert_close(step(near), factor * near_centred)


def test_the_steady_radius_is_more_than_half_of_the_largest_possible():
    """An image that is a slow wave and moves towards a chessboard, the opposite in correlation."""
    step = Contrast("smooth")
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    wave, checks = (x * math.pi / 8).cos(), (-1.0) ** (x + y)
    a, b = (part.double()[None, None] / part.norm() for part in (wave, checks))
    image = a + 0.2 * b
    radius = float(step.steady_radius(image))
    path = [image + r * (b - 0.2 * a) / 1.04**0.5 for r in torch.linspace(0, 1.2, 400).tolist()]
    changed = [bool((step(p) - (p - p.mean())).abs().max() > 1e-12) for p in path]
    first = 1.2 * changed.index(True) / 399
    assert radius <= first < 2 * radius


def test_without_the_gain_of_contrast_a_radius_ends_where_its_factor_changes():
    """The bias gives a class a margin that no change of a wholly shown image could reach."""
    torch.manual_seed(0)
    net = network(contrast="smooth")
    with torch.no_grad():
        net.classifier.bias[0] += 1e3
    smooth = torch.rand(30, 3, 2, 2).repeat_interleave(6, 2).repeat_interleave(6, 3)
    pixels = smooth + 0.3 * torch.randn(30, 3, 12, 12)
    step = net.input_filter[0]
    steady = step.steady_radius(RGB(255 * pixels).double()) * min(RGB.std)
    assert (steady > 0).any()
    step.gain = 1e9  # so that only the radius without this gain is left
    found = certified_radii(net, RGB, pixels)
    torch.testing.assert_close(found[steady > 0], steady[steady > 0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("colour", ["all", "tinted"])
def test_no_change_below_the_radius_changes_the_class_of_a_network_of_smooth_contrast(colour):
    """With one gain for all images, these radii would be 21 times as small."""
    torch.manual_seed(0)
    net = network(contrast="smooth", colour=colour, channels=4)
    smooth = torch.rand(30, 3, 2, 2).repeat_interleave(6, 2).repeat_interleave(6, 3)
    pixels = torch.cat([0.2 + 0.6 * smooth, torch.rand(10, 3, 12, 12)])
    on_pixels, radii = OnPixels(net, RGB), certified_radii(net, RGB, pixels).float()
    top = on_pixels(pixels).argmax(1)
    least = on_pixels(pixels).topk(2).values.diff(dim=1).abs()[:, 0] / math.sqrt(2)
    assert (radii > 5 * least / feature_gain(net, RGB, pixels)).float().mean() > 0.5
    radii = radii.clamp_max(5.0).view(-1, 1, 1, 1)
    for _ in range(20):
        start = (torch.randn_like(pixels) * 0.01).requires_grad_()
        logits = on_pixels(pixels + start)
        others = logits.scatter(1, top[:, None], -math.inf).amax(1)
        worse = torch.autograd.grad((others - logits.gather(1, top[:, None])[:, 0]).sum(), start)[0]
        for step in (worse, torch.randn_like(pixels)):
            step = step / step.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
            assert (on_pixels(pixels + 0.999 * radii * step).argmax(1) == top).all()


def test_a_learnt_factor_starts_at_the_scale_and_does_not_change_a_radius():
    """With more contrast the margins grow, and so does what a change of the image can do."""
    torch.manual_seed(0)
    net, pixels = network(logit_scale=16.0, logit_scaling="learnt"), torch.rand(20, 3, 8, 8)
    fixed = network(logit_scale=16.0)
    fixed.load_state_dict(net.state_dict(), strict=False)
    with torch.no_grad():
        net.classifier.log_factor.zero_()
        for layer in (net.classifier, fixed.classifier):
            layer.bias.zero_()
    torch.testing.assert_close(net(pixels), fixed(pixels))
    before, radii = net(pixels), certified_radii(net, RGB, pixels)
    torch.testing.assert_close(radii, certified_radii(fixed, RGB, pixels))
    with torch.no_grad():
        net.classifier.log_factor.fill_(math.log(3))
    torch.testing.assert_close(net(pixels), 3 * before)
    torch.testing.assert_close(certified_radii(net, RGB, pixels), radii)
    net(pixels).logsumexp(1).sum().backward()
    assert net.classifier.log_factor.grad != 0


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
