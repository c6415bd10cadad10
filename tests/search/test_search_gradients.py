"""Passes and their gradients equal the formulas."""

import math

import torch
import torch.nn.functional as F

import darts_noise as dn
from darts_noise.search.gradients import first_order_gradient, mixed_pass, probing_loss


def small(classes=3):
    torch.manual_seed(0)
    form = {"channels": 4, "num_cells": 3, "nodes": 1, "in_channels": 1, "num_classes": classes}
    net = dn.SuperNet("noise", **form, stem="small").double()
    relaxed = {k: w.detach() for k, w in dn.Architecture("noise", 1).double()().items()}
    return net, relaxed


def batch(n):
    return torch.randn(n, 1, 8, 8, dtype=torch.float64), torch.arange(n) % 3


def test_a_mixed_pass_descends_the_sum_of_both_losses():
    """With batches of unlike sizes, whose means count and not their samples."""
    net, relaxed = small()
    data, noise = batch(5), batch(3)
    done, of_noise = mixed_pass(
        net, relaxed, data, noise, lambda loss: 0.7 * (1 - loss / math.log(3))
    )
    logits = net(torch.cat([data[0], noise[0]]), relaxed)
    losses = F.cross_entropy(logits[:5], data[1]), F.cross_entropy(logits[5:], noise[1])
    total = losses[0] + 0.7 * (1 - losses[1] / math.log(3))
    expected = torch.autograd.grad(total, list(net.parameters()))
    for found in (done, of_noise):
        for one, other in zip(found.gradients, expected, strict=True):
            torch.testing.assert_close(one, other)
    torch.testing.assert_close(done.loss, losses[0])
    torch.testing.assert_close(of_noise.loss, losses[1])
    torch.testing.assert_close(of_noise.logits, logits[5:])
    assert torch.equal(of_noise.labels, noise[1])


def test_a_probing_loss_is_the_training_loss_and_leaves_the_statistics():
    net, relaxed = small()
    images, labels = batch(6)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    found = probing_loss(net.train(), (images, labels))(relaxed)
    assert all(torch.equal(before[name], buffer) for name, buffer in net.named_buffers())
    torch.testing.assert_close(found, F.cross_entropy(net(images, relaxed), labels))


def test_the_first_order_gradient_is_that_of_the_formula_and_changes_nothing():
    net, _ = small()
    net.train()
    arch = dn.Architecture("noise", 1).double()
    images, labels = batch(6)
    held = {name: value.clone() for name, value in net.state_dict().items()}
    found = first_order_gradient(net, arch, (images, labels))
    assert all(torch.equal(held[name], value) for name, value in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in (*net.parameters(), *arch.parameters()))
    loss = F.cross_entropy(net(images, arch()), labels)
    torch.testing.assert_close(found.loss, loss.detach())
    expected = torch.autograd.grad(loss, list(arch.parameters()))
    for one, other in zip(found.gradients, expected, strict=True):
        torch.testing.assert_close(one, other)
