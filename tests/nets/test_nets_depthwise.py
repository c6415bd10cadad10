"""The fast depthwise convolution equals PyTorch's: values, both gradients, second derivatives."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from darts_noise.nets import depthwise
from darts_noise.nets.depthwise import depthwise_conv2d


def library(x, weight, stride, dilation):
    padding = dilation * (weight.shape[-1] // 2)
    return F.conv2d(x, weight, None, stride, padding, dilation, x.shape[1])


@pytest.mark.parametrize("kernel", [3, 5, 7, 9])
@pytest.mark.parametrize(("stride", "dilation"), list(itertools.product((1, 2), (1, 2))))
@pytest.mark.parametrize("side", [(8, 8), (7, 9), (5, 4), (2, 1)])
def test_values_and_gradients_equal_the_librarys(monkeypatch, kernel, stride, dilation, side):
    monkeypatch.setattr(depthwise, "MANY", 0)  # small images take the path of large ones
    torch.manual_seed(0)
    x = torch.randn(2, 3, *side, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    found, expected = (f(x, weight, stride, dilation) for f in (depthwise_conv2d, library))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    direction = torch.randn_like(expected)
    for own, theirs in zip(
        torch.autograd.grad(found, [x, weight], direction),
        torch.autograd.grad(expected, [x, weight], direction),
        strict=True,
    ):
        torch.testing.assert_close(own, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(5, 1, 1), (3, 1, 2), (5, 2, 2)])
def test_second_derivatives(kernel, stride, dilation):
    torch.manual_seed(0)
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    inputs = (x, weight)
    assert torch.autograd.gradgradcheck(lambda *a: depthwise_conv2d(*a, stride, dilation), inputs)


def test_autocast_computes_in_the_lower_precision():
    x, weight = torch.randn(2, 4, 8, 8), torch.randn(4, 1, 5, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = depthwise_conv2d(x, weight, 1, 2)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert weight.grad.dtype == torch.float32


def test_a_gradient_that_nobody_asks_for_is_not_computed(monkeypatch):
    asked = []
    real = depthwise._weight_gradient
    monkeypatch.setattr(depthwise, "_weight_gradient", lambda *a: asked.append(1) or real(*a))
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    weight = torch.randn(2, 1, 5, 5)
    depthwise_conv2d(x, weight).sum().backward()
    assert not asked
    depthwise_conv2d(x, weight.requires_grad_()).sum().backward()
    assert asked
