"""Hypergradients against the reference values, closed forms, and each other."""

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import filled, wave
from torch import nn

import darts_noise as dn
from darts_noise.search.hypergradients import METHODS, InnerStep, hypergradient, objective

ETA, DECAY = 0.025, 3e-4


def problem(net, alphas, side=32):
    """Training and validation losses of the reference, as functions of the weights."""

    def loss(shift, labels):
        device = next(net.parameters()).device
        x, y = wave((4, 3, side, side), 1, shift).to(device), torch.tensor(labels, device=device)
        return objective(
            net,
            lambda call: F.cross_entropy(call(x, {k: a.softmax(-1) for k, a in alphas.items()}), y),
        )

    return loss(1500, [5, 9, 2, 6]), loss(0, [3, 1, 4, 1])


def reference_alphas(edges=14, device="cpu"):
    return {
        "normal": wave((edges, 8), 0.5, 300).to(device).requires_grad_(),
        "reduce": wave((edges, 8), 0.5, 900).to(device).requires_grad_(),
    }


def run(method, net, alphas, side=32, **how):
    outer, inner = problem(net, alphas, side)
    step = how.pop("step", InnerStep(ETA, DECAY))
    return hypergradient(
        outer,
        inner,
        list(net.parameters()),
        list(alphas.values()),
        method=method,
        step=step,
        **how,
    )


def smooth_supernet():
    """A supernet without kinks: Softplus for ReLU, average for max pool."""
    torch.manual_seed(0)
    net = filled("textbook", channels=4, num_cells=3, nodes=1)
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Softplus())
            elif isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(3, child.stride, 1, count_include_pad=False))
    return net


def flat(result):
    return torch.cat([g.flatten() for g in result.gradients])


@pytest.fixture(scope="module")
def exact():
    """The exact hypergradient of the reference supernet."""
    return run("exact", filled("shared", channels=4, num_cells=5), reference_alphas())


def test_exact_equals_the_reference(golden, exact):
    expected, result = golden["supernet"]["second_order_eta0.025"], exact
    normal, reduce = result.gradients
    assert result.loss.item() == pytest.approx(expected["val_loss_unrolled"], rel=1e-8)
    assert normal.abs().sum().item() == pytest.approx(expected["exact_normal_sum_abs"], rel=1e-8)
    assert reduce.abs().sum().item() == pytest.approx(expected["exact_reduce_sum_abs"], rel=1e-8)
    for row, key in ((normal[0], "exact_normal_row0"), (reduce[13], "exact_reduce_row13")):
        torch.testing.assert_close(
            row, torch.tensor(expected[key], dtype=torch.float64), rtol=1e-8, atol=1e-13
        )


def test_first_order_equals_the_reference(golden):
    expected = golden["supernet"]["first_order"]
    alphas = reference_alphas()
    result = run("first_order", filled("shared", channels=4, num_cells=5), alphas)
    assert result.loss.item() == pytest.approx(expected["val_loss"], rel=1e-8)
    torch.testing.assert_close(
        result.gradients[0][0],
        torch.tensor(expected["normal_row0"], dtype=torch.float64),
        rtol=1e-8,
        atol=1e-14,
    )


def test_finite_difference_approaches_exact_as_epsilon_squared_on_a_smooth_supernet():
    net, alphas = smooth_supernet(), reference_alphas(2)
    expected = flat(run("exact", net, alphas, 8))
    errors = []
    for epsilon in (1e-1, 1e-2, 1e-3):
        found = flat(run("finite_difference", net, alphas, 8, epsilon=epsilon))
        errors.append(((found - expected).norm() / expected.norm()).item())
    assert errors[0] < 0.1
    assert errors[1] / errors[0] == pytest.approx(1e-2, rel=0.2)
    assert errors[2] / errors[1] == pytest.approx(1e-2, rel=0.2)


def test_finite_difference_is_far_off_on_relu_and_max_pool(exact):
    """Not a wish but a warning: kinks dominate at the customary ε, as the docstring says."""
    net = filled("shared", channels=4, num_cells=5)
    found, expected = flat(run("finite_difference", net, reference_alphas())), flat(exact)
    assert ((found - expected).norm() / expected.norm()).item() > 0.3


@pytest.mark.parametrize("method", METHODS)
def test_everything_is_left_as_it_was(method, device):
    torch.manual_seed(0)
    net = dn.SuperNet("darts", channels=4, num_cells=3, nodes=1).double()
    net.stem.add_module("noise", nn.Dropout(0.1))
    net.to(device)
    alphas = reference_alphas(2, device)
    optimiser = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-3)
    outer, inner = problem(net, alphas, 8)
    inner(list(net.parameters())).backward()
    optimiser.step()
    optimiser.zero_grad()
    for alpha in alphas.values():
        alpha.grad = None
    before = copy.deepcopy((net.state_dict(), optimiser.state_dict()))
    rng = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    hypergradient(
        outer,
        inner,
        list(net.parameters()),
        list(alphas.values()),
        method=method,
        step=InnerStep.of(optimiser),
    )
    after = (net.state_dict(), optimiser.state_dict())
    assert all(map(torch.equal, rng, [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]))
    assert all(torch.equal(before[0][k], after[0][k]) for k in before[0])
    for key, state in before[1]["state"].items():
        assert torch.equal(state["momentum_buffer"], after[1]["state"][key]["momentum_buffer"])
    assert all(p.grad is None for p in [*net.parameters(), *alphas.values()])


def test_the_virtual_step_is_the_optimisers():
    """Momentum and weight decay included: `apply` equals what torch.optim.SGD does next."""
    torch.manual_seed(0)
    w = [nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(2, 2))]
    optimiser = torch.optim.SGD(w, 0.1, momentum=0.9, weight_decay=0.05)
    for _ in range(3):
        gradients = [torch.randn_like(p) for p in w]
        expected = InnerStep.of(optimiser).apply([p.detach() for p in w], gradients)
        for p, g in zip(w, gradients, strict=True):
            p.grad = g
        optimiser.step()
        for p, e in zip(w, expected, strict=True):
            torch.testing.assert_close(p.detach(), e)


@pytest.mark.parametrize("method", METHODS)
def test_bf16_autocast_stays_close_to_float32(method, device):
    """Only the networks' passes are in bf16; what is done with their gradients is in float32."""
    torch.manual_seed(0)
    net = dn.SuperNet("darts", channels=8, num_cells=3, nodes=1, stem="small")
    arch = dn.Architecture("darts", nodes=1)
    with torch.no_grad():
        arch.normal.normal_()
        arch.reduce.normal_()
    net.to(device), arch.to(device)

    def loss(x, y):
        x, y = x.to(device), y.to(device)
        return objective(net, lambda call: F.cross_entropy(call(x, arch()).float(), y))

    outer, inner = (loss(torch.randn(32, 3, 8, 8), torch.randint(10, (32,))) for _ in range(2))
    found = {}
    for enabled in (False, True):
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            result = hypergradient(
                outer,
                inner,
                list(net.parameters()),
                list(arch.parameters()),
                method=method,
                step=InnerStep(0.025, 3e-4),
            )
        assert all(g.dtype == torch.float32 for g in result.gradients)
        found[enabled] = flat(result)
    cosine = F.cosine_similarity(found[False], found[True], dim=0)
    # The finite difference divides by a small step and so multiplies bf16's rounding.
    assert cosine > (0.5 if method == "finite_difference" else 0.98)


class Quadratic:
    """inner = ½ wᵀA w − wᵀBα, outer = ½ ‖w − t‖²: w* = A⁻¹Bα, d outer/dα = BᵀA⁻¹(w* − t)."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
        self.a = root @ root.T / 4 + torch.eye(4, dtype=torch.float64)
        self.b = torch.randn(4, 3, generator=generator, dtype=torch.float64)
        self.t = torch.randn(4, generator=generator, dtype=torch.float64)
        self.alpha = torch.randn(3, generator=generator, dtype=torch.float64).requires_grad_()

    def inner(self, weights):
        [w] = weights
        return 0.5 * w @ self.a @ w - w @ (self.b @ self.alpha)

    def outer(self, weights):
        return 0.5 * (weights[0] - self.t).square().sum()


def test_neumann_approaches_the_implicit_gradient_with_more_terms():
    q = Quadratic()
    w = torch.linalg.solve(q.a, q.b @ q.alpha.detach())
    expected = q.b.T @ torch.linalg.solve(q.a, w - q.t)
    errors = []
    for terms in (0, 5, 20, 200):
        result = hypergradient(
            q.outer, q.inner, [w], [q.alpha], method="neumann", step=InnerStep(0.3), terms=terms
        )
        errors.append((result.gradients[0] - expected).norm().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-10
    assert errors[0] > 0.1


def test_neumann_counts_weight_decay_as_part_of_the_inner_problem():
    q = Quadratic()
    decayed = q.a + 0.5 * torch.eye(4, dtype=torch.float64)
    w = torch.linalg.solve(decayed, q.b @ q.alpha.detach())
    result = hypergradient(
        q.outer,
        q.inner,
        [w],
        [q.alpha],
        method="neumann",
        step=InnerStep(0.3, weight_decay=0.5),
        terms=300,
    )
    expected = q.b.T @ torch.linalg.solve(decayed, w - q.t)
    torch.testing.assert_close(result.gradients[0], expected)


@pytest.mark.parametrize("method", ["exact", "finite_difference"])
def test_one_step_on_the_quadratic_has_a_closed_form(method):
    q = Quadratic()
    w = torch.ones(4, dtype=torch.float64)
    buffer = torch.full((4,), 0.7, dtype=torch.float64)
    step = InnerStep(0.2, weight_decay=0.1, momentum=0.9, buffers=[buffer])
    result = hypergradient(q.outer, q.inner, [w], [q.alpha], method=method, step=step)
    gradient = q.a @ w - q.b @ q.alpha.detach() + 0.1 * w + 0.9 * buffer
    expected = 0.2 * q.b.T @ (w - 0.2 * gradient - q.t)
    torch.testing.assert_close(result.gradients[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_flat_outer_loss_has_no_gradient(method):
    """As a penalty has where the twin does no better than guess."""
    q = Quadratic()
    result = hypergradient(
        lambda weights: q.outer(weights).mul(0),
        q.inner,
        [q.t + 1],
        [q.alpha],
        method=method,
        step=InnerStep(0.1),
    )
    assert torch.equal(result.gradients[0], torch.zeros(3, dtype=torch.float64))


def test_names_are_checked():
    q = Quadratic()
    with pytest.raises(ValueError, match="did you mean 'exact'"):
        hypergradient(q.outer, q.inner, [q.t], [q.alpha], method="exakt")
    with pytest.raises(ValueError, match="needs the inner step"):
        hypergradient(q.outer, q.inner, [q.t], [q.alpha], method="exact")
