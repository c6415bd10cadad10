"""The Fisher information over a training: the trace of the exact matrix, with sampled labels."""

import pytest
import torch
import torch.nn.functional as F
from examined import subject
from lightning_fabric import Fabric
from torch import nn
from torch.func import functional_call, jacrev

import darts_noise as dn
from darts_noise.data.batches import BatchStream
from darts_noise.data.datasets import load_dataset
from darts_noise.data.images import channel_statistics
from darts_noise.data.seeds import drawing, generator
from darts_noise.examine.section import Pieces
from darts_noise.examine.two_phases import (
    TwoPhases,
    TwoPhasesSection,
    fisher_trace,
    two_phases,
)
from darts_noise.train.loop import Recipe, train_from_scratch

CPU = Fabric(accelerator="cpu", devices=1)


def small_net(num_classes=3, in_channels=1):
    return nn.Sequential(
        nn.Conv2d(in_channels, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, num_classes),
    )


def exact_fisher(net, images):
    """The matrix E_x Jᵀ (diag p − p pᵀ) J, with the Jacobian J of the logits."""
    weights = {name: p.detach() for name, p in net.named_parameters()}
    jacobians = jacrev(lambda w: functional_call(net, w, (images,)))(weights)
    J = torch.cat([jacobian.flatten(2) for jacobian in jacobians.values()], 2)  # (N, C, P)
    p = net(images).softmax(1)
    of_logits = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    return torch.einsum("nip,nij,njq->pq", J, of_logits, J).detach() / len(images)


def test_the_trace_of_each_layer_is_that_of_the_exact_matrix():
    """To within 4 standard errors, from 8 estimates."""
    torch.manual_seed(0)
    net, images = small_net().eval(), 2 * torch.randn(8, 1, 5, 5)
    diagonal = exact_fisher(net, images).diagonal()
    sizes = dict.fromkeys("015", 0)
    for name, parameter in net.named_parameters():
        sizes[name[0]] += parameter.numel()
    exact = dict(zip(sizes, map(float, map(sum, diagonal.split([*sizes.values()]))), strict=True))
    random = generator(0)
    estimates = [fisher_trace(net, images, random, draws=25) for _ in range(8)]
    for layer, trace in exact.items():
        found = torch.tensor([estimate[layer] for estimate in estimates])
        assert abs(found.mean() - trace) < 4 * found.std() / len(found) ** 0.5
        assert found.std() / found.mean() < 0.2


def test_the_labels_are_the_networks_own_not_those_of_the_data():
    """Where the network is certain the Fisher information is 0; a wrong label has a gradient."""
    net = nn.Linear(4, 2)
    with torch.no_grad():
        net.weight.zero_()
        net.bias.copy_(torch.tensor([60.0, 0.0]))
    images = torch.randn(10, 4)
    F.cross_entropy(net(images), torch.ones(10, dtype=torch.long)).backward()
    assert net.weight.grad.square().sum() > 0.1
    assert sum(fisher_trace(net, images, generator(0)).values()) < 1e-12


def test_a_network_of_cells_of_bounded_gain_has_a_trace_by_layer():
    torch.manual_seed(0)
    nodes = [[["conv_3x3", 0]]]
    cell = dn.Genotype(nodes, [2], nodes, [2], macro={"gain": "bounded"})
    net = dn.create_model(cell, num_classes=3, in_channels=1, channels=4, num_cells=3, stem="small")
    modes = [module.training for module in net.modules()]
    found = fisher_trace(net, torch.randn(4, 1, 8, 8), generator(0))
    assert {"cells.0", "cells.1", "cells.2", "classifier"} <= found.keys()
    assert found["classifier"] > 0
    assert [module.training for module in net.modules()] == modes


def test_a_training_is_read_without_changing_it():
    data = load_dataset("digits").train.subset(range(60))
    stream = BatchStream(data, 20, channel_statistics(data.images), seed=1)
    recipe, made = Recipe("adam", 1e-2, 2), []

    def make():
        made.append(small_net(10))
        return made[-1]

    found = two_phases(make, stream, recipe, CPU, seed=3, samples=30)
    plain = train_from_scratch(lambda: small_net(10), stream, recipe, CPU, seed=3)
    trained = plain.net.state_dict().values()
    assert all(map(torch.equal, made[-1].state_dict().values(), trained))
    assert found.steps == tuple(range(7))
    assert found.per_epoch == 3
    assert set(found.layers) == {"0", "1", "5"}
    assert found.traces[found.peak] == max(found.traces)
    assert len(found.accuracies) == len(found.losses) == 7
    with drawing(3):
        first = small_net(10)
    torch.testing.assert_close(made[0].state_dict(), first.state_dict())
    assert found == two_phases(make, stream, recipe, CPU, seed=3, samples=30)
    assert found.losses[-1] < found.losses[0] == pytest.approx(2.3, abs=0.3)


def test_the_section_names_the_peak_and_shows_each_layer():
    section = TwoPhasesSection(samples=20)
    found = section.measure(subject(epochs=3), Pieces())
    assert len(section.figures(found)) == 3
    assert [row[0] for row in section.tables(found)[0].rows] == ["all", "1", "3"]
    layers = {"first": (1.0, 5.0, 2.0), "last": (0.0, 1.0, 1.0)}
    made = TwoPhases((0, 8, 16), 4, layers, (2.0, 1.0, 0.5), (0.1, 0.5, 1.0))
    assert "largest after 2.0 epochs, with 6" in section.sentence(made)
    rising = TwoPhases((0, 8, 16), 4, {"all": (1.0, 2.0, 3.0)}, made.losses, made.accuracies)
    assert "no second phase" in section.sentence(rising)
