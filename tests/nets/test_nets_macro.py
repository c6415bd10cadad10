"""Macro choices in networks: the layers of a discrete network, and the weights in the supernet."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import darts_noise as dn
from darts_noise.nets.macro_layers import SIGNAL, MixedNorm, Parts, Shift, stem_pooling
from darts_noise.space.macro import FIXED, MACRO
from darts_noise.space.operations.identity import FactorisedReduce
from darts_noise.space.operations.residual import MultiResidual
from darts_noise.space.spaces import Space

OPERATIONS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
SILENT = dn.load_genotype("darts_v2")


def network(**macro):
    return dn.create_model(
        replace(SILENT, macro=macro), channels=8, num_cells=3, in_channels=1, stem="small"
    )


def kinds(net):
    return {type(m) for m in net.modules()}


def test_normalisation_holds_everywhere():
    assert kinds(network(normalisation="batch")) == kinds(network())
    layer, none = kinds(network(normalisation="layer")), kinds(network(normalisation="none"))
    assert nn.GroupNorm in layer
    assert Shift in none
    for found in (layer, none):
        assert not {k for k in found if "BatchNorm" in k.__name__}
    assert nn.GroupNorm not in none


def test_without_norms_an_image_does_not_see_its_batch():
    """The logits of an image are the same alone, in train mode as well."""
    x = torch.randn(4, 1, 16, 16)
    for kind, alone in (("none", True), ("layer", True), ("batch", False)):
        net = network(normalisation=kind).train()
        assert torch.allclose(net(x)[:2], net(x[:2]), atol=1e-5) == alone, kind


@pytest.mark.parametrize("num_cells", [3, 8, 14])
def test_without_norms_a_network_starts_small_at_any_depth(num_cells, monkeypatch):
    """Much less of a signal than where nothing is scaled, and more than on the longest way."""
    genotype, x = replace(SILENT, macro={"normalisation": "none"}), torch.randn(8, 3, 32, 32)

    def left():
        torch.manual_seed(0)
        net = dn.create_model(genotype, channels=16, num_cells=num_cells, stem="small")
        return net.forward_features(x).std().item()

    small = left()
    monkeypatch.setattr("darts_noise.nets.body.start_small", lambda steps, depth: None)
    assert SIGNAL < small / left() < 0.2


@pytest.mark.parametrize("name", ["conv_3x3", "sep_conv_3x3", "dil_conv_3x3", "conv_7x1_1x7"])
def test_every_step_weakens_a_signal_alike(name):
    """One with four convolutions as one with one; else a network of the former never learns."""
    cell = [[(name, 0), (name, 1)]]
    torch.manual_seed(0)
    net = dn.create_model(
        dn.Genotype(cell, [2], cell, [2], macro={"normalisation": "none"}),
        channels=16,
        num_cells=3,
        stem="small",
    )
    alone = dn.Cell(net.genotype, in_channels=16, channels=16)
    choices = zip(net.cells[0].steps()[1:], alone.steps()[1:], strict=True)
    for small, whole in choices:
        small_, whole_ = (
            torch.stack([m.weight.std() for m in step.modules() if isinstance(m, nn.Conv2d)]).prod()
            for step in (small, whole)
        )
        assert (small_ / whole_).item() == pytest.approx(SIGNAL ** (1 / 7), rel=0.4)


@pytest.mark.parametrize("reduction", ["strided", "average"])
def test_each_path_of_a_multi_residual_weakens_a_signal_alike(reduction):
    cell = [[("multi_residual_3x3", 0), ("multi_residual_3x3", 1)]]
    macro = {"normalisation": "none", "reduction": reduction}
    torch.manual_seed(0)
    net = dn.create_model(
        dn.Genotype(cell, [2], cell, [2], macro=macro), channels=16, num_cells=3, stem="small"
    )
    for step in (step for cell in net.cells for step in cell.operations[0]):
        [of] = [m for m in step.modules() if isinstance(m, MultiResidual)]
        for path in of.paths:
            weights = [m.weight for m in path.modules() if isinstance(m, nn.Conv2d)]
            gains = [w.std() * (w[0].numel() / 2) ** 0.5 for w in weights]
            factor = SIGNAL ** (1 / 7)
            if weights:
                in_a_row = gains[:1] if isinstance(path, FactorisedReduce) else gains
                assert torch.stack(in_a_row).prod().item() == pytest.approx(factor, rel=0.2)


def test_pooling_divides_the_maps():
    x = torch.randn(2, 8, 9, 12)
    for kind, side in (("average_2", 2), ("average_4", 4)):
        found = stem_pooling(kind)(x)
        assert found.shape == (2, 8, -(-9 // side), 12 // side)
        whole = F.relu(x)[:, :, : 9 // side * side].unfold(2, side, side).unfold(3, side, side)
        torch.testing.assert_close(found[:, :, : 9 // side], whole.mean((4, 5)))
    assert stem_pooling("none")(x) is x


@pytest.mark.parametrize("width", MACRO["width"])
def test_width_is_a_factor_of_the_channels(width):
    wide = dn.create_model(
        SILENT, channels=round(8 * width), num_cells=3, in_channels=1, stem="small"
    )
    count = [sum(p.numel() for p in net.parameters()) for net in (network(width=width), wide)]
    assert count[0] == count[1]


def supernets(macro, **form):
    """One whose α has macro rows, and one without, with the same weights."""
    torch.manual_seed(0)
    form = {"channels": 4, "num_cells": 3, "stem": "small", **form}
    nets = [
        dn.SuperNet(Space("mine", OPERATIONS, nodes=2, macro=rows), **form).double()
        for rows in (macro, {})
    ]
    state, own = nets[0].state_dict(), nets[1].state_dict()
    # The DARTS values come first in what the stem and the classifier read.
    state["stem.layers.0.weight"] = state["stem.layers.0.weight"][:, :3]
    positions = sum(int(side) ** 2 for side in macro.get("positions", (1,)))
    read = state["classifier.weight"].unflatten(1, (-1, positions))[..., 0]
    state["classifier.weight"] = read[:, : own["classifier.weight"].shape[1]]
    nets[1].load_state_dict({key: state[key] for key in own if key in state}, strict=False)
    return nets, torch.randn(3, 3, 11, 13, dtype=torch.float64)


@pytest.mark.parametrize("implementation", ["shared", "textbook"])
def test_dartss_own_choices_are_the_supernet_without_macro_rows(implementation):
    rows = {name: values[:3] for name, values in MACRO.items() if name not in FIXED}
    (mixed, plain), x = supernets(rows, implementation="textbook")
    if implementation == "shared":
        shared = dn.SuperNet(mixed.space, channels=4, num_cells=3, stem="small").double()
        mixed = shared.load_textbook(mixed)
    arch = dn.Architecture(plain.space).double()
    chosen = {name: torch.eye(3, dtype=torch.float64)[:1] for name in rows}
    torch.testing.assert_close(mixed(x, arch() | chosen), plain(x, arch()))


@pytest.mark.parametrize("side", [1, 2, 4])
def test_behind_a_pooling_the_cells_work_at_its_size(side):
    """With all weight on one pooling: the cells on what it leaves, and not on the whole map."""
    (mixed, plain), x = supernets({"pooling": MACRO["pooling"]})
    path, depth = (1, 2, 4).index(side), len(plain.cells)
    plain.cells.load_state_dict(mixed.cells[path * depth : (path + 1) * depth].state_dict())
    if side > 1:
        pool = nn.Sequential(nn.ReLU(), nn.AvgPool2d(side, ceil_mode=True, count_include_pad=False))
        plain.stem.layers.append(pool)
    arch = dn.Architecture(plain.space).double()
    chosen = {"pooling": torch.eye(3, dtype=torch.float64)[path : path + 1]}
    torch.testing.assert_close(mixed(x, arch() | chosen), plain(x, arch()))


@pytest.mark.parametrize("training", [True, False])
def test_a_mixed_norm_is_the_sum_of_the_libraries_norms(training):
    torch.manual_seed(0)
    candidates = MACRO["normalisation"]
    mixed = MixedNorm(candidates, 3).double().train(training)
    batch = nn.BatchNorm2d(3, affine=False).double().train(training)
    for _ in range(2):  # the second with statistics that have moved
        x = 5 + 2 * torch.randn(4, 3, 5, 7, dtype=torch.float64)
        weights = torch.rand(3, dtype=torch.float64)
        mixed.weights = weights
        terms = batch(x), F.group_norm(x, 1), x
        expected = sum(w * term for w, term in zip(weights, terms, strict=True))
        torch.testing.assert_close(mixed(x), expected)
        torch.testing.assert_close(mixed.running_mean, batch.running_mean)
        torch.testing.assert_close(mixed.running_var, batch.running_var)


def test_narrow_states_have_no_more_channels():
    (net, _), x = supernets({"width": [1.0, 0.5]})
    arch = dn.Architecture(net.space).double()
    seen = []
    for cell in net.cells:
        cell.register_forward_hook(lambda _, __, y: seen.append(y.unflatten(1, (2, -1))))
    narrow = {"width": torch.tensor([[0.0, 1.0]], dtype=torch.float64)}
    net(x, arch() | narrow)
    for states in seen:  # (B, nodes, C, H, W)
        half = states.shape[2] // 2
        assert not states[:, :, half:].any()
        assert states[:, :, :half].any()


@pytest.mark.parametrize("choice", [choice for choice in MACRO if choice not in FIXED])
def test_the_macro_gradient_is_that_of_finite_differences(choice):
    (net, _), x = supernets({choice: MACRO[choice]})
    arch = dn.Architecture(net.space).double()
    row = arch.macro[choice]

    def loss():
        return net(x, arch()).square().sum()

    found = torch.autograd.grad(loss(), row)[0]
    for k in range(row.shape[1]):
        values = []
        for step in (1e-5, -2e-5):
            row.data[0, k] += step
            values.append(loss().item())
        row.data[0, k] += 1e-5
        expected = (values[0] - values[1]) / 2e-5
        assert found[0, k].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_weights_of_a_choice_are_checked():
    (net, _), x = supernets({"width": [1.0, 0.5]})
    arch = dn.Architecture(net.space).double()
    with pytest.raises(ValueError, match=r"weights\['width'\]: expected \(1, 2\)"):
        net(x, arch() | {"width": torch.ones(2)})


@pytest.mark.parametrize(
    ("where", "sides"),
    [
        ("both", [16, 8, 4]),
        ("first", [16, 8, 8]),
        ("second", [16, 16, 8]),
        ("none", [16, 16, 16]),
    ],
)
def test_where_the_reductions_are(where, sides):
    """Channels double with each, and the supernet has the same plan."""
    genotype = replace(dn.load_genotype("darts_v2"), macro={"reductions": where})
    net = dn.create_model(genotype, channels=4, num_cells=3, stem="small").eval()
    maps = [state for _, state in net.maps(torch.zeros(1, 3, 16, 16))][1:]
    assert [state.shape[-1] for state in maps] == sides
    assert [state.shape[1] for state in maps] == [4 * 4 * 16 // side for side in sides]
    space = dn.Space("s", ["skip_connect", "conv_3x3"], macro={"reductions": [where]})
    supernet = dn.SuperNet(space, channels=4, num_cells=3, stem="small")
    halved = [large > small for large, small in pairwise([16, *sides])]
    assert [plan.reduction for plan in supernet.plans] == halved


@pytest.mark.parametrize("side", [2, 4])
def test_a_last_map_is_averaged_over_its_parts(side):
    x = torch.randn(2, 3, 2 * side, 3 * side)
    means = x.unfold(2, 2, 2).unfold(3, 3, 3).mean((4, 5))  # (B, C, side, side)
    torch.testing.assert_close(Parts(side)(x), means.flatten(2)[..., None])
    torch.testing.assert_close(Parts(1)(x), x.mean((2, 3))[..., None, None])


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (3, 3), (7, 6), (9, 2)])
def test_parts_of_any_map_do_not_overlap_and_miss_no_pixel(shape):
    """The gain equals the gain of a mean over the smallest part."""
    x = torch.zeros(1, 1, *shape, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(Parts(4), x).reshape(16, -1)
    assert ((jacobian > 0).sum(0) == 1).all()
    sums = jacobian.sum(1)
    torch.testing.assert_close(sums, (sums > 0).double())
    assert torch.linalg.matrix_norm(jacobian, 2) <= 1


def test_positions_and_features_are_the_inputs_of_the_classifier():
    x = torch.randn(2, 1, 16, 16)
    net = network(positions=2, features=16).eval()
    features = net.forward_head(net.forward_features(x), pre_logits=True)
    assert features.shape == (2, 16 * 4)
    assert net.head_hidden_size == net.classifier.in_features == 64
    maps = F.conv2d(net.forward_features(x), net.projection.weight)  # before the mean: the same
    torch.testing.assert_close(features, F.adaptive_avg_pool2d(maps, 2).flatten(1))
    net.reset_classifier(3)
    assert net(x).shape == (2, 3)
    assert network().head_hidden_size == network().num_features


@pytest.mark.parametrize(("features", "positions"), [(16.0, 2.0), ("all", 4.0), (32.0, 1.0)])
def test_with_all_weight_on_one_readout_a_supernet_is_that_readout(features, positions):
    """A linear layer behind the candidates side by side has its own weights for each of them."""
    rows = {"features": ("all", 16.0, 32.0), "positions": (1.0, 2.0, 4.0)}
    mixed, x = supernets(rows)[0][0], torch.randn(3, 3, 16, 16, dtype=torch.float64)
    chosen = {
        name: torch.tensor([[float(v == value) for v in rows[name]]]).double()
        for name, value in {"features": features, "positions": positions}.items()
    }
    last = []
    handle = mixed.cells[-1].register_forward_hook(lambda _, __, y: last.append(y))
    logits = mixed(x, dn.Architecture(mixed.space).double()() | chosen)
    handle.remove()
    means = F.adaptive_avg_pool2d(last[0], int(positions)).flatten(2)  # the last map is 4 × 4
    blocks = {"all": slice(0, 32), 16.0: slice(32, 48), 32.0: slice(48, 80)}
    start = {1.0: 0, 2.0: 1, 4.0: 5}[positions]
    weight = mixed.classifier.weight.unflatten(1, (-1, 21))[:, blocks[features]]
    weight = weight[..., start : start + int(positions) ** 2]
    if features != "all":
        projection = mixed.projection.terms[rows["features"].index(features)].weight
        means = torch.einsum("fc,bcp->bfp", projection[..., 0, 0], means)
    expected = torch.einsum("kfp,bfp->bk", weight, means) + mixed.classifier.bias
    torch.testing.assert_close(logits, expected)


def require_orthogonal(net):
    """The exact singular values of the centre of each kernel, and zeros around it."""
    for layer in (layer for layer in net.modules() if isinstance(layer, nn.Conv2d)):
        for part in layer.weight.detach().chunk(layer.groups):
            matrix = part.flatten(2).sum(2)
            assert part.count_nonzero() <= matrix.numel()
            values = torch.linalg.svdvals(matrix)
            torch.testing.assert_close(values, torch.ones_like(values), rtol=1e-4, atol=0)


@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_orthogonal_convolutions_start_with_a_gain_of_1(normalisation):
    require_orthogonal(network(initialisation="orthogonal", normalisation=normalisation))


@pytest.mark.parametrize("implementation", ["shared", "textbook"])
def test_a_supernet_starts_orthogonal(implementation):
    form = {"channels": 4, "num_cells": 3, "stem": "small", "implementation": implementation}
    rows = {"initialisation": ["orthogonal"], "features": [16]}
    net = dn.SuperNet(Space("mine", OPERATIONS, nodes=1, macro=rows), **form)
    require_orthogonal(net.to_textbook() if implementation == "shared" else net)
