"""Values that are made again: the same gradients, and nothing kept."""

import pytest
import torch
import torch.nn.functional as F
from torch.multiprocessing.reductions import StorageWeakRef

from darts_noise.nets.mixed.recompute import Recomputation, recomputed


def chain(x, weight, again):
    """conv → linear → square, with the values between made again or kept."""
    calls = []

    def first():
        calls.append("first")
        return F.conv2d(x, weight, padding=1)

    def second(z):
        calls.append("second")
        return F.linear(z, weight[0, 0])

    both = Recomputation(first, second, both=True)
    z = first()
    with recomputed(z, both.first) if again else torch.enable_grad():
        y = second(z)
    with recomputed(y, both.second) if again else torch.enable_grad():
        out = y.square().sum()
    return out, calls, [StorageWeakRef(t.untyped_storage()) for t in (z, y)]


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    return x, torch.randn(3, 3, 3, 3, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_are_the_same(inputs, create_graph):
    found = []
    for again in (True, False):
        out, *_ = chain(*inputs, again)
        gradients = torch.autograd.grad(out, inputs, create_graph=create_graph)
        if create_graph:
            gradients = torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs)
        found.append(gradients)
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


def test_the_values_are_let_go_and_each_is_made_again_once(inputs):
    out, calls, values = chain(*inputs, again=True)
    assert all(value.expired() for value in values)
    torch.autograd.grad(out, inputs)
    assert calls == ["first", "second", "first", "second"]
    kept = chain(*inputs, again=False)
    assert not any(value.expired() for value in kept[2])
    assert kept[1] == ["first", "second"]
