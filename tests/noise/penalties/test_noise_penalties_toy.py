"""Every penalty moves α from the candidate that can fit the noise to the one that cannot."""

import pytest
import torch
from toy_search import (
    data,
    learn,
    move_alpha,
    noise,
    penalty_gradient,
    share_of_mean,
    undecided,
)

from darts_noise.noise.penalties import list_penalties, make_penalty
from darts_noise.search.gradients import mixed_pass

WELL_POSED = ["twin", {"twin": {"form": "log"}}, "lookahead", "gram"]


@pytest.mark.parametrize("setting", WELL_POSED, ids=str)
def test_alpha_moves_to_the_candidate_that_cannot_fit_the_noise(setting):
    net, arch = undecided()
    penalty = make_penalty(setting)
    if penalty.weights == "own":
        learn(net, arch, data(), 20)
    seen = move_alpha(penalty, net, arch, 120)
    assert share_of_mean(arch) > 0.9
    assert seen[-1] < 0.5 * max(seen)


@pytest.mark.parametrize("steps", [0, 40])
@pytest.mark.parametrize("setting", WELL_POSED, ids=str)
def test_alpha_is_flat_where_the_noise_cannot_be_learnt_at_all(setting, steps):
    """The images of noise are alike, and labelled at random; the kernel's bound is of order ε."""
    net, arch = undecided()
    images, labels = noise()
    alike = (images[:1] + 1).expand_as(images), labels
    learn(net, arch, alike, steps)
    found = penalty_gradient(make_penalty(setting), net, arch, alike)
    bound = 1e-2 if setting == "gram" else 1e-12
    assert abs(found.loss.item()) <= bound
    assert found.gradients[0].abs().max() <= bound


def test_the_ablation_tells_alpha_next_to_nothing_where_the_twin_speaks():
    """w has learnt to guess on noise at an α that could fit it: the penalty is 0, and so is what α
    is told; the twin at the same α fits the noise."""
    shared, arch = undecided()
    penalty = make_penalty("shared")
    optimiser = torch.optim.SGD(shared.parameters(), 0.3, momentum=0.9)
    for _ in range(150):
        relaxed = {k: w.detach() for k, w in arch().items()}
        done, _ = mixed_pass(
            shared, relaxed, data(), noise(), lambda loss: penalty.of_loss(loss, 2)
        )
        for parameter, gradient in zip(shared.parameters(), done.gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
    assert done.loss < 0.1  # the data are learnt
    twin, _ = undecided()
    learn(twin, arch, noise(), 150)
    told = {
        name: penalty_gradient(make_penalty(name), net, arch, noise())
        for name, net in (("shared", shared), ("twin", twin))
    }
    assert told["twin"].loss > 0.3
    assert told["shared"].loss < 0.01
    size = {name: found.gradients[0].abs().max() for name, found in told.items()}
    assert size["shared"] < 0.05 * size["twin"]


def test_every_penalty_is_tested_here():
    assert sorted({*WELL_POSED[::2], *WELL_POSED[3:], "shared"}) == list_penalties()
