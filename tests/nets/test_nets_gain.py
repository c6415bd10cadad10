"""Networks of bounded gain: no weights give a layer, a cell or a network a gain above 1."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import darts_noise as dn
from darts_noise.nets.gain import MaxMin, almost_orthogonal, bound_gain, weight_of
from darts_noise.nets.macro_layers import weighing
from darts_noise.nets.mixed.textbook import MixedCell
from darts_noise.nets.plan import CellPlan
from darts_noise.report.measured import count_multiply_adds
from darts_noise.space.macro import MACRO
from darts_noise.space.operations import get_operation
from darts_noise.space.operations.pooling import BlurPool
from darts_noise.space.spaces import Space, get_space
from darts_noise.train.loop import scale_weights

SINGLE = {"gain": ("bounded",), "reduction": ("average",)}
BOUNDED = {"gain": "bounded", "reduction": "average"}


def genotype(**macro):
    """Every kind of operation, nodes that read nodes, and two states in the output."""
    normal = [[["conv_5x5", 0], ["max_pool_3x3", 1]], [["sep_conv_3x3", 2], ["blur_pool_3x3", 0]]]
    reduce = [[["dil_conv_3x3", 0], ["skip_connect", 1]], [["conv_7x1_1x7", 2], ["conv_1x1", 1]]]
    return dn.Genotype(normal, [2, 3], reduce, [2, 3], macro={**BOUNDED, **macro})


@pytest.mark.parametrize(
    "layer",
    [
        nn.InstanceNorm2d(3),
        nn.GELU(),
        nn.Upsample(scale_factor=2),
        nn.LocalResponseNorm(2),
        nn.Embedding(2, 3),
        nn.LeakyReLU(3.0),
        nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"),
    ],
)
def test_a_layer_whose_bound_is_not_known_is_refused(layer):
    with pytest.raises(ValueError, match=f"no bound is known for {type(layer).__name__}"):
        bound_gain(nn.Sequential(nn.Conv2d(3, 3, 1), layer))


def randomised(module, scale=1.0):
    """Give a module's weights and biases random values of any size."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    return module.double()


def gain(module, *shape):
    """The largest singular value of the Jacobian at a random point, the gain in its region."""
    x = torch.randn(1, *shape, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: module(x).flatten(), x)
    return float(torch.linalg.matrix_norm(jacobian.flatten(1), 2))


@pytest.mark.parametrize(
    ("kernel", "groups", "settings"),
    [
        ((6, 4, 3, 3), 1, {}),
        ((4, 6, 5, 5), 1, {"stride": 2}),
        ((6, 1, 3, 3), 6, {"dilation": 2}),
        ((8, 2, 1, 3), 4, {}),
    ],
)
def test_a_convolution_has_a_gain_of_at_most_1_for_all_weights(kernel, groups, settings):
    """Against the exact norm of its matrix; and not far below, where the weights allow it."""
    out, inputs, *size = kernel
    padding = [side // 2 * settings.get("dilation", 1) for side in size]
    layer = nn.Conv2d(
        inputs * groups, out, size, padding=padding, groups=groups, bias=False, **settings
    )
    bound_gain(layer)
    for scale in (0.01, 1.0, 100.0):
        assert 0.2 < gain(randomised(layer, scale), inputs * groups, 7, 6) <= 1 + 1e-9


def test_the_scale_of_a_kernel_has_no_effect_and_a_channel_of_zeros_stays_zero():
    weight = torch.randn(5, 4, 3, 3, dtype=torch.float64)
    scales = torch.tensor([1e-4, 1.0, 4.0, 1e4], dtype=torch.float64)[None, :, None, None]
    torch.testing.assert_close(almost_orthogonal(4 * weight), almost_orthogonal(weight))
    weight[:, 2] = 0
    weight.requires_grad_()
    bounded = almost_orthogonal(weight * scales)
    assert not bounded[:, 2].any()
    bounded.sum().backward()
    assert weight.grad.isfinite().all()


def test_a_linear_layer_is_only_made_smaller_and_starts_at_zero():
    layer = nn.Linear(6, 4)
    bound_gain(layer)
    assert not layer.weight.any()
    assert gain(randomised(layer, 10.0), 6) <= 1 + 1e-9
    small = 1e-3 * torch.randn(4, 6, dtype=torch.float64)
    torch.testing.assert_close(almost_orthogonal(small, least=1.0), small)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", dn.list_operations())
def test_every_operation_has_a_gain_of_at_most_1(name, stride):
    operation = nn.Sequential(get_operation(name).build(4, stride, True))
    bound_gain(operation)
    for side in (1, 2, 3, 6):  # borders are a large part of a small map
        assert gain(randomised(operation, 3.0), 4, side, side) <= 1 + 1e-9


def test_selu_keeps_its_form_with_a_largest_slope_of_1():
    layer, x = nn.Sequential(nn.SELU()), torch.linspace(-4, 4, 801, dtype=torch.float64)
    before = layer(x)
    bound_gain(layer)
    slopes = layer(x).diff() / x.diff()
    assert 0.99 < slopes.max() <= 1
    torch.testing.assert_close(layer(x) * before[-1], layer(x[-1:]) * before)


def test_pairs_of_channels_are_sorted_and_an_odd_channel_stays():
    x = torch.randn(3, 5, 2, 2)
    y = MaxMin()(x)
    assert (y[:, :2] >= y[:, 2:4]).all()
    torch.testing.assert_close(y.sort(1).values, x.sort(1).values)
    assert (y[:, 4] == x[:, 4]).all()
    for channels in (4, 5):  # pools are slow if the gradient has another format than the map
        x = torch.randn(3, channels, 2, 3, requires_grad=True)
        z = x.contiguous(memory_format=torch.channels_last)
        (gradient,) = torch.autograd.grad(MaxMin()(z).square().sum(), z)
        assert gradient.is_contiguous(memory_format=torch.channels_last)
    blur = BlurPool(2, 1)
    assert blur(torch.ones(1, 2, 4, 4)).min() == 1  # a free one mirrors the border


@pytest.mark.parametrize(
    "macro",
    [
        {},
        {"input_filter": "blur_5x5", "pooling": "average_2"},
        {"colour": "chroma", "contrast": "centred", "filters": "haar", "features": 16},
        {"colour": "luma", "filters": "gabor", "features": 64, "positions": 2},
        {"positions": 4},
    ],
)
def test_a_network_has_a_gain_of_at_most_its_logit_scale(macro):
    """Whatever its weights are; the mean over the last map only reduces it."""
    network = dn.create_model(
        genotype(logit_scale=64.0, **macro), channels=4, num_cells=4, in_channels=3, stem="small"
    )
    assert gain(network.double(), 3, 9, 9) == 0  # the last layer starts at zero
    for scale in (0.1, 1.0, 10.0):
        assert 0 < gain(randomised(network, scale), 3, 9, 9) <= 64 * (1 + 1e-9)


def test_the_linear_map_of_the_features_has_a_gain_of_at_most_1():
    """Alone: the gain of the cells in front of it would hide a larger one."""
    sizes = {"channels": 4, "num_cells": 3, "in_channels": 1, "stem": "small"}
    network = dn.create_model(genotype(features=16), **sizes)
    space = Space("read", ("skip_connect",), 1, macro={**SINGLE, "features": (16.0,)})
    for layer in (network.projection, dn.SuperNet(space, **sizes).projection.terms[0]):
        assert gain(randomised(layer, 10.0), layer.in_channels, 2, 2) <= 1 + 1e-9


def test_averages_and_the_concatenation_reach_the_bound_and_do_not_exceed_it():
    """All paths carry the same state, so a plain sum or concatenation would exceed the bound."""
    nodes = [[["skip_connect", 0], ["skip_connect", 1]], [["skip_connect", 0], ["skip_connect", 2]]]
    cell = dn.Cell(dn.Genotype(nodes, [2, 3], nodes, [2, 3], macro=BOUNDED), 4, 4).double()
    space = Space("skips", ("skip_connect", "blur_pool_3x3"), 2, macro={"gain": ("bounded",)})
    mixed = MixedCell(space, CellPlan(4, 4, 4, False, False)).double()
    for module in (cell, mixed):
        for step in module.preprocess:
            for layer in (layer for layer in step if isinstance(layer, nn.Conv2d)):
                with torch.no_grad():
                    weight_of(layer).copy_(torch.eye(4)[:, :, None, None])
    only_skips = torch.tensor([[1.0, 0.0]] * 5)
    for function in (cell, lambda x: mixed(x, x, only_skips)):
        assert gain(function, 4, 5, 5) == pytest.approx(1, rel=1e-6)


def test_a_mixed_input_filter_counts_zeros_at_the_border():
    images = torch.ones(1, 1, 5, 5)
    space = Space("blurs", ("skip_connect",), 1, macro={**SINGLE, "input_filter": ("blur_5x5",)})
    net = dn.SuperNet(space, channels=4, num_cells=3, in_channels=1, stem="small")
    with weighing(net, {"input_filter": torch.ones(1, 1)}):
        blurred = net.input_filter(images)
        assert gain(net.input_filter.double(), 1, 5, 5) <= 1 + 1e-9
    assert blurred[0, 0, 2, 2] == 1
    assert blurred[0, 0, 0, 0] < 0.5


def test_a_new_network_loses_no_gain_in_its_convolutions():
    """A chain of convolutions with delta-orthogonal weights keeps a constant image's norm."""
    chain = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(8))).double()
    bound_gain(chain)
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(chain(x).norm(), x.norm(), rtol=1e-5, atol=0)  # of float32


def test_the_initial_scale_has_no_effect():
    """The attack by larger initial weights (`scale_weights`) changes nothing that is computed."""
    network = dn.create_model(genotype(), channels=4, num_cells=3, in_channels=1, stem="small")
    with torch.no_grad():
        weight_of(network.classifier).normal_()
    x = torch.randn(2, 1, 8, 8)
    before = network(x)
    scale_weights(network, 4.0)
    torch.testing.assert_close(network(x), before, rtol=1e-4, atol=1e-5)


READ = {name: MACRO[name] for name in ("colour", "filters", "positions", "features")}


@pytest.mark.parametrize("macro", [{}, {**READ, "contrast": ("none", "centred")}])
def test_a_supernet_has_a_gain_of_at_most_its_scale_and_its_alpha_have_the_right_gradient(macro):
    torch.manual_seed(0)
    space = get_space("bounded")
    space = replace(space, nodes=2, macro={**dict(space.macro), **macro})
    sizes = {"channels": 4, "num_cells": 3, "in_channels": 3, "stem": "small"}
    net, arch = dn.SuperNet(space, **sizes).double(), dn.Architecture(space).double()
    randomised(net)
    for row in arch.parameters():
        nn.init.normal_(row)
    weights = arch()
    scale = float((weights["logit_scale"][0].detach() @ net.log_scales).exp())
    assert 0 < gain(lambda x: net(x, weights), 3, 8, 8) <= scale * (1 + 1e-9)

    x, labels = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.arange(4)

    def loss():
        return nn.functional.cross_entropy(net(x, arch()), labels)

    loss().backward()
    for row in (row for row in arch.parameters() if row.shape[1] > 1):
        direction, step = torch.randn_like(row), 1e-6
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                row.add_(sign * step * direction)
                values.append(float(loss()))
                row.sub_(sign * step * direction)
        slope = (values[0] - values[1]) / (2 * step)
        assert float((row.grad * direction).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_a_layer_without_a_known_bound_is_refused():
    with pytest.raises(ValueError, match="ConvTranspose2d"):
        bound_gain(nn.Sequential(nn.ConvTranspose2d(2, 2, 3)))
    with pytest.raises(ValueError, match="Conv2d"):
        bound_gain(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")))


def test_a_bundle_keeps_a_bounded_network_and_its_count_is_that_of_the_plain_weights(tmp_path):
    sizes = {"channels": 4, "num_cells": 3, "in_channels": 1, "stem": "small"}
    cell = genotype(logit_scale=256.0)
    network = randomised(dn.create_model(cell, **sizes)).float().eval()
    x = torch.randn(2, 1, 8, 8)
    loaded = dn.load_pretrained(dn.save_pretrained(network, tmp_path / "bundle"))
    assert torch.equal(loaded(x), network(x))
    count = count_multiply_adds(network, (1, 8, 8))
    for module in network.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    assert count == count_multiply_adds(network, (1, 8, 8))


def test_a_supernet_cannot_mix_what_all_operations_share():
    space = replace(get_space("bounded"), macro={"gain": ("free", "bounded")})
    with pytest.raises(ValueError, match=r"macro\.gain"):
        dn.SuperNet(space, channels=4, num_cells=3)
