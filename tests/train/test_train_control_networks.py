"""The control networks of a measurement: their shapes, and that the positive control memorises."""

import pytest
import torch
from noise_networks import CPU
from torch import nn

import darts_noise as dn
from darts_noise.data.datasets import load_dataset
from darts_noise.train.control_networks import alexnet, pooled_cnn, pooled_cnn_wide, resnet18

NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


@pytest.mark.parametrize(
    ("network", "pixels"),
    [
        (resnet18, 8),
        (resnet18, 32),
        (alexnet, 28),
        (alexnet, 32),
        (pooled_cnn, 24),
        (pooled_cnn, 28),
        (pooled_cnn, 32),
        (pooled_cnn_wide, 32),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_become_logits(network, pixels, channels):
    net = network(7, channels).eval()
    assert net(torch.zeros(2, channels, pixels, pixels)).shape == (2, 7)
    assert any(isinstance(m, NORMS) for m in net.modules()) == (network is resnet18)


@pytest.mark.parametrize("network", [alexnet, pooled_cnn, pooled_cnn_wide])
def test_no_sample_depends_on_the_others_of_its_batch(network):
    torch.manual_seed(0)
    net = network(10, 1).train()
    images = torch.randn(4, 1, 32, 32)
    torch.testing.assert_close(net(images)[:2], net(images[:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_positive_control_fits_what_it_is_there_to_fit():
    images = load_dataset("digits").train.subset(list(range(100)))
    grid = dn.NoiseGrid(sgd_rates=(0.01,), adam_rates=(), muon_rates=(), seeds=1, scales=(1,))
    fit = dn.noise_fit(
        lambda c, i: nn.Sequential(nn.Flatten(), nn.Linear(64, c)),
        images,
        protocol="converged",
        samples=100,
        epochs=40,
        batch_size=20,
        grid=grid,
        trainer=CPU,
    )
    assert fit.controls.keys() == {"resnet18"}
    assert fit.control_reached
