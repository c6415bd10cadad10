"""α gradients of every penalty against central differences, in float64, with macro rows too."""

import copy
from functools import cache

import pytest
import torch
import torch.nn.functional as F

import darts_noise as dn
from darts_noise.noise.penalties import Penalty, list_penalties, make_penalty
from darts_noise.search.gradients import weights_pass
from darts_noise.search.hypergradients import InnerStep
from darts_noise.search.penalty_gradient import SupernetOnNoise
from darts_noise.space.spaces import Space

OPERATIONS = ("skip_connect", "max_pool_3x3", "sep_conv_3x3")
PLAIN = Space("plain", OPERATIONS, nodes=1)
MACRO = Space(
    "macro",
    OPERATIONS,
    nodes=1,
    macro={
        "normalisation": ("batch", "none"),
        "pooling": ("none", "average_2"),
        "width": (1.0, 0.5),
    },
)
CLASSES, ETA = 3, 0.05
SETTINGS = {
    "twin": {},
    "lookahead": {"learning_rate": ETA},
    "gram": {"samples": 3, "jitter": 0.1},
    "shared": {},
}


def made(name):
    return make_penalty({name: SETTINGS[name]})


def batch(shift):
    generator = torch.Generator().manual_seed(shift)
    images = torch.randn(6, 1, 8, 8, generator=generator, dtype=torch.float64)
    return images, torch.tensor([0, 1, 2, 2, 1, 0])


NOISE, REAL = batch(1), batch(2)


def trained(space):
    """α apart from each other, and a supernet that is better than a guess on the noise."""
    return copy.deepcopy(_trained(space))


@cache
def _trained(space):
    torch.manual_seed(0)
    form = {"num_classes": CLASSES, "in_channels": 1, "channels": 4, "num_cells": 3}
    net = dn.SuperNet(space, **form, stem="small").double()
    arch = dn.Architecture(space).double()
    with torch.no_grad():
        for parameter in arch.parameters():
            parameter.normal_(0, 0.3)
    optimiser = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    for _ in range(8):
        done = weights_pass(net, {k: w.detach() for k, w in arch().items()}, NOISE)
        for parameter, gradient in zip(net.parameters(), done.gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
        optimiser.zero_grad()
    assert done.loss < 0.9 * torch.log(torch.tensor(float(CLASSES)))
    return net, arch


def directions(parameters):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]


def differences(value, parameters, size=1e-6):
    """Central differences of a function of no arguments along a random direction in each."""
    found = []
    for parameter, direction in zip(parameters, directions(parameters), strict=True):
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * size * direction
            sides.append(float(value()))
            with torch.no_grad():
                parameter -= sign * size * direction
        found.append((sides[0] - sides[1]) / (2 * size))
    return torch.tensor(found, dtype=torch.float64)


def penalty_gradient(penalty, net, arch, noise, real, classes, **how):
    found, _ = SupernetOnNoise(net, arch, noise, real, classes, **how).differentiate(penalty)
    return found


def along_directions(gradients):
    pairs = zip(gradients, directions(gradients), strict=True)
    return torch.stack([(gradient * direction).sum() for gradient, direction in pairs])


@pytest.mark.parametrize("space", [PLAIN, MACRO], ids=lambda s: s.name)
@pytest.mark.parametrize("name", list_penalties())
def test_the_alpha_gradient_is_the_central_difference(name, space):
    net, arch = trained(space)

    def value():
        return penalty_gradient(made(name), net, arch, NOISE, REAL, CLASSES).loss

    found = penalty_gradient(made(name), net, arch, NOISE, REAL, CLASSES).gradients
    expected = differences(value, list(arch.parameters()))
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(along_directions(found), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["twin", "lookahead"])
def test_so_it_is_through_the_twins_next_step(name):
    net, arch = trained(PLAIN)
    images, labels = NOISE

    def value():
        """The penalty of a twin that has made the step, with batch norms left as they were."""
        stepped = copy.deepcopy(net)
        loss = F.cross_entropy(stepped(images, arch()), labels)
        step = torch.autograd.grad(loss, list(stepped.parameters()), allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(stepped.parameters(), step, strict=True):
                if gradient is not None:
                    parameter -= ETA * gradient
        return penalty_gradient(made(name), stepped, arch, NOISE, REAL, CLASSES).loss

    found = penalty_gradient(
        made(name), net, arch, NOISE, REAL, CLASSES, method="exact", step=InnerStep(ETA)
    )
    assert float(found.loss) == pytest.approx(float(value()), rel=1e-10)
    expected = differences(value, list(arch.parameters()))
    torch.testing.assert_close(along_directions(found.gradients), expected, rtol=1e-4, atol=1e-8)


def test_one_pass_gives_what_two_would():
    """To first order the twin's fast path is the general one beside a training step's gradient."""
    net, arch = trained(MACRO)
    slow = penalty_gradient(made("twin"), net, arch, NOISE, REAL, CLASSES)
    relaxed = {k: w.detach() for k, w in arch().items()}
    own = weights_pass(copy.deepcopy(net), relaxed, NOISE)
    fast, done = made("twin").gradient(SupernetOnNoise(net, arch, NOISE, REAL, CLASSES))
    torch.testing.assert_close(fast.loss, slow.loss)
    for one, other in zip(fast.gradients, slow.gradients, strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(done.gradients, own.gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", list_penalties())
def test_nothing_is_changed(name):
    net, arch = trained(MACRO)
    net.train()
    modes = [m.training for m in net.modules()]
    before, rng = copy.deepcopy((net.state_dict(), arch.state_dict())), torch.get_rng_state()
    penalty_gradient(made(name), net, arch, NOISE, REAL, CLASSES)
    for held, module in zip(before, (net, arch), strict=True):
        assert all(torch.equal(held[k], v) for k, v in module.state_dict().items())
        assert all(p.grad is None for p in module.parameters())
    assert modes == [m.training for m in net.modules()]
    assert torch.equal(rng, torch.get_rng_state())


def test_a_sampled_relaxation_is_the_same_before_and_after_a_step():
    class Twice(Penalty):
        def __call__(self, inputs):
            first, second = (inputs.logits(inputs.weights, inputs.noise[0]) for _ in range(2))
            assert torch.equal(first, second)
            return first.sum()

    net, arch = trained(PLAIN)
    arch.relaxation = lambda alpha: F.gumbel_softmax(alpha, hard=True)
    penalty_gradient(Twice(), net, arch, NOISE, REAL, CLASSES)


def test_with_running_statistics_an_image_does_not_see_its_batch():
    class Alone(Penalty):
        norms = "running"

        def __call__(self, inputs):
            together, alone = (inputs.logits(inputs.weights, REAL[0][:n]) for n in (6, 1))
            torch.testing.assert_close(together[:1], alone)
            return together.sum()

    net, arch = trained(PLAIN)
    penalty_gradient(Alone(), net.train(), arch, NOISE, REAL, CLASSES)
