"""Frequencies of functions and of images, against waves of a known frequency."""

import math

import pytest
import torch
from examined import subject
from torch import nn

from darts_noise.data.seeds import generator
from darts_noise.examine.frequency import (
    Frequency,
    FrequencySection,
    band_residuals,
    bands,
    fourier_sensitivity,
    fourier_waves,
    octaves,
)
from darts_noise.examine.section import Pieces

ANGLES = 2 * math.pi * torch.arange(200, dtype=torch.float64) / 200
CIRCLE = torch.stack([ANGLES.cos(), ANGLES.sin()], 1)


def waves_on_the_circle(*frequencies):
    return torch.stack([(k * ANGLES).cos() for k in frequencies], 1)


def test_a_wave_loses_what_the_gaussian_takes_of_its_frequency():
    """On a circle of radius 1, a filter of width σ keeps exp(−σ²k²/2) of the frequency k."""
    sigma = 0.1
    low, high = bands(CIRCLE, waves_on_the_circle(1, 5, 20), [sigma])
    kept = low.norm(dim=0) / waves_on_the_circle(1, 5, 20).norm(dim=0)
    exact = [math.exp(-((sigma * k) ** 2) / 2) for k in (1, 5, 20)]
    assert kept.tolist() == pytest.approx(exact, abs=0.01)
    torch.testing.assert_close(low + high, waves_on_the_circle(1, 5, 20))


def test_what_is_learnt_of_each_band_has_no_residual():
    slow, fast = waves_on_the_circle(1), waves_on_the_circle(40)
    for outputs, expected in ((0 * slow, (1, 1)), (slow, (0, 1)), (fast, (1, 0))):
        found = band_residuals(CIRCLE, slow + fast, outputs, [0.1])
        assert found == pytest.approx(expected, abs=0.02)
    assert band_residuals(CIRCLE, slow + fast, slow + fast, [1.0, 0.1, 0.01]) == (0, 0, 0, 0)


def test_octaves_begin_at_the_median_distance():
    assert octaves(torch.tensor([[0.0], [1.0], [3.0]]), 3) == (2, 1, 0.5)


def test_a_network_learns_the_slow_wave_first():
    """The frequency principle, on the problem of figure 1 of its paper: sums of sines."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 200), nn.Tanh(), nn.Linear(200, 1)).double()
    target = waves_on_the_circle(1) + waves_on_the_circle(10)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        (net(CIRCLE) - target).square().mean().backward()
        optimiser.step()
    slow, fast = band_residuals(CIRCLE, target, net(CIRCLE).detach(), [0.2])
    assert slow < 0.3 < 0.7 < fast


def test_a_wave_has_its_frequency_alone_and_all_are_orthonormal():
    waves = fourier_waves(6, 5)
    flat = waves.flatten(0, 1).flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(30, dtype=torch.float64))
    found = torch.fft.fft2(waves).abs() > 1e-9
    for i in range(6):
        for j in range(5):
            expected = torch.zeros(6, 5, dtype=torch.bool)
            expected[i, j] = expected[-i % 6, -j % 5] = True
            assert torch.equal(found[i, j], expected)


class LowPass(nn.Module):
    """Frequencies of more than one period are taken away; then a linear layer that is sensitive."""

    def __init__(self, size):
        super().__init__()
        periods = torch.fft.fftfreq(size, 1 / size).abs() <= 1
        self.kept = periods[:, None] & periods
        self.linear = nn.Linear(size * size, 4)
        nn.init.normal_(self.linear.weight)

    def forward(self, pixels):
        low = torch.fft.ifft2(torch.fft.fft2(pixels) * self.kept).real
        return self.linear(low.flatten(1))


def test_a_low_pass_network_is_insensitive_to_high_frequencies_and_only_to_them():
    torch.manual_seed(0)
    net, pixels = LowPass(8), torch.rand(40, 1, 8, 8)
    labels = net(pixels).argmax(1)
    errors = fourier_sensitivity(net, pixels, labels, 5.0, generator(0))
    low = torch.zeros(8, 8, dtype=torch.bool)
    low[3:6, 3:6] = True  # around (0, 0), which is at [4, 4]
    assert (errors[~low] == 0).all()
    assert (errors[low] > 0.2).all()


def test_the_running_averages_of_batch_norms_do_not_count():
    """They follow slowly: read with them, a network would seem to learn later than it does."""

    def normed(momentum):
        torch.manual_seed(0)
        norm = nn.BatchNorm1d(32, momentum=momentum)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 32), norm, nn.ReLU(), nn.Linear(32, 4))

    section = FrequencySection(samples=40, bands=2, images=8)
    slow, quick = (
        section.measure(subject(lambda m=momentum: normed(m), epochs=2), Pieces())
        for momentum in (0.01, 0.5)
    )
    assert slow == quick


def test_the_section_says_when_bands_are_learnt_and_which_wave_misleads_most():
    section = FrequencySection(samples=30, bands=3, images=20)
    examined = subject(epochs=3)
    found = section.measure(examined, Pieces())
    assert len(found.residuals) == len(found.steps)
    assert len(found.residuals[0]) == 3
    assert (len(found.errors), len(found.errors[0])) == (4, 4)
    assert len(section.figures(found)) == 2
    assert len(section.tables(found)[0].rows) == 3
    residuals = ((0.9, 1.0), (0.4, 0.9))
    errors = ((0.1, 0.1, 0.1), (0.1, 0.2, 0.1), (0.7, 0.1, 0.1))
    made = Frequency((4, 8), 4, (1.0,), residuals, 0.1, 0.1, errors)
    assert made.worst == (1, -1)
    said = section.sentence(made)
    assert "lowest band of the labels is learnt after 2.0 epochs" in said
    assert "highest never" in said
    assert "1 period from top to bottom and 1 period from left to right" in said
    assert "from 10.00% to 70.00%" in said
