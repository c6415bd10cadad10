"""The convolutions of the stacked supernet equal PyTorch's: values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from darts_noise.nets.mixed import convolution
from darts_noise.nets.mixed.convolution import convolve

EDGES = 3


def inputs_of(layer, side, dtype=torch.float64):
    torch.manual_seed(0)
    x = torch.randn(2, EDGES * layer.in_channels, *side, dtype=dtype)
    weight = torch.randn(EDGES * layer.out_channels, *layer.weight.shape[1:], dtype=dtype)
    return x.requires_grad_(), weight.requires_grad_()


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", ["same size", 1])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("side", [(8, 8), (7, 9)])
def test_values_and_gradients_equal_pytorchs(
    monkeypatch, kernel, stride, dilation, padding, groups, side
):
    monkeypatch.setattr(convolution, "MANY", 0)  # small images take the path of large ones
    padding = dilation * (kernel // 2) if padding == "same size" else padding
    layer = nn.Conv2d(4, 4, kernel, stride, padding, dilation, groups, bias=False)
    inputs = inputs_of(layer, side)
    found = convolve(*inputs, layer)
    expected = F.conv2d(*inputs, None, stride, padding, dilation, groups * EDGES)
    torch.testing.assert_close(found, expected)
    direction = torch.randn_like(expected)
    for own, theirs in zip(
        torch.autograd.grad(found, inputs, direction),
        torch.autograd.grad(expected, inputs, direction),
        strict=True,
    ):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(5, 1, 1), (3, 1, 2), (5, 2, 2)])
def test_second_derivatives(monkeypatch, kernel, stride, dilation):
    monkeypatch.setattr(convolution, "MANY", 0)
    layer = nn.Conv2d(1, 1, kernel, stride, dilation * (kernel // 2), dilation, bias=False)
    inputs = inputs_of(layer, (5, 6))
    assert torch.autograd.gradgradcheck(lambda *both: convolve(*both, layer), inputs)


def test_autocast_computes_in_the_lower_precision(monkeypatch):
    monkeypatch.setattr(convolution, "MANY", 0)
    layer = nn.Conv2d(1, 1, 5, padding=2, bias=False)
    x, weight = inputs_of(layer, (8, 8), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = convolve(x, weight, layer)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert x.grad.dtype == weight.grad.dtype == torch.float32
