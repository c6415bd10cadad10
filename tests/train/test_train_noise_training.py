"""One training: equal to a plain loop, independent of what ran before, and read when it is due."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from noise_networks import BreaksAfter, few_digits, linear, wide
from torch import nn

from darts_noise.data.images import channel_statistics
from darts_noise.data.seeds import Stream, derive_seed
from darts_noise.reading import read
from darts_noise.train.noise_training import (
    TrainingSet,
    each_epoch,
    each_tenth,
    train_from_scratch,
)

DIGITS = few_digits(65)


def a_set(data=DIGITS, epochs=3, target=2.0, due=each_epoch, batch_size=16):
    statistics = channel_statistics(data.images)
    return TrainingSet("real", data, statistics, epochs, batch_size, target, due)


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

    settings = {
        "network": "network",
        "optimiser": "sgd",
        "learning_rate": 0.1,
        "seed": 0,
        "base_seed": 0,
        **settings,
    }
    return train_from_scratch(make, task, on or fabric(CPU), **settings), made[0]


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
    first = train(linear, a_set(epochs=1), learning_rate=1e-30, seed=3)[1]
    plain.load_state_dict(first.state_dict())  # the initial weights, to within 1e-30
    optimizer = rule(plain.parameters())
    stream = task.stream(torch.device("cpu"), None)
    seen = []
    for epoch in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 + torch.cos(torch.tensor(torch.pi * epoch / 3)).item()) / 2
        for step in range(4):
            images, labels = _stream_of(task, 3).batch(4 * epoch + step)
            seen += images.flatten(1).sum(1).tolist()
            optimizer.zero_grad()
            F.cross_entropy(plain(images), labels).backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
            optimizer.step()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], value, rtol=1e-4, atol=1e-6)
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


def test_in_fp16_it_does_not_depend_on_the_loss_scale_that_others_have_left(device):
    on = fabric(device, "16-mixed")
    first, weights = train(wide, a_set(), on)
    assert first.accuracy > 0.2
    broken = a_set(epochs=20, due=lambda steps, per_epoch: False)
    assert train(lambda c, i: BreaksAfter(wide(c, i), 0), broken, on)[0].diverged
    again, same_weights = train(wide, a_set(), on)
    assert first == again
    assert all(map(torch.equal, weights.parameters(), same_weights.parameters()))


def test_batches_of_one_are_left_out_for_the_batch_norms():
    def normed(num_classes, in_channels):
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, num_classes))

    assert len(DIGITS) % 16 == 1
    assert train(normed, a_set())[0].steps == 12
    assert train(normed, a_set(few_digits(66)))[0].steps == 15
    assert train(linear, a_set(batch_size=1, epochs=1))[0].steps == 65


def test_accuracy_is_read_in_eval_mode_which_is_put_back():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(1.0), nn.Linear(64, 10))
    with torch.no_grad():
        net[2].weight.zero_()
        net[2].bias.copy_(torch.arange(10.0))
    net.train()
    stream = a_set().stream(torch.device("cpu"), None)
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
    stream = a_set().stream(torch.device("cpu"), None)
    assert run.accuracy == read(net, stream).accuracy
    last = BreaksAfter(linear(10, 1), 11)
    assert train(lambda c, i: last, a_set(due=lambda steps, per_epoch: False))[0].diverged


def test_steps_are_counted_to_within_a_tenth():
    """Against the exact count, by reading after every step."""
    task = {"target": 0.9, "epochs": 50}
    exact, _ = train(wide, a_set(**task, due=lambda s, n: True), learning_rate=0.002)
    tenth, _ = train(wide, a_set(**task, due=each_tenth), learning_rate=0.002)
    assert exact.reached is not None
    assert exact.reached > 40
    assert exact.reached <= tenth.reached <= 1.1 * exact.reached
    read = [step for step in range(1, 2000) if each_tenth(step, 16)]
    assert all(b - a <= max(1, 0.1 * a) for a, b in pairwise(read))
    assert len(read) < 80
