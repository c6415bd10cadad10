"""The discrete network against the reference values, and the properties of its parts."""

from dataclasses import replace

import pytest
import torch
from conftest import fill, wave
from torch import nn

import darts_noise as dn
from darts_noise.nets.network import WithAuxiliary, auxiliary_fits
from darts_noise.nets.plan import plan_cells, reduction_cells


def close(actual: torch.Tensor, expected: list[list[float]]) -> None:
    torch.testing.assert_close(
        actual[:, :4], torch.tensor(expected, dtype=torch.float64), rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize(
    ("stem", "name", "mode"),
    [
        ("cifar", "darts_v1", "train"),
        ("cifar", "darts_v1", "eval"),
        ("cifar", "darts_v2", "train"),
        ("cifar", "darts_v2", "eval"),
        ("imagenet", "darts_v1", "train"),
    ],
)
def test_logits_equal_the_reference(golden, stem, name, mode):
    expected = golden["network"][f"{stem}/{name.upper()}/C8_L5/{mode}"]
    net = fill(dn.create_model(name, channels=8, num_cells=5, stem=stem, auxiliary=True))
    side = 32 if stem == "cifar" else 224
    out = net.train(mode == "train")(wave((2, 3, side, side), 1, 0))
    if mode == "train":
        assert isinstance(out, WithAuxiliary)
        close(out.auxiliary, expected["aux"])
        out = out.logits
    close(out, expected["logits"])


@pytest.mark.parametrize("name", ["darts_v1", "darts_v2"])
@pytest.mark.parametrize("auxiliary", [False, True])
def test_parameter_counts_equal_the_reference(golden, name, auxiliary):
    expected = golden["parameters"][f"{name.upper()}/aux={auxiliary}"]
    for key, stem, channels, cells, classes in [
        ("cifar10_C36_L20", "cifar", 36, 20, 10),
        ("imagenet_C48_L14", "imagenet", 48, 14, 1000),
    ]:
        with torch.device("meta"):
            net = dn.create_model(
                name,
                channels=channels,
                num_cells=cells,
                stem=stem,
                num_classes=classes,
                auxiliary=auxiliary,
            )
        assert sum(p.numel() for p in net.parameters()) == expected[key]


def test_auxiliary_head_is_for_training_only():
    net = dn.create_model("darts_v2", channels=4, num_cells=3, auxiliary=True)
    x = torch.randn(2, 3, 32, 32)
    assert isinstance(net.train()(x), WithAuxiliary)
    assert net.eval()(x).shape == (2, 10)


def test_drop_path_one_sample_at_a_time_and_never_the_identity():
    """Rows are dropped whole, at the rate asked for, rescaled so that the mean is kept."""
    torch.manual_seed(0)
    g = dn.Genotype([[("avg_pool_3x3", 0)]], [2], [[("skip_connect", 0)]], [2])
    net = dn.create_model(g, channels=4, num_cells=3, stem="small", in_channels=1)
    cell = net.cells[0].train()
    for norm in cell.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.eval()
    x = torch.rand(4000, 4, 4, 4) + 0.1
    whole, dropped = cell(x, x, 0.0), cell(x, x, 0.25)
    ratio = dropped.flatten(1).sum(1) / whole.flatten(1).sum(1)
    kept = ratio > 0.5
    torch.testing.assert_close(ratio[kept], torch.full_like(ratio[kept], 1 / 0.75))
    torch.testing.assert_close(ratio[~kept], torch.zeros_like(ratio[~kept]))
    assert abs(kept.float().mean() - 0.75) < 0.03
    identity = dn.Genotype([[("skip_connect", 0)]], [2], [[("skip_connect", 0)]], [2])
    cell = dn.create_model(identity, channels=4, num_cells=3, stem="small").cells[0]
    torch.manual_seed(0)
    torch.testing.assert_close(cell(x, x, 0.9), cell(x, x, 0.0))


def test_a_sample_does_not_depend_on_its_batch_in_eval_mode():
    net = dn.create_model("darts_v2", channels=4, num_cells=3).double().eval()
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(net(x)[:1], net(x[:1]))


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (28, 28)])
@pytest.mark.parametrize("stride", [1, 2])
def test_any_image_size_goes_through(size, stride):
    net = dn.create_model(
        "darts_v1", channels=4, num_cells=5, stem="small", stem_stride=stride, in_channels=1
    )
    assert net(torch.randn(2, 1, *size)).shape == (2, 10)


def test_reductions_stand_at_one_and_two_thirds_and_double_the_width():
    plans = plan_cells(
        num_cells=8,
        channels=16,
        stem_channels=(48, 48),
        stem_reduces=False,
        concat={"normal": 4, "reduce": 4},
    )
    assert reduction_cells(8) == {2, 5}
    assert [p.channels for p in plans] == [16, 16, 32, 32, 32, 64, 64, 64]
    assert [p.reduction_last for p in plans] == [
        False,
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]
    assert [p.channels_last for p in plans] == [48, 64, 64, 128, 128, 128, 256, 256]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stem": "cifr"}, "unknown stem 'cifr': did you mean 'cifar'"),
        ({"num_cells": 0}, "num_cells: expected at least 1, got 0"),
        ({"channels": 0}, "channels: expected at least 1, got 0"),
        ({"num_classes": -1}, "num_classes: expected at least 0, which is no classifier, got -1"),
        ({"in_channels": 0}, "in_channels: expected at least 1, got 0"),
        ({"drop_path": 1.0}, "drop_path: expected"),
        ({"stem_stride": 3}, "stem_stride: expected 1, 2 or 4, got 3"),
        ({"stem": "imagenet", "stem_stride": 2}, "stem_stride: the imagenet stem"),
    ],
)
def test_what_cannot_be_built_is_refused(settings, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        dn.create_model("darts_v2", **settings)


@pytest.mark.parametrize(("size", "fits"), [(32, True), (31, True), (28, False), (8, False)])
def test_auxiliary_fits_says_what_the_head_accepts(size, fits):
    assert auxiliary_fits((size, size), "cifar") is fits
    net = dn.create_model("darts_v2", channels=4, num_cells=3, auxiliary=True)
    x = torch.randn(2, 3, size, size)
    if fits:
        assert net(x).auxiliary.shape == (2, 10)
    else:
        with pytest.raises(ValueError, match="auxiliary: expected images that leave a map of 8×8"):
            net(x)


@pytest.mark.parametrize(("reductions", "least"), [("both", 29), ("second", 15), ("none", 8)])
def test_auxiliary_fits_counts_the_reduction_cells(reductions, least):
    g = replace(dn.load_genotype("darts_v2"), macro={"reductions": reductions})
    net = dn.create_model(g, channels=4, num_cells=3, stem="small", auxiliary=True)
    assert net(torch.randn(2, 3, least, least)).auxiliary.shape == (2, 10)
    for side, fits in ((least - 1, False), (least, True)):
        assert auxiliary_fits((side, side), "small", reductions=reductions) is fits


@pytest.mark.parametrize("stem", ["small", "imagenet"])
@pytest.mark.parametrize("pooling", ["none", "average_2", "average_4"])
def test_auxiliary_fits_counts_the_pooling_behind_the_stem(stem, pooling):
    g = replace(dn.load_genotype("darts_v2"), macro={"pooling": pooling})
    net = dn.create_model(g, channels=4, num_cells=3, stem=stem, auxiliary=True)
    least = (7 if stem == "imagenet" else 8) - 1
    stride = {"small": 4, "imagenet": 32}[stem] * {"none": 1, "average_2": 2, "average_4": 4}[
        pooling
    ]
    for side, fits in ((least * stride, False), (least * stride + 1, True)):
        assert auxiliary_fits((side, side), stem, pooling=pooling) is fits
        x = torch.randn(2, 3, side, side)
        if fits:
            assert net(x).auxiliary.shape == (2, 10)
        else:
            with pytest.raises(ValueError, match="auxiliary: expected images"):
                net(x)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_every_gradient_of_a_map_has_the_layout_of_the_maps(layout):
    """A layer that gets a gradient with gaps or in another layout is several times slower."""
    net = dn.create_model("darts_v2", channels=8, num_cells=5).to(memory_format=layout)
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.ReLU)]
    seen = []
    for layer in layers:
        layer.register_full_backward_hook(lambda layer, before, after: seen.append(after[0]))
    x = torch.randn(2, 3, 15, 17).to(memory_format=layout).requires_grad_()
    net(x).square().sum().backward()
    assert len(seen) == len(layers)
    assert all(gradient.is_contiguous(memory_format=layout) for gradient in seen)
