"""The stacked mixed cell is the textbook's function: values, gradients, statistics, conversions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import darts_noise as dn
from darts_noise.nets.mixed import stacked
from darts_noise.nets.mixed.stacked import StackedOperation, layers
from darts_noise.search.gradients import still_statistics
from darts_noise.search.hypergradients import InnerStep, hypergradient, objective
from darts_noise.space.macro import FIXED, MACRO
from darts_noise.space.operations import registry
from darts_noise.space.operations.identity import Noise
from darts_noise.space.spaces import Space, get_space


@pytest.fixture(params=["edge by edge", "all at once"], autouse=True)
def way(request, monkeypatch):
    """Both ways in which a CPU runs the edges, whatever the size of the images."""
    monkeypatch.setattr(stacked, "CACHE", 0 if request.param == "edge by edge" else 2**60)


@pytest.fixture(autouse=True)
def fixed_draws(monkeypatch):
    """The order of the edges differs, and so would what an operation draws on each of them."""

    def forward(noise, x):
        return torch.cos(x.detach()[:, :, :: noise.stride, :: noise.stride])

    monkeypatch.setattr(Noise, "forward", forward)
    monkeypatch.setattr(nn.AlphaDropout, "forward", lambda dropout, x: x.cos())
    monkeypatch.setattr(
        torch, "randint_like", lambda x, n, dtype: torch.full_like(x, n - 1, dtype=dtype)
    )


def both(space="darts", **form):
    """A textbook supernet, a stacked one with its weights, α, and images."""
    torch.manual_seed(0)
    form = {"channels": 4, "num_cells": 4, "nodes": 3, **form}
    if get_space(space).allowed:
        form["nodes"] = get_space(space).nodes
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


MACRO_SPACE = Space(
    "macro",
    ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"),
    nodes=3,
    macro={name: values for name, values in MACRO.items() if name not in FIXED},
)
POINTWISE_SPACE = Space("pointwise", ("none", "conv_1x1", "sep_conv_3x3", "conv_3x3"), nodes=2)
# Edges without a convolution, without a pool and without what only some edges have; a node without.
EDGES_SPACE = Space(
    "edges",
    ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "noise"),
    nodes=2,
    allowed={
        "normal": [["skip_connect"]] * 2
        + [["skip_connect", "sep_conv_3x3"], ["skip_connect", "none"], ["skip_connect", "noise"]],
        "reduce": [
            ["skip_connect"],
            ["sep_conv_3x3"],
            ["max_pool_3x3"],
            ["noise"],
            ["none", "noise"],
        ],
    },
)


OWN_SPACES = [MACRO_SPACE, POINTWISE_SPACE, EDGES_SPACE]
# The space `bounded` has only the textbook.
STACKED = [*(name for name in dn.list_spaces() if name != "bounded"), *OWN_SPACES]
FORMS = [{"nodes": 1}, {"nodes": 5, "num_cells": 3}, {"channels": 5}, {"stem": "imagenet"}]
# Macro choices take several times as long.
MACRO_FORMS = [{"nodes": 1}, {"nodes": 1, "channels": 5}, {"nodes": 1, "stem": "imagenet"}]


@pytest.mark.parametrize(
    ("space", "form"),
    [
        ("extended", {"nodes": 2}),
        ("noise", {"nodes": 1}),
        (MACRO_SPACE, {"nodes": 2}),
        *((space, {}) for space in STACKED if space not in ("extended", "noise", MACRO_SPACE)),
        *((space, form) for space in ("darts", POINTWISE_SPACE, EDGES_SPACE) for form in FORMS),
        *((MACRO_SPACE, form) for form in MACRO_FORMS),
    ],
    ids=lambda s: getattr(s, "name", str(s)),
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
    fast = dn.SuperNet("darts", channels=4, num_cells=3, nodes=2).to_textbook().state_dict()
    for name, value in textbook.state_dict().items():
        assert torch.equal(fast[name], value), name


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
    assert not layers(Gate(4, 1))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "padding", "dilation"), [(3, 0, 1), (5, 4, 1), (3, 1, 2)])
def test_a_users_chain_keeps_its_settings(stride, kernel, padding, dilation):
    """Also where it does not keep the size, with several groups, and with norms of its own."""
    torch.manual_seed(0)
    copies = [
        nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(4, 4, kernel, stride, padding, dilation, 2, bias=False),
            nn.Conv2d(4, 6, 1, bias=False),
            nn.BatchNorm2d(6, eps=0.1, momentum=0.5, affine=False),
        )
        for _ in range(3)
    ]
    x, weights = torch.randn(3, 2, 4, 12, 12), torch.randn(3)
    operation = StackedOperation(copies)
    expected = [w * copy(of_edge) for w, copy, of_edge in zip(weights, copies, x, strict=True)]
    at_once = operation([torch.cat(list(x.relu()), 1)], weights)
    torch.testing.assert_close(at_once[0].chunk(3, 1), tuple(expected))
    torch.testing.assert_close(
        operation.layers[-1].running_var, torch.cat([copy[-1].running_var for copy in copies])
    )
    torch.testing.assert_close(operation(list(x.relu()), weights), expected)


@pytest.mark.parametrize("space", ["darts", "noise"])
def test_in_eval_mode_the_running_statistics_count_also_where_they_stay_still(space):
    textbook, fast, arch, x = both(space)
    for net in (textbook.eval(), fast.eval()):
        expected = net(x, arch())
        with still_statistics(net):
            close(net(x, arch()), expected)


def test_autocast_does_not_round_the_logit_scale():
    net = dn.SuperNet("bounded", 10, 1, 4, 3, "small", nodes=1)
    scales, seen = dict(net.space.macro)["logit_scale"], []
    net.classifier.register_forward_pre_hook(lambda _, given: seen.append(float(given[1])))
    weights = dn.Architecture(net.space)()
    for k in range(len(scales)):
        weights["logit_scale"] = torch.eye(len(scales))[k : k + 1]
        with torch.autocast("cpu", torch.bfloat16):
            net(torch.randn(2, 1, 8, 8), weights)
    assert seen == pytest.approx(scales)


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
