"""Influences of training images, against autograd and against training without an image."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from examined import blobs, linear, require_shown, subject
from torch import nn

from darts_noise.examine.influence import (
    InfluenceSection,
    influences,
    last_layer_influences,
    last_layer_inputs,
    sample_gradients,
    self_influence,
    trace,
)
from darts_noise.examine.section import Pieces


def test_the_gradients_are_those_of_each_image_alone():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
    ).eval()
    images, labels = torch.randn(5, 1, 4, 4), torch.arange(5) % 4
    for row, image, label in zip(
        sample_gradients(net, images, labels), images, labels, strict=True
    ):
        loss = F.cross_entropy(net(image[None]), label[None])
        own = torch.autograd.grad(loss, list(net.parameters()))
        torch.testing.assert_close(row, torch.cat([g.flatten() for g in own]))


def test_a_network_that_looks_at_its_images_has_the_same_gradients():
    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, x):
            return self.linear(x if float(x.amax()) < 100 else x / 100)

    net = Looking()
    images, labels = torch.randn(5, 1, 4, 4), torch.arange(5) % 4
    torch.testing.assert_close(
        sample_gradients(net, images, labels), sample_gradients(net.linear, images, labels)
    )


def test_influence_predicts_what_a_training_without_an_image_would_change():
    """On a convex problem: softmax regression by gradient descent over all images."""
    train, test = blobs(30, noise=90), blobs(3, noise=90, seed=5)
    examined = subject(linear, train)
    rate, steps = 0.1, 8
    x, y = examined.normalisation(train.images).flatten(1), train.labels
    x_test = examined.normalisation(test.images).flatten(1)
    net = linear()
    torch.nn.init.zeros_(net[1].weight)
    torch.nn.init.zeros_(net[1].bias)

    def descend(kept: torch.Tensor, watch=lambda weight, bias: None):
        """Return the test losses (T,) after a training with these weights of the images (N,)."""
        weight, bias = torch.zeros(4, 16), torch.zeros(4)
        for _ in range(steps):
            watch(weight, bias)
            error = (x @ weight.T + bias).softmax(1) - F.one_hot(y, 4)
            error = error * kept[:, None] / len(x)
            weight, bias = weight - rate * error.T @ x, bias - rate * error.sum(0)
        return F.cross_entropy(x_test @ weight.T + bias, test.labels, reduction="none")

    traced = torch.zeros(3, 30, dtype=torch.float64)

    def watch(weight, bias):
        net.load_state_dict({"1.weight": weight, "1.bias": bias})
        products, _ = influences(net, examined.in_order(train), examined.in_order(test))
        traced.add_(products * rate / len(x))

    whole = descend(torch.ones(30), watch)
    without = torch.stack([descend(1 - F.one_hot(torch.tensor(i), 30)) for i in range(30)])
    change = (without - whole).T.double()  # (T, N): positive if the image helped
    for predicted, measured in zip(traced, change, strict=True):
        assert torch.corrcoef(torch.stack([predicted, measured]))[0, 1] > 0.97


def test_influence_functions_equal_training_to_the_end_without_an_image():
    """On a convex problem: softmax regression with weight decay, by Newton's method."""
    train, test, damping = blobs(60, classes=3, noise=90), blobs(6, 3, noise=90, seed=5), 0.1
    examined = subject(lambda: linear(3), train)
    h, h_test = (
        F.pad(examined.normalisation(data.images).flatten(1).double(), (0, 1), value=1.0)
        for data in (train, test)
    )

    def objective(weights, kept):
        losses = F.cross_entropy(h @ weights.view(3, 17).T, train.labels, reduction="none")
        return (kept * losses).sum() / 60 + damping / 2 * weights.square().sum()

    def trained(kept):
        weights = torch.zeros(51, dtype=torch.float64)
        for _ in range(7):
            gradient, hessian = (
                of(partial(objective, kept=kept), weights)
                for of in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian)
            )
            weights = weights - torch.linalg.solve(hessian, gradient)
        assert gradient.abs().max() < 1e-8
        logits = h_test @ weights.view(3, 17).T
        return weights.view(3, 17), F.cross_entropy(logits, test.labels, reduction="none")

    weights, whole = trained(torch.ones(60))
    net = linear(3)
    net.load_state_dict({"1.weight": weights[:, :16].float(), "1.bias": weights[:, 16].float()})
    inputs = [last_layer_inputs(net, examined.in_order(data)) for data in (train, test)]
    torch.testing.assert_close(inputs[0][0], h.float())
    predicted, own = last_layer_influences(inputs[0], train.labels, inputs[1], test.labels, damping)
    images = range(0, 60, 12)
    for share in (1.0, 1e-3):  # without the image, and with a little less of it
        less = [trained(1 - share * F.one_hot(torch.tensor(i), 60))[1] for i in images]
        change = (torch.stack(less).T - whole[:, None]) / share
        for row, measured in zip(predicted[:, ::12], change, strict=True):
            assert torch.corrcoef(torch.stack([row, measured]))[0, 1] > 0.98
    assert (predicted[:, ::12] - change).norm() < 0.01 * change.norm()
    assert (own > 0).all()


def test_an_images_influence_on_itself_is_its_product_with_itself():
    data = blobs(9)
    examined = subject(linear, data)
    net, stream = linear(), examined.in_order(data, 4)
    products, own = influences(net, stream, stream)
    torch.testing.assert_close(products.diagonal(), own, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(self_influence(net, stream), own)


@pytest.mark.parametrize("size", [32, 33, 49])
def test_every_checkpoint_is_kept_if_a_last_batch_of_one_image_is_left_out(size):
    examined = subject(linear, blobs(size), batch_size=16, epochs=8)
    assert len(trace(examined, examined.train, 8, 4).checkpoints) == 4
    assert examined.steps(size, 1) == examined.stream(examined.train, 0).batches_per_epoch


def test_a_training_that_diverges_is_an_error_that_names_the_rate():
    with pytest.raises(ValueError, match="learning rate 1e\\+30 diverged; try a smaller one"):
        subject(optimiser="sgd", learning_rate=1e30).trained(blobs(96))


@pytest.mark.parametrize("method", ["tracin", "last_layer"])
def test_the_section_shows_decisions_and_what_is_memorised(method):
    section = InfluenceSection(2, epochs=6, decisions=2, examples=2, method=method)
    found = section.measure(subject(), Pieces())
    assert len(found.decisions) == 2
    assert found.accuracy > 0.9
    assert list(found.own) == sorted(found.own, reverse=True)
    assert 0.1 <= found.concentration <= 1
    for decision in found.decisions:
        assert decision.helpful[0].influence >= decision.helpful[1].influence
        assert decision.helpful[0].influence > 0 > decision.harmful[0].influence
    require_shown(section, found)


def test_too_few_epochs_for_the_checkpoints_name_both_settings():
    with pytest.raises(ValueError, match=r"^epochs: .*checkpoints \(4\), got 2"):
        InfluenceSection(epochs=2)
