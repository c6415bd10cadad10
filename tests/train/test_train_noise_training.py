"""One training equals a plain loop, is independent of earlier ones, and is read when due."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from noise_networks import BreaksAfter, few_digits, linear, wide
from torch import nn

import darts_noise as dn
from darts_noise.data.images import LabelledImages, channel_statistics
from darts_noise.data.seeds import Stream, derive_seed
from darts_noise.reading import read, read_fit, recompute_statistics, whole_set
from darts_noise.train import noise_training
from darts_noise.train.loop import Recipe, each_epoch, each_tenth
from darts_noise.train.noise_training import TrainingSet, measure_fit

DIGITS = few_digits(65)


def a_set(data=DIGITS, target=2.0, due=each_epoch, batch_size=16):
    return TrainingSet("real", data, channel_statistics(data.images), batch_size, target, due)


def the_same(task):
    """The stream on which the fit is read."""
    return whole_set(task.data, task.normalisation, torch.device("cpu"))


def fabric(device, precision="32-true"):
    plugins = [MixedPrecision(precision, device.type)] if precision == "16-mixed" else []
    return Fabric(accelerator=device.type, devices=1, plugins=plugins)


CPU = torch.device("cpu")


def train(network, task, on=None, **settings):
    """The record, and the module after the training."""
    made = []

    def make():
        made.append(network(10, 1))
        return made[0]

    seeds = {key: settings.pop(key, 0) for key in ("seed", "base_seed")}
    recipe = Recipe(**{"optimiser": "sgd", "learning_rate": 0.1, "epochs": 3, **settings})
    run = measure_fit(make, task, recipe, on or fabric(CPU), network="network", **seeds)
    return run, made[0]


@pytest.mark.parametrize(
    ("optimiser", "rule"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01)),
        ("adam", lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.01)),
    ],
)
def test_the_weights_are_those_of_a_plain_loop(optimiser, rule):
    task = a_set()
    run, net = train(
        linear, task, optimiser=optimiser, weight_decay=0.01, gradient_clip=0.5, seed=3
    )
    assert (run.epochs, run.steps) == (3, 12)

    torch.manual_seed(0)
    plain = linear(10, 1)
    first = train(linear, a_set(), epochs=1, learning_rate=1e-30, seed=3)[1]
    plain.load_state_dict(first.state_dict())  # the initial weights, to within 1e-30
    optimizer = rule(plain.parameters())
    stream = the_same(task)
    seen = []
    for step in range(12):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 + math.cos(math.pi * step / 12)) / 2
        images, labels = _stream_of(task, 3).batch(step)
        seen += images.flatten(1).sum(1).tolist()
        optimizer.zero_grad()
        F.cross_entropy(plain(images), labels).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
    state = net.state_dict()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-6)
    assert run.accuracy >= read(net, stream).accuracy
    assert len(set(seen)) >= 64  # every epoch goes through the set


def _stream_of(task, seed):
    return task.stream(torch.device("cpu"), derive_seed(0, Stream.NOISE, seed))


def test_it_depends_on_its_seed_alone_and_leaves_the_global_generators_as_they_were(device):
    def dropped(num_classes, in_channels):
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, num_classes))

    def states():
        return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]

    on = fabric(device)
    torch.manual_seed(1)
    one, weights = train(dropped, a_set(), on)
    torch.manual_seed(2)
    before = states()
    other, same_weights = train(dropped, a_set(), on)
    assert all(map(torch.equal, states(), before))
    assert one == other
    torch.testing.assert_close(weights[2].weight, same_weights[2].weight, rtol=0, atol=0)
    for settings in ({"seed": 1}, {"base_seed": 1}):
        another = train(dropped, a_set(), on, **settings)[1]
        assert not torch.equal(weights[2].weight, another[2].weight)


def test_initial_weights_are_scaled_in_every_convolution_and_linear_layer_and_nowhere_else():
    still = {"epochs": 1, "learning_rate": 1e-30}  # what begins at 0 stays below 1e-9
    (plain, before), (scaled, after) = (
        train(normed, a_set(), initial_scale=scale, **still) for scale in (1, 4)
    )
    assert (plain.initial_scale, scaled.initial_scale) == (1, 4)
    weights = {n: p.detach() for n, p in before.named_parameters()}
    factors = {
        n: float((p.detach() / weights[n])[weights[n].abs() > 1e-9].mean())
        for n, p in after.named_parameters()
    }
    four = {name for name, factor in factors.items() if factor == pytest.approx(4)}
    assert four == {"0.weight", "3.weight", "8.weight"}
    one = {n for n, f in factors.items() if f == pytest.approx(1) or math.isnan(f)}
    assert four | one == set(factors)


def test_in_fp16_it_does_not_depend_on_the_loss_scale_that_others_have_left(device):
    on = fabric(device, "16-mixed")
    first, weights = train(wide, a_set(), on)
    assert first.accuracy > 0.2
    broken = a_set(due=lambda steps, per_epoch: False)
    assert train(lambda c, i: BreaksAfter(wide(c, i), 0), broken, on, epochs=20)[0].diverged
    again, same_weights = train(wide, a_set(), on)
    assert first == again
    assert all(map(torch.equal, weights.parameters(), same_weights.parameters()))


def test_batches_of_one_are_left_out_for_the_batch_norms():
    def normed(num_classes, in_channels):
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, num_classes))

    assert len(DIGITS) % 16 == 1
    assert train(normed, a_set())[0].steps == 12
    assert train(normed, a_set(few_digits(66)))[0].steps == 15
    assert train(linear, a_set(batch_size=1), epochs=1)[0].steps == 65


def test_accuracy_is_read_in_eval_mode_which_is_put_back():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(1.0), nn.Linear(64, 10))
    with torch.no_grad():
        net[2].weight.zero_()
        net[2].bias.copy_(torch.arange(10.0))
    net.train()
    stream = the_same(a_set())
    assert read(net, stream).accuracy == (DIGITS.labels == 9).double().mean().item()
    assert net.training
    assert net[1].training


def test_a_loss_that_is_not_finite_ends_the_run_at_the_next_reading():
    at_once, _ = train(lambda c, i: BreaksAfter(linear(c, i), 0), a_set())
    assert (at_once.diverged, at_once.accuracy, at_once.steps) == (True, None, 4)
    later, _ = train(lambda c, i: BreaksAfter(linear(c, i), 5), a_set())
    assert (later.diverged, later.steps, later.reached) == (True, 8, None)
    assert 0 < later.accuracy <= 1
    assert not train(linear, a_set())[0].diverged


def test_after_the_last_step_it_is_read_in_any_case():
    run, net = train(linear, a_set(due=lambda steps, per_epoch: False))
    stream = the_same(a_set())
    assert run.accuracy == read(net, stream).accuracy
    last = BreaksAfter(linear(10, 1), 11)
    assert train(lambda c, i: last, a_set(due=lambda steps, per_epoch: False))[0].diverged


def test_steps_are_counted_to_within_a_tenth():
    """Against the exact count, by reading after every step."""
    slow = {"learning_rate": 0.002, "epochs": 50}
    exact, _ = train(wide, a_set(target=0.9, due=lambda s, n: True), **slow)
    tenth, _ = train(wide, a_set(target=0.9, due=each_tenth), **slow)
    assert exact.reached is not None
    assert exact.reached > 40
    assert exact.reached <= tenth.reached <= 1.1 * exact.reached
    read = [step for step in range(1, 2000) if each_tenth(step, 16)]
    assert all(b - a <= max(1, 0.1 * a) for a, b in pairwise(read))
    assert len(read) < 80


def separable():
    """Dark images, then bright ones."""
    labels = torch.tensor([0, 1]).repeat_interleave(64)
    noise = torch.randint(100, (128, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    return LabelledImages((noise + 60 * labels[:, None, None, None]).byte(), labels, ("0", "1"))


def normed(num_classes, in_channels):
    def layer(channels):
        conv = nn.Conv2d(channels, 8, 3, padding=1)
        nn.init.constant_(conv.bias, 50.0)  # which the norm removes once it knows of it
        return conv, nn.BatchNorm2d(8), nn.ReLU()

    return nn.Sequential(
        *layer(in_channels), *layer(8), nn.Dropout(0.1), nn.Flatten(), nn.Linear(512, num_classes)
    )


def test_a_short_training_is_not_judged_by_running_averages_that_lag_behind():
    """Two epochs of two steps fit a separable set."""
    task = a_set(separable(), batch_size=64)
    run, net = train(normed, task, epochs=2, learning_rate=0.05)
    assert run.steps == 4
    assert run.accuracy == 1.0
    assert read(net, the_same(task)).accuracy < 0.9
    net.train()  # the true training accuracy, by the statistics of a batch
    net[-3].eval()  # the dropout
    images, labels = task.stream(torch.device("cpu"), 0).batch(0)
    with torch.no_grad():
        assert (net(images).argmax(1) == labels).double().mean() == 1.0


def test_statistics_are_the_mean_over_the_images():
    """Of batches of different sizes; an image that is left over has no variance."""
    norm = nn.BatchNorm2d(1)
    images = torch.randn(97, 1, 1, 1).double()
    recompute_statistics(norm.double(), images.split(32))
    groups = images[:96].flatten().split(32)
    torch.testing.assert_close(norm.running_mean[0], images[:96].mean())
    torch.testing.assert_close(norm.running_var[0], torch.stack([g.var() for g in groups]).mean())
    recompute_statistics(norm, images[:48].split(32))
    torch.testing.assert_close(norm.running_mean[0], images[:48].mean())


def test_the_classes_of_a_sorted_set_share_their_statistics():
    same, norm = the_same(a_set(separable())), nn.BatchNorm2d(1)
    batches = [same.batch(k)[0] for k in range(2)]
    recompute_statistics(norm, batches)
    torch.testing.assert_close(norm.running_var[0], torch.cat(batches).var(), rtol=0.05, atol=0)


def test_reading_a_fit_leaves_the_network_as_it_was():
    net = normed(2, 1)
    net[1].eval()
    net[4].momentum = None
    net[4].running_var.fill_(torch.nan)  # which no weight of 0 removes
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes, state = [m.training for m in net.modules()], torch.get_rng_state()
    reading = read_fit(net, the_same(a_set(separable())))
    assert 0 < reading.loss < 10
    assert [m.training for m in net.modules()] == modes
    assert (net[1].momentum, net[4].momentum) == (0.1, None)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_batch_norm_a_fit_is_read_in_one_pass():
    passes = []
    net = wide(10, 1)
    net.register_forward_hook(lambda *_: passes.append(1))
    stream = the_same(a_set())
    assert read_fit(net, stream) == read(net, stream)
    assert len(passes) == 2 * stream.batches_per_epoch


def test_a_network_that_sees_one_image_stops_at_the_best_constant_answer(monkeypatch):
    """What a whole training reaches is not more. One image that it sees changes that."""
    images = torch.randint(256, (60, 1, 28, 28), dtype=torch.uint8)
    labels = torch.arange(60) % 3 % 2
    task = a_set(LabelledImages(images, labels, ("a", "b")))

    def smooth(num_classes, in_channels):
        cell = replace(dn.load_genotype("darts_v2"), macro={"contrast": "smooth"})
        sizes = {"channels": 2, "num_cells": 1, "stem": "small", "stem_stride": 4}
        return dn.create_model(cell, num_classes=2, in_channels=in_channels, **sizes)

    run, _ = train(smooth, task, epochs=4)
    assert (run.accuracy, run.epochs, run.reached) == (2 / 3, 1, None)
    monkeypatch.setattr(noise_training, "sees_one_image", lambda *_: False)
    whole, _ = train(smooth, task, epochs=4)
    assert whole.epochs == 4
    assert whole.accuracy <= run.accuracy
    monkeypatch.undo()

    class Beside(nn.Module):  # sees the images themselves, whatever its attributes are called
        def __init__(self, *sizes):
            super().__init__()
            self.input_filter, self.layer = smooth(*sizes).input_filter, nn.Linear(28 * 28, 2)

        def forward(self, x):
            return self.layer(x.flatten(1))

    assert train(Beside, task, epochs=4)[0].epochs == 4
    images[7, :, :14] = 0
    assert train(smooth, task, epochs=4)[0].epochs == 4
