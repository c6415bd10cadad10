"""Networks and cells in other models: timm's methods, with every macro choice."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import darts_noise as dn

DARTS = dn.load_genotype("darts_v2")
SMALL = {"channels": 4, "num_cells": 5, "stem": "small"}
MACROS = [
    {},
    {"normalisation": "layer", "pooling": "average_2"},
    {"normalisation": "none", "pooling": "average_4", "width": 0.5},
    {"input_filter": "blur_5x5", "width": 0.5},
]


@pytest.fixture(params=MACROS, ids=["darts", "layer", "none", "blurred"])
def genotype(request):
    return replace(DARTS, macro=request.param)


def test_features_are_as_their_info_says(genotype):
    for form in (SMALL, {**SMALL, "stem": "imagenet"}, {**SMALL, "num_cells": 1}):
        body = dn.create_model(genotype, features_only=True, **form)
        height, width = 61, 83
        maps = body(torch.randn(2, 3, height, width))
        expected = [(2, c, -(-height // r), -(-width // r)) for c, r, _ in body.feature_info]
        assert [tuple(m.shape) for m in maps] == expected
        assert body.feature_info.channels() == [m.shape[1] for m in maps]


@pytest.mark.parametrize("stem", ["small", "imagenet"])
def test_features_are_the_outputs_of_the_modules_named(stem):
    """Those of a whole network with the same weights, whichever of them are asked for."""
    net = dn.create_model(DARTS, **{**SMALL, "stem": stem}).eval()
    seen = {}
    for name in net.feature_info.module_name():
        net.get_submodule(name).register_forward_hook(
            lambda _, __, y, name=name: seen.update({name: y[0] if name == "stem" else y})
        )
    x = torch.randn(2, 3, 64, 64)
    net(x)
    wanted = list(seen.values())
    for indices in (None, (0,), (0, -1), (1,), (-1, 1)):
        body = dn.create_model(
            DARTS, **{**SMALL, "stem": stem}, features_only=True, out_indices=indices
        )
        body.eval().load_state_dict(net.state_dict(), strict=False)
        order = range(len(wanted)) if indices is None else sorted(i % len(wanted) for i in indices)
        assert body.feature_info == tuple(net.feature_info[i] for i in order)
        for found, i in zip(body(x), order, strict=True):
            torch.testing.assert_close(found, wanted[i])


def test_every_weight_of_a_feature_network_is_used(genotype):
    """Nothing behind the last map is kept, so distributed training finds every gradient."""
    for indices in ((0,), (0, 1), (0, 1, 2)):
        body = dn.create_model(genotype, **SMALL, features_only=True, out_indices=indices)
        sum(m.square().sum() for m in body(torch.randn(2, 3, 32, 32))).backward()
        assert all(p.grad is not None for p in body.parameters())


def test_head_and_features_are_the_whole(genotype):
    net = dn.create_model(genotype, **SMALL, num_classes=7).eval()
    x = torch.randn(3, 3, 32, 20)
    last = net.forward_features(x)
    assert last.shape[1] == net.num_features == net.feature_info[-1].channels
    torch.testing.assert_close(net.forward_head(last), net(x))
    pooled = net.forward_head(last, pre_logits=True)
    torch.testing.assert_close(pooled, last.mean((2, 3)))
    assert net.get_classifier() is net.classifier


def test_without_classes_the_features_are_pooled(genotype):
    net = dn.create_model(genotype, **SMALL, num_classes=0).eval()
    whole = dn.create_model(genotype, **SMALL).eval()
    net.load_state_dict(whole.state_dict(), strict=False)
    x = torch.randn(2, 3, 32, 32)
    assert net(x).shape == (2, net.num_features)
    torch.testing.assert_close(whole.classifier(net(x)), whole(x))


def test_reset_classifier_changes_the_last_layer_alone():
    net = dn.create_model(DARTS, **SMALL).double()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    net.reset_classifier(3)
    assert net(x).shape == (2, net.num_classes) == (2, 3)
    assert net(x).dtype == torch.float64
    body = {k: v for k, v in net.state_dict().items() if not k.startswith("classifier")}
    for key, value in body.items():
        if "running" not in key and "tracked" not in key:
            assert torch.equal(value, before[key]), key
    net.reset_classifier(0)
    assert net(x).shape == (2, net.num_features)


def test_reset_classifier_reaches_the_auxiliary_head():
    net = dn.create_model(DARTS, channels=4, num_cells=3, auxiliary=True)
    net.reset_classifier(4)
    out = net(torch.randn(2, 3, 32, 32))
    assert out.logits.shape == out.auxiliary.shape == (2, 4)
    with pytest.raises(ValueError, match="num_classes: expected at least 1 for an auxiliary head"):
        net.reset_classifier(0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features_only": True, "out_indices": (3,)}, "out_indices: expected distinct indices"),
        ({"features_only": True, "out_indices": (0, -3)}, "out_indices: expected distinct indices"),
        ({"features_only": True, "out_indices": ()}, "out_indices: expected distinct indices"),
        ({"features_only": True, "auxiliary": True}, "auxiliary: expected false"),
        ({"out_indices": (0,)}, "out_indices: expected features_only=True"),
        ({"num_classes": 0, "auxiliary": True}, "num_classes: expected at least 1"),
        ({"num_classes": "10"}, "num_classes: expected an integer, got '10'"),
        ({"in_channels": 3.0}, r"in_channels: expected an integer, got 3\.0"),
        (
            {"features_only": True, "out_indices": 0},
            "out_indices: expected a sequence of integers, got 0",
        ),
        ({"features_only": True, "out_indices": (True,)}, "expected an integer, got True"),
        ({"features_only": True, "out_indices": (0.5,)}, r"out_indices\[0\]: expected an integer"),
    ],
)
def test_what_cannot_be_given_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dn.create_model(DARTS, **SMALL, **settings)


@pytest.mark.parametrize("reduction", [False, True])
def test_a_cell_is_a_block(genotype, reduction):
    """Of one input or two, of any width, halving or not, with the normalisation of its genotype."""
    block = dn.Cell(genotype, 6, 4, reduction=reduction)
    x, side = torch.randn(2, 6, 9, 14), 2 if reduction else 1
    assert block(x).shape == (2, block.out_channels, -(-9 // side), -(-14 // side))
    torch.testing.assert_close(block.eval()(x), block(x, x))
    norms = {type(m) for m in block.modules()} & {nn.BatchNorm2d, nn.GroupNorm}
    kind = genotype.choice("normalisation")
    assert norms == {"batch": {nn.BatchNorm2d}, "layer": {nn.GroupNorm}, "none": set()}[kind]
    after = dn.Cell(genotype, (6, 10), 4, reduction_last=True)
    assert after(torch.randn(2, 6, 17, 8), torch.randn(2, 10, 9, 4)).shape[2:] == (9, 4)


@pytest.mark.parametrize(("channels", "name"), [(("3", 4), "in_channels"), ((4, 2.0), "channels")])
def test_a_cell_of_no_whole_channels_is_refused(channels, name):
    with pytest.raises(ValueError, match=f"{name}: expected an integer, got"):
        dn.Cell(DARTS, *channels)


@pytest.mark.parametrize(("channels", "name"), [((0, 4), "in_channels"), ((4, 0), "channels")])
def test_a_cell_without_channels_is_refused(channels, name):
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        dn.Cell(DARTS, *channels)
