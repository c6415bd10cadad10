"""The supernet against the reference values, and against the discrete network."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import filled, wave

import darts_noise as dn
from darts_noise.nets.gain import weight_of
from darts_noise.search.strategies.cells import random_cell
from darts_noise.space.operations import registry
from darts_noise.space.spaces import Space, get_space


@pytest.fixture(scope="module", params=["textbook", "shared"])
def reference(request):
    net = filled(request.param, channels=4, num_cells=5)
    alphas = {"normal": wave((14, 8), 0.5, 300), "reduce": wave((14, 8), 0.5, 900)}
    return net, {k: a.requires_grad_() for k, a in alphas.items()}


def relaxed(alphas):
    return {k: a.softmax(-1) for k, a in alphas.items()}


def test_parameters_and_logits_equal_the_reference(golden, reference):
    net, alphas = reference
    assert sum(p.numel() for p in net.parameters()) == golden["supernet"]["params"]
    logits = net(wave((4, 3, 32, 32), 1, 0), relaxed(alphas))
    expected = torch.tensor(golden["supernet"]["logits"], dtype=torch.float64)
    torch.testing.assert_close(logits[:, :4], expected, rtol=1e-8, atol=1e-12)


def test_first_order_gradient_equals_the_reference(golden, reference):
    net, alphas = reference
    expected = golden["supernet"]["first_order"]
    logits = net(wave((4, 3, 32, 32), 1, 1500), relaxed(alphas))
    loss = F.cross_entropy(logits, torch.tensor([5, 9, 2, 6]))
    normal, reduce = torch.autograd.grad(loss, [alphas["normal"], alphas["reduce"]])
    assert loss.item() == pytest.approx(expected["val_loss"], rel=1e-8)
    assert normal.abs().sum().item() == pytest.approx(expected["normal_sum_abs"], rel=1e-8)
    assert reduce.abs().sum().item() == pytest.approx(expected["reduce_sum_abs"], rel=1e-8)
    for row, key in ((normal[0], "normal_row0"), (reduce[13], "reduce_row13")):
        torch.testing.assert_close(
            row, torch.tensor(expected[key], dtype=torch.float64), rtol=1e-8, atol=1e-14
        )


def test_one_hot_weights_leave_one_operation():
    """With all weight on ``skip_connect`` the other candidates' weights do not matter."""
    torch.manual_seed(0)
    net = dn.SuperNet("darts", channels=4, num_cells=3, nodes=2, implementation="textbook").double()
    skip = net.space.operations.index("skip_connect")
    one_hot = torch.zeros(5, 8, dtype=torch.float64)
    one_hot[:, skip] = 1
    weights = {"normal": one_hot, "reduce": one_hot}
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    before = net(x, weights)
    with torch.no_grad():
        for cell in net.cells:
            for mixed in cell.mixed:
                for i, candidate in enumerate(mixed.candidates):
                    for p in candidate.parameters():
                        p.mul_(1.0 if i == skip else 5.0)
    torch.testing.assert_close(net(x, weights), before)


def test_no_batch_norm_but_the_stems_learns_a_scale():
    net = dn.SuperNet("low_pass", channels=4, num_cells=3, implementation="textbook")
    affine = {
        name for name, m in net.named_modules() if isinstance(m, torch.nn.BatchNorm2d) and m.affine
    }
    assert affine == {"stem.layers.1"}
    after_pools = net.cells[0].mixed[0].candidates[1]
    assert isinstance(after_pools[1], torch.nn.BatchNorm2d)


@pytest.mark.parametrize(
    ("space", "nodes"),
    [
        *((s, n) for s in dn.list_spaces() for n in ((4,) if get_space(s).allowed else (1, 2))),
        ("darts", 5),
    ],
)
def test_every_space_and_number_of_nodes(space, nodes):
    net = dn.SuperNet(space, channels=4, num_cells=3, nodes=nodes, stem="small", in_channels=1)
    torch.nn.init.normal_(weight_of(net.classifier))  # a bounded one starts at zero
    arch = dn.Architecture(space, nodes)
    logits = net(torch.randn(2, 1, 8, 8), arch())
    assert logits.shape == (2, 10)
    rows = [row for row in arch.parameters() if row.shape[1] > 1]
    gradients = torch.autograd.grad(logits.square().sum(), rows)
    assert all(g.abs().sum() > 0 for g in gradients)


@pytest.mark.parametrize("implementation", ["textbook", "shared"])
def test_what_is_not_allowed_on_an_edge_is_not_there(implementation):
    """It has no parameters, and no weight brings it back."""
    operations = ("skip_connect", "sep_conv_3x3", "max_pool_3x3")
    edges = [["skip_connect"], ["skip_connect", "sep_conv_3x3"]]
    space = Space("some", operations, nodes=1, allowed={"normal": edges})
    net = dn.SuperNet(space, channels=4, num_cells=3, stem="small", implementation=implementation)
    in_cell = sum(p.numel() for p in net.cells[0].parameters())
    before = sum(p.numel() for p in net.cells[0].preprocess.parameters())
    separable = registry.get_operation("sep_conv_3x3").build(4, 1, False)
    assert in_cell - before == sum(p.numel() for p in separable.parameters())

    images = torch.randn(2, 3, 8, 8)
    weights = {kind: torch.rand(2, 3) for kind in ("normal", "reduce")}
    logits = net.eval()(images, weights)
    for edge, names in enumerate(edges):
        for column, name in enumerate(operations):
            changed = weights["normal"].clone()
            changed[edge, column] += 1
            same = torch.equal(net(images, {**weights, "normal": changed}), logits)
            assert same == (name not in names)


@pytest.mark.parametrize("implementation", ["textbook", "shared"])
def test_every_edge_draws_its_own_noise(implementation, monkeypatch):
    drawn = []

    def recorded(*args, **kwargs):
        drawn.append(torch.empty(args[0].shape).normal_())
        return drawn[-1]

    net = dn.SuperNet("robust_darts_s4", channels=4, num_cells=3, implementation=implementation)
    monkeypatch.setattr(torch, "randn_like", recorded)
    net(torch.randn(2, 3, 8, 8), dn.Architecture("robust_darts_s4")())
    assert len(drawn) == 3 * 14
    assert len({tuple(noise.flatten()[:4].tolist()) for noise in drawn}) == 3 * 14


def found(net, arch, images, autocast=False):
    """Logits, the gradients of a loss by α as one vector, and those by w with the textbook's names;
    as float64 on the CPU."""
    device = images.device.type
    with torch.autocast(device, torch.bfloat16, enabled=autocast):
        logits = net(images, arch())
    loss = F.cross_entropy(logits, torch.arange(len(images), device=device))
    alphas, weights = list(arch.parameters()), list(net.parameters())
    values = torch.autograd.grad(loss, [*alphas, *weights], materialize_grads=True)
    for weight, value in zip(weights, values[len(alphas) :], strict=True):
        weight.data = value
    by_name = net if net.implementation == "textbook" else net.to_textbook()
    figures = {"logits": logits, "α": torch.cat([v.flatten() for v in values[: len(alphas)]])}
    figures |= dict(by_name.named_parameters())
    return {name: value.detach().double().cpu() for name, value in figures.items()}


@pytest.fixture(params=["darts", pytest.param("noise", marks=pytest.mark.slow)])
def cases(request, device):
    """The textbook in float64 on the CPU, then both implementations in float32 on the device."""
    torch.manual_seed(0)
    form = {"channels": 4, "num_cells": 3, "nodes": 2 if request.param == "darts" else 1}
    textbook = dn.SuperNet(request.param, **form, implementation="textbook")
    shared = dn.SuperNet(request.param, **form).load_textbook(textbook)
    arch = dn.Architecture(request.param, form["nodes"])
    images = torch.randn(8, 3, 12, 12)
    with torch.no_grad():
        for alpha in arch.parameters():
            alpha.normal_()
    exact = (module.double() for module in copy.deepcopy((textbook, arch)))
    return [
        (*exact, images.double()),
        *((net.to(device), arch.to(device), images.to(device)) for net in (textbook, shared)),
    ]


def test_both_implementations_are_exact_on_every_device(cases):
    expected, *others = (found(*case) for case in cases)
    for figures in others:
        for name, value in expected.items():
            largest = value.abs().max().item()
            torch.testing.assert_close(figures[name], value, rtol=0, atol=1e-3 * largest, msg=name)


def test_both_implementations_keep_their_states_in_bfloat16(cases):
    """Autocast on a GPU adds up to float32 unless it is told otherwise."""
    expected = found(*cases[0])
    types = set()
    for net, arch, images in cases[1:]:
        for cell in net.cells:
            cell.register_forward_hook(lambda cell, inputs, out: types.add(out.dtype))
        figures = found(net, arch, images, autocast=True)
        torch.testing.assert_close(figures["logits"], expected["logits"], rtol=0.1, atol=0.1)
        assert F.cosine_similarity(figures["α"], expected["α"], 0) > 0.85
    assert types == {torch.bfloat16}


@pytest.mark.parametrize("implementation", ["shared", "textbook"])
@pytest.mark.parametrize(("space", "nodes"), [("noise", 2), ("darts", 3)])
def test_weights_of_another_space_are_refused(implementation, space, nodes):
    net = dn.SuperNet("darts", channels=4, num_cells=3, nodes=2, implementation=implementation)
    with pytest.raises(ValueError, match=r"weights\['normal'\]: expected \(5, 8\)"):
        net(torch.randn(2, 3, 8, 8), dn.Architecture(space, nodes)())
    with pytest.raises(ValueError, match=r"weights\['reduce'\]: .* got None"):
        net(torch.randn(2, 3, 8, 8), {"normal": torch.zeros(5, 8)})


def test_an_operation_that_builds_nothing_is_named(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    dn.register_operation("convolution", name="nothing")(lambda channels, stride, affine: None)
    with pytest.raises(ValueError, match=r"operation 'nothing': expected an nn\.Module, got None"):
        dn.SuperNet(dn.Space("mine", ("none", "nothing")), channels=4, num_cells=3)


PATHS = {
    "free": Space(
        "free",
        ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"),
        nodes=3,
        macro={"normalisation": ("batch", "none"), "pooling": ("none", "average_2"),
               "logit_scale": (1.0, 16.0), "width": (1.0, 0.5)},
    ),
    "plain": Space("plain", ("skip_connect", "conv_3x3", "avg_pool_3x3"), nodes=2),
}  # fmt: skip


@pytest.mark.parametrize("space", PATHS.values(), ids=PATHS)
def test_a_path_equals_weights_of_one_and_zero(space):
    torch.manual_seed(0)
    net = dn.SuperNet(space, channels=4, num_cells=4, implementation="textbook").double()
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    for _ in range(4):
        cell = random_cell(space)
        weights = {
            name: torch.tensor([[float(v == cell.macro[name]) for v in values]]).double()
            for name, values in space.macro
        }
        for kind in ("normal", "reduce"):
            rows = torch.zeros(len(space.edges), len(space.operations), dtype=torch.float64)
            for node, pairs in enumerate(getattr(cell, kind)):
                for operation, p in pairs:
                    rows[space.edges.index((p, node)), space.operations.index(operation)] = 1
            weights[kind] = rows
        torch.testing.assert_close(net.path(x, cell), net(x, weights))


def test_a_path_of_bounded_gain_equals_the_discrete_network():
    torch.manual_seed(0)
    space = replace(get_space("bounded", 3), macro=(("gain", ("bounded",)),))
    net = dn.SuperNet(space, channels=4, num_cells=4).double()
    cell = random_cell(space)
    alone = dn.create_model(cell, channels=4, num_cells=4).double()
    for name in ("stem", "classifier"):
        getattr(alone, name).load_state_dict(getattr(net, name).state_dict())
    for plan, own, mixed in zip(net.plans, alone.cells, net.cells, strict=True):
        own.preprocess.load_state_dict(mixed.preprocess.state_dict())
        for node, pairs in enumerate(getattr(cell, plan.kind)):
            for place, (operation, p) in enumerate(pairs):
                edge = mixed.mixed[space.edges.index((p, node))]
                taken = edge.candidates[space.operations.index(operation)]
                own.operations[node][place].load_state_dict(taken.state_dict())
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(net.path(x, cell), alone(x))


def test_only_a_textbook_supernet_has_paths():
    with pytest.raises(ValueError, match=r"^path: expected a textbook supernet, got shared"):
        dn.SuperNet("darts", channels=4, num_cells=3).path(torch.zeros(1, 3, 8, 8), "darts_v2")
