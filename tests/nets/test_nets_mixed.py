"""The shared mixed cell is the textbook's function: values, gradients, statistics, conversions."""

from operator import attrgetter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import darts_noise as dn
from darts_noise.nets.mixed import edgewise, shared
from darts_noise.nets.mixed.edgewise import add_edges, together
from darts_noise.nets.mixed.stacked import StackedEdges, chain
from darts_noise.search.gradients import still_statistics
from darts_noise.search.hypergradients import InnerStep, hypergradient, objective
from darts_noise.space.macro import MACRO
from darts_noise.space.operations import registry
from darts_noise.space.spaces import Space


@pytest.fixture(params=["edge by edge", "all at once"], autouse=True)
def way(request, monkeypatch):
    """Both ways of doing the work."""
    if request.param == "all at once":
        monkeypatch.setattr(shared, "applies", lambda states, families: False)


def both(space="darts", **form):
    """A textbook supernet, a shared one with its weights, α, and images."""
    torch.manual_seed(0)
    form = {"channels": 4, "num_cells": 4, "nodes": 3, **form}
    textbook = dn.SuperNet(space, **form, implementation="textbook").double()
    fast = dn.SuperNet(space, **form).double().load_textbook(textbook)
    arch = dn.Architecture(space, form["nodes"]).double()
    with torch.no_grad():
        for alpha in arch.parameters():
            alpha.normal_()
    return textbook, fast, arch, torch.randn(3, 3, 12, 12, dtype=torch.float64)


def close(own, theirs, tolerance=1e-10):
    scale = theirs.abs().max().item()
    torch.testing.assert_close(own, theirs, rtol=tolerance, atol=tolerance * scale)


NAME = attrgetter("name")
MACRO_SPACE = Space(
    "macro", ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"), nodes=3, macro=dict(MACRO)
)
POINTWISE_SPACE = Space("pointwise", ("none", "conv_1x1", "sep_conv_3x3", "conv_3x3"), nodes=2)


@pytest.mark.parametrize(
    "space", [*dn.list_spaces(), MACRO_SPACE, POINTWISE_SPACE], ids=lambda s: getattr(s, "name", s)
)
@pytest.mark.parametrize(
    "form",
    [{}, {"nodes": 1}, {"nodes": 5, "num_cells": 3}, {"channels": 5}, {"stem": "imagenet"}],
    ids=str,
)
def test_logits_and_gradients_equal_the_textbooks(space, form):
    textbook, fast, arch, x = both(space, **form)
    if form.get("stem") == "imagenet":
        x = torch.randn(2, 3, 33, 47, dtype=torch.float64)  # odd sides all the way down
    logits = [net(x, arch()) for net in (textbook, fast)]
    close(logits[1], logits[0])
    found = [torch.autograd.grad(out.square().sum(), list(arch.parameters())) for out in logits]
    for theirs, own in zip(*found, strict=True):
        close(own, theirs)


@pytest.mark.parametrize("method", ["first_order", "exact", "neumann"])
def test_hypergradients_equal_the_textbooks(method):
    textbook, fast, arch, x = both(nodes=2, num_cells=3)
    y = torch.tensor([3, 1, 4])

    def gradient(net):
        outer, inner = (
            objective(net, lambda call, x=x: F.cross_entropy(call(x, arch()), y))
            for x in (x, x.flip(0))
        )
        weights, alphas = list(net.parameters()), list(arch.parameters())
        step = InnerStep(0.025, 3e-4)
        return hypergradient(outer, inner, weights, alphas, method=method, step=step).gradients

    for own, theirs in zip(gradient(fast), gradient(textbook), strict=True):
        close(own, theirs)


def test_a_second_derivative_costs_as_much_as_there_are_cells(monkeypatch):
    """Cells of a kind share α's weights, and each is differentiated once, not once per follower."""

    def calls(num_cells):
        made = []
        monkeypatch.setattr(
            edgewise, "together", lambda *a, **k: made.append(0) or together(*a, **k)
        )
        _, net, arch, x = both(nodes=1, num_cells=num_cells)
        inputs = [*net.parameters(), *arch.parameters()]
        loss = net(x, arch()).square().sum()
        slope = torch.autograd.grad(loss, inputs, create_graph=True)
        torch.autograd.grad(sum(g.square().sum() for g in slope), list(arch.parameters()))
        return len(made)

    assert calls(6) <= 2 * calls(3)


def test_training_steps_stay_together_and_convert_back():
    """After steps of w the weights, the running statistics and the eval mode still agree."""
    textbook, fast, arch, x = both()
    y = torch.tensor([3, 1, 4])
    for _ in range(3):
        for net in (textbook, fast):
            loss = F.cross_entropy(net(x, arch()), y)
            for p, g in zip(
                net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True
            ):
                p.data -= 0.05 * g
    back = fast.to_textbook().state_dict()
    for name, theirs in textbook.state_dict().items():
        if "num_batches" not in name:
            close(back[name], theirs)
    assert sum(p.numel() for p in fast.parameters()) == sum(
        p.numel() for p in textbook.parameters()
    )
    close(fast.eval()(x, arch()), textbook.eval()(x, arch()))


def test_still_statistics_are_left_alone():
    _, fast, arch, x = both()
    before = {k: v.clone() for k, v in fast.state_dict().items()}
    with still_statistics(fast):
        inside = fast(x, arch())
    assert all(torch.equal(v, before[k]) for k, v in fast.state_dict().items())
    assert torch.equal(inside, fast(x, arch()))
    assert any(not torch.equal(v, before[k]) for k, v in fast.state_dict().items())


def test_it_starts_as_the_textbook_does():
    torch.manual_seed(1)
    textbook = dn.SuperNet("darts", channels=4, num_cells=3, nodes=2, implementation="textbook")
    torch.manual_seed(1)
    fast = dn.SuperNet("darts", channels=4, num_cells=3, nodes=2).to_textbook()
    for name, value in textbook.state_dict().items():
        assert torch.equal(fast.state_dict()[name], value), name


def test_operations_of_any_form_are_computed(monkeypatch):
    """A user's operation that is no chain of convolutions is done as the textbook does it."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    class Gate(nn.Module):
        def __init__(self, channels, stride):
            super().__init__()
            self.stride = stride
            self.scale = nn.Parameter(torch.rand(channels, 1, 1))

        def forward(self, x):
            return (x * self.scale)[:, :, :: self.stride, :: self.stride]

    dn.register_operation("convolution", name="gate")(lambda c, s, affine: Gate(c, s))
    names = (
        "none",
        "gate",
        "skip_connect",
        "conv_7x1_1x7",
        "sep_conv_7x7",
        "conv_3x3",
        "dw_conv_3x3",
    )
    textbook, fast, arch, x = both(Space("mine", names, nodes=2), nodes=2)
    close(fast(x, arch()), textbook(x, arch()))
    assert not chain(Gate(4, 1))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "padding", "dilation"), [(3, 0, 1), (5, 4, 1), (3, 1, 2)])
def test_a_users_chain_keeps_its_own_padding(stride, kernel, padding, dilation):
    """Also where it does not keep the size, and with dilation 2, which has a fast way."""
    module = nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(4, 4, kernel, stride, padding, dilation, 4, bias=False),
        nn.Conv2d(4, 4, 1, bias=False),
        nn.BatchNorm2d(4, affine=False),
    )
    x = torch.randn(2, 4, 12, 12)
    stacked = StackedEdges([[chain(module)]], [0])
    ways = {
        "at once": together(stacked, F.relu(x), 1, torch.ones(1, 1), stacked.kernels()),
        "by edge": add_edges(
            [stacked],
            [F.relu(x)],
            [torch.ones(1, 1)],
            torch.zeros_like(module(x)[None].permute(0, 1, 3, 4, 2)),
        ),
    }
    for found in ways.values():
        torch.testing.assert_close(found[0].permute(0, 3, 1, 2), module(x))


def test_bfloat16_is_near_float32():
    _, fast, arch, x = both()
    fast, arch, x = fast.float(), arch.float(), x.float()
    expected = fast(x, arch())
    with torch.autocast("cpu", torch.bfloat16):
        found = fast(x, arch())
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.1)


def test_only_like_supernets_convert():
    textbook, fast, *_ = both()
    with pytest.raises(ValueError, match="a shared supernet and a textbook one"):
        textbook.to_textbook()
    with pytest.raises(ValueError, match="a shared supernet and a textbook one"):
        fast.load_textbook(fast)
    other = dn.SuperNet("darts", channels=8, num_cells=4, nodes=3, implementation="textbook")
    before = {k: v.clone() for k, v in fast.state_dict().items()}
    with pytest.raises(ValueError, match="channels: expected 4 as here, got 8"):
        fast.load_textbook(other)
    assert all(torch.equal(v, before[k]) for k, v in fast.state_dict().items())
    with pytest.raises(ValueError, match="did you mean 'shared'"):
        dn.SuperNet("darts", implementation="share")
