"""The twin's lag equals real steps, and its measurement changes nothing."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, Adam

import darts_noise as dn
from darts_noise.finite import make_guardable
from darts_noise.search.lag import twin_lag
from darts_noise.space.spaces import Space
from darts_noise.train.muon import Muon

OPERATIONS = ("none", "skip_connect", "sep_conv_3x3")
SPACES = [
    Space("plain", OPERATIONS, nodes=1),
    Space("macro", OPERATIONS, nodes=1, macro={"normalisation": ("batch", "layer")}),
]


def batches(count, device="cpu"):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 8, 1, 8, 8, generator=generator).to(device)
    return [(x, torch.arange(8, device=device) % 3) for x in images]


def twin_of(space, rate=0.05, steps=3, kind=SGD, device="cpu"):
    """A twin that is on its way, with momentum behind it."""
    torch.manual_seed(0)
    form = {"num_classes": 3, "in_channels": 1, "channels": 4, "num_cells": 3, "stem": "small"}
    twin, arch = dn.SuperNet(space, **form).to(device), dn.Architecture(space).to(device)
    settings = {"momentum": 0.9, "weight_decay": 1e-3} if kind is SGD else {}
    optimiser = make_guardable(kind(twin.parameters(), rate, **settings))
    walk(twin, arch, optimiser, batches(steps, device), 5.0)
    return twin, arch, optimiser


def walk(twin, arch, optimiser, batches, clip):
    """Steps of the twin, written out."""
    for images, labels in batches:
        optimiser.zero_grad()
        F.cross_entropy(twin(images, arch()), labels).backward(inputs=list(twin.parameters()))
        if clip:
            nn.utils.clip_grad_norm_(twin.parameters(), clip)
        optimiser.step()
    optimiser.zero_grad()


@pytest.mark.parametrize("clip", [0.0, 0.3])
@pytest.mark.parametrize("kind", [SGD, Adam, Muon])
@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
def test_it_is_what_the_next_steps_remove(space, clip, kind, device):
    twin, arch, optimiser = twin_of(space, kind=kind, device=device)
    found = twin_lag(twin, arch, optimiser, batches(3, device), clip)

    def loss():
        images, labels = batches(3, device)[0]
        with torch.no_grad():
            return F.cross_entropy(twin(images, arch()), labels)

    before = loss()
    walk(twin, arch, optimiser, batches(3, device), clip)
    rounding = 1e-4 if device.type == "cpu" else 1e-2  # a GPU adds up in any order
    assert found.item() == pytest.approx((before - loss()).item(), rel=rounding, abs=1e-6)
    assert found > 0.01


def test_it_changes_nothing(device):
    twin, arch, optimiser = twin_of(SPACES[1], device=device)
    held = copy.deepcopy((twin.state_dict(), arch.state_dict(), optimiser.state_dict()))
    twin_lag(twin, arch, optimiser, batches(2, device), 5.0)
    for before, module in zip(held, (twin, arch), strict=False):
        assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
        assert all(p.grad is None for p in module.parameters())
    assert held[2]["param_groups"] == optimiser.state_dict()["param_groups"]
    for key, state in held[2]["state"].items():
        now = optimiser.state_dict()["state"][key]
        assert torch.equal(state["momentum_buffer"], now["momentum_buffer"])


def test_there_is_none_where_nothing_can_be_learnt_and_it_is_negative_uphill():
    twin, arch, optimiser = twin_of(SPACES[0], steps=0)
    with torch.no_grad():
        for alpha in arch.alpha.values():
            alpha[:, OPERATIONS.index("none")] = 100.0  # all images look alike
    labels = torch.arange(9) % 3
    blind = [(torch.randn(9, 1, 8, 8), labels)] * 2
    with torch.no_grad():
        twin.classifier.bias.zero_()
    assert twin_lag(twin, arch, optimiser, blind).item() == pytest.approx(0, abs=1e-6)
    twin, arch, optimiser = twin_of(SPACES[0], rate=0.05)
    optimiser.param_groups[0]["lr"] = 100.0
    assert twin_lag(twin, arch, optimiser, batches(2)) < -0.1
