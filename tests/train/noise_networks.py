"""Networks with a known capacity for noise, and short measurements with them."""

import torch
from torch import nn

import darts_noise as dn
from darts_noise.data.datasets import load_dataset

CPU = {"accelerator": "cpu"}
ONE_RATE = dn.NoiseGrid(sgd_rates=(0.1,), adam_rates=(), muon_rates=(), seeds=1, scales=(1,))


def linear(num_classes, in_channels):
    """Fits 60 images of 64 pixels, since they are linearly independent."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, num_classes))


def wide(num_classes, in_channels):
    """Fits a few hundred images."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64 * in_channels, 512), nn.ReLU(), nn.Linear(512, num_classes)
    )


def blind(num_classes, in_channels):
    """Answers every image alike, whatever it learns."""
    return nn.Sequential(Nothing(), nn.Flatten(), nn.Linear(64 * in_channels, num_classes))


class Nothing(nn.Module):
    def forward(self, images):
        return 0 * images


class BreaksAfter(nn.Module):
    """Logits that are NaN from the n-th forward pass in train mode on."""

    def __init__(self, net, n):
        super().__init__()
        self.net, self.left = net, n

    def forward(self, images):
        self.left -= self.training
        return self.net(images) * (1.0 if self.left >= 0 else torch.nan)


def few_digits(n=200):
    return load_dataset("digits").train.subset(list(range(n)))


def measure(network, images=None, **settings):
    """A long protocol on a few digits, in a second."""
    settings = {
        "protocol": "converged",
        "samples": 60,
        "epochs": 40,
        "batch_size": 20,
        "grid": ONE_RATE,
        "controls": {} if settings.get("protocol", "converged") == "converged" else None,
        "trainer": CPU,
        **settings,
    }
    return dn.noise_fit(network, few_digits() if images is None else images, **settings)
