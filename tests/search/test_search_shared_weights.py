"""Weights that cells share, and the strategies that rank cells by them."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import darts_noise as dn
from darts_noise.finite import NotFiniteError
from darts_noise.reading_record import Reading
from darts_noise.search import candidate_trainings
from darts_noise.search.asking import propose
from darts_noise.search.candidate import Candidate, ranked
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.shared_weights import Path, SharedWeights
from darts_noise.search.strategies import make_strategy
from darts_noise.search.strategies.cells import random_cell
from darts_noise.search.strategies.random_labels import angle_between, weight_vector
from darts_noise.space import spaces
from darts_noise.space.spaces import Space

SMALL = Space("small", ("none", "skip_connect", "conv_3x3", "sep_conv_3x3"), nodes=2)
SIZES = {"channels": 2, "num_cells": 3, "stem": "small", "noise_samples": 40}


@pytest.fixture
def sharing(digits, monkeypatch):
    """Makes a search by a strategy, its trainings and its shared weights."""
    monkeypatch.setitem(spaces._SPACES, "small", SMALL)

    def make(strategy="random_shared", budget=40, **more):
        data = digits(train_samples=80)
        given = {"strategy": strategy, "strategy_steps": budget, **SIZES, **more}
        module = dn.SearchModule("small", **given)
        module.prepare(data)
        trainings = CandidateTrainings(module, data)
        return module, data, SharedWeights(trainings, budget)

    return make


@pytest.mark.parametrize("name", ["low_pass", "bounded", "noise"])
def test_the_parameters_of_a_path_are_those_that_its_cell_uses(name):
    space = spaces.get_space(name, 2)
    net = dn.SuperNet(space, 10, 1, 2, 3, "small", implementation="textbook")
    for cell in cells(3, space):
        path = Path(net, cell)
        net.zero_grad()
        path(torch.randn(2, 1, 8, 8)).sum().backward()
        used = {name for name, p in path.net.named_parameters() if p.grad is not None}
        assert {name.removeprefix("net.") for name, _ in path.named_parameters()} == used
        assert len(used) < len(list(net.parameters()))


def cells(count, space=SMALL):
    torch.manual_seed(0)
    return [random_cell(space) for _ in range(count)]


def of_path(net, cell):
    """The ids of the parameters and buffers of the operations of a cell, and of what all share."""
    operations = {
        id(t) for c in net.cells for m in c.mixed for t in m.state_dict(keep_vars=True).values()
    }
    taken = {id(t) for t in net.state_dict(keep_vars=True).values()} - operations
    for plan, mixed in zip(net.plans, net.cells, strict=True):
        for node, pairs in enumerate(getattr(cell, plan.kind)):
            for name, p in pairs:
                edge = mixed.mixed[SMALL.edges.index((p, node))]
                operation = edge.candidates[SMALL.operations.index(name)]
                taken |= {id(t) for t in operation.state_dict(keep_vars=True).values()}
    return taken


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "muon"])
def test_a_step_leaves_the_operations_that_a_cell_does_not_have(sharing, optimiser):
    """Also where an earlier step left momentum, and with weight decay."""
    _, _, shared = sharing(optimiser=optimiser, weight_decay=0.1)
    first, second = cells(2)
    shared.train(first)
    for net in (shared.w.net, shared.v.net):
        before = {name: t.clone() for name, t in net.state_dict().items()}
        steps = shared.steps
        shared.train(second)
        assert shared.steps == steps + 2  # one of w and one of v
        taken = of_path(net, second)
        moved = {"taken": 0, "left": 0}
        for name, tensor in net.state_dict(keep_vars=True).items():
            if id(tensor) in taken:
                moved["taken"] += not torch.equal(tensor, before[name])
            else:
                moved["left"] += 1
                assert torch.equal(tensor, before[name]), name
        assert min(moved.values()) > 5


def test_a_step_is_that_of_the_cell_alone(sharing):
    """The first step of w and of v against SGD by hand."""
    module, data, shared = sharing(
        momentum=0.0, weight_decay=0.0, gradient_clip=0.0, learning_rate=0.1,
        twin_learning_rate=0.02, learning_rate_min=0.01,
    )  # fmt: skip
    [cell] = cells(1)
    sets = {0.1: (shared.w, data.train), 0.02: (shared.v, module.noise_set)}
    before = {rate: copy.deepcopy(trained.net) for rate, (trained, _) in sets.items()}
    shared.train(cell, progress=0.25)
    for rate, (trained, images) in sets.items():
        assert trained.stream.data is images or len(trained.stream.data) == len(images)
        x, y = trained.stream.batch(0)
        loss = F.cross_entropy(before[rate].train().path(x, cell), y)
        loss.backward()
        now = 0.01 + (rate - 0.01) * (1 + math.cos(math.pi / 4)) / 2
        for old, new in zip(before[rate].parameters(), trained.net.parameters(), strict=True):
            wanted = old if old.grad is None else old - now * old.grad
            torch.testing.assert_close(new, wanted)


def evaluated(net, cell, images, normalisation):
    """Loss and accuracy with the statistics of the images, in one batch."""
    x = normalisation(images.images)
    with torch.no_grad():
        logits = copy.deepcopy(net).train().path(x, cell)
    loss = F.cross_entropy(logits, images.labels)
    return float(loss), float((logits.argmax(1) == images.labels).float().mean())


def test_inherited_ranks_are_those_of_a_direct_evaluation(sharing):
    module, data, shared = sharing(noise_weight=2.0)
    draws = cells(6)
    trained(shared, draws, 3)
    before = copy.deepcopy(shared.w.net.state_dict())
    rows, expected = [shared.measured(cell) for cell in draws], {}
    for cell, row in zip(draws, rows, strict=True):
        loss, accuracy = evaluated(shared.w.net, cell, data.validation, data.normalisation)
        noise, _ = evaluated(shared.v.net, cell, module.noise_set, data.normalisation)
        penalty = max(0.0, 1 - noise / math.log(module.noise_set.num_classes))
        expected[cell] = loss + 2 * penalty
        assert row.validation.accuracy == pytest.approx(accuracy, abs=0.03)
        assert row.objective == pytest.approx(expected[cell], rel=2e-2)
        assert row.steps == 0
    order = [candidate.genotype for candidate in ranked(rows)]
    assert order == sorted(draws, key=expected.__getitem__)
    after = shared.w.net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_batch_is_the_same_for_every_cell_and_another_for_every_number(sharing):
    _, data, shared = sharing(noise_weight=0.0)
    [cell] = cells(1)
    readings = [shared.measured(cell, number).validation for number in (0, 1, 0)]
    assert readings[0] == readings[2] != readings[1]
    assert shared.v is None
    assert (readings[0].accuracy * data.config.batch_size) % 1 == 0
    assert shared.measured(cell).objective == shared.measured(cell).validation.loss


def trained(shared, draws, times):
    for cell in draws * times:
        shared.train(cell)


def test_a_loss_that_is_not_finite_ends_the_training(sharing):
    """Before the update, and with the first term that is not finite."""
    module, data, shared = sharing(learning_rate=1e30, gradient_clip=0.0)
    with pytest.raises(NotFiniteError, match=r"L_train.* step 3 .* smaller model.learning_rate"):
        trained(shared, cells(1), 2)
    assert shared.steps == 2
    assert all(weight.isfinite().all() for weight in shared.w.net.parameters())
    with pytest.raises(NotFiniteError, match=r"^L_train"):
        propose(module, data)
    _, _, shared = sharing(gradient_clip=0.1)  # which would make NaN of infinity
    shared.w.net.classifier.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NotFiniteError, match=r"gradient of L_train.* step 1 "):
        trained(shared, cells(1), 1)
    assert all(weight.isfinite().all() for weight in shared.w.net.parameters())


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_budget_is_spent_on_shared_weights_and_then_on_the_best_ranked_cells(sharing, share):
    name = {"random_shared": {"share": share, "samples": 8}}
    module, data, shared = sharing(name, budget=16, candidate_epochs=1, noise_weight=0.0)
    lines = []
    found = propose(module, data, said=lines.append)
    assert module.gradient_steps == module.shared_steps == 16 * share
    assert len(lines) == module.shared_steps // shared.epoch
    assert {candidate.steps for candidate in found} == {2}
    assert len(found) == (4 if share < 1 else 1)
    order = module.strategy.ranked
    scores = [module.strategy.shared.measured(cell).score for cell in order]
    assert scores == sorted(scores)
    assert len(set(order)) == 8
    assert {candidate.genotype for candidate in found} == set(order[: len(found)])


def test_what_a_supernet_cannot_mix_is_refused(sharing):
    module, data, _ = sharing(macro={"gain": ["free", "bounded"]})
    with pytest.raises(dn.SettingError, match=r"^model.macro.gain: expected one candidate"):
        propose(module, data)


@pytest.mark.parametrize(
    ("key", "value"), [("share", 0.0), ("share", 1.5), ("share", math.nan), ("samples", 0)]
)
def test_settings_out_of_range_are_refused(key, value):
    with pytest.raises(dn.SettingError, match=rf"{key}: expected"):
        make_strategy({"enas": {key: value}})
    with pytest.raises(dn.SettingError, match=rf"{key}: expected"):
        make_strategy({"random_shared": {key: value}})


# ---------------------------------------------------------------- enas

FEW = Space("few", ("skip_connect", "conv_3x3"), nodes=1, allowed={
    "reduce": (("skip_connect",), ("skip_connect",))})  # fmt: skip
"""Two decisions, and 4 cells."""


def test_the_controller_learns_the_reward_of_inherited_weights(sharing, monkeypatch):
    """The mean over all cells of what a step adds equals the exact gradient of the mean reward."""
    monkeypatch.setitem(spaces._SPACES, "small", FEW)
    _, _, shared = sharing(noise_weight=0.5)
    torch.manual_seed(0)
    trained(shared, cells(4, FEW), 2)
    strategy = make_strategy({"enas": {"entropy": 0.0, "batch": 1, "hidden": 4}})
    strategy.shared = shared
    strategy.start(FEW)
    nas = strategy.nas
    for parameter in nas.controller.parameters():
        parameter.data.mul_(10)
    nas.optimiser = torch.optim.SGD(nas.controller.parameters(), lr=0.0)
    weights, draw = copy.deepcopy(shared.w.net.state_dict()), nas.controller.forward
    expected, mean = 0.0, 0.0
    number = nas.told
    for places in ((0, 0), (0, 1), (1, 0), (1, 1)):
        of_cell = draw(iter(places))
        measured = shared.measured(of_cell.genotype, 1 + number)
        worth = measured.validation.accuracy * math.exp(
            measured.validation.loss - measured.objective
        )
        expected = expected + of_cell.log_probability.exp() * worth
        nas.told, nas.baseline, nas.optimiser.step = number, 0.3, lambda: None
        monkeypatch.setattr(nas.optimiser, "zero_grad", lambda: None)
        monkeypatch.setattr(nas.controller, "forward", lambda p=places: draw(iter(p)))
        steps = shared.steps
        strategy.train_controller()
        assert shared.steps == steps + 1
        mean = mean - float(of_cell.log_probability.detach().exp()) * nas.controller.start.grad
        nas.controller.zero_grad()
    [exact] = torch.autograd.grad(expected, nas.controller.start)
    assert exact.abs().max() > 0
    torch.testing.assert_close(mean, exact, rtol=1e-4, atol=1e-8)
    after = shared.w.net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in weights.items())


def test_weights_and_controller_are_trained_in_turn(sharing, monkeypatch):
    module, data, _ = sharing(
        {"enas": {"controller_steps": 3, "samples": 4, "batch": 2, "hidden": 4}},
        budget=26, candidate_epochs=1, noise_weight=0.0,
    )  # fmt: skip
    order, numbers = [], []
    train, measured = SharedWeights.train, SharedWeights.measured
    monkeypatch.setattr(SharedWeights, "train", lambda *a: (order.append("w"), train(*a))[1])
    monkeypatch.setattr(
        SharedWeights,
        "measured",
        lambda *a: (order.append("θ"), numbers.append(a[2]), measured(*a))[2],
    )
    found = propose(module, data)
    turns = "ww" + "θ" * 6
    assert "".join(order).startswith(2 * turns + "ww" + "θ" * 2)
    assert module.shared_steps == 13
    assert numbers[:14] == list(range(1, 15))
    assert set(numbers[14:]) == {0}
    assert found[0].genotype in module.strategy.ranked


class Unread:
    """Shared weights that take no time: every cell has the same accuracy."""

    budget, epoch, steps = 100, 2, 0

    def __init__(self):
        self.trained = []

    def train(self, genotype, progress):
        self.trained.append(genotype)
        self.steps += 1

    def measured(self, genotype, batch):
        return Candidate(genotype, Reading(1.0, 0.5), None, 1.0)


def remembering(**settings):
    """Enas on these weights, with a memory of 7 cells. Each has four decisions."""
    given = {"hidden": 4, "controller_steps": 2, "batch": 2, "memory": 7, **settings}
    strategy = make_strategy({"enas": given})
    strategy.shared = Unread()
    torch.manual_seed(0)
    strategy.start(replace(SMALL, operations=("skip_connect",)))
    return strategy


def test_the_memory_fills_and_then_loses_its_oldest_cells(monkeypatch):
    strategy = remembering(memory_from=2, memory_added=3, memory_replaced=2, supervised_from=4)
    contents, learnt, draws = [], [], []
    remember, loss, draw = (
        strategy.remember,
        strategy.supervised_loss,
        strategy.nas.controller.forward,
    )

    def remembered():
        monkeypatch.setattr(
            strategy.nas.controller, "forward", lambda: (draws.append(draw()), draws[-1])[1]
        )
        remember()
        monkeypatch.setattr(strategy.nas.controller, "forward", draw)
        contents.append((strategy.epoch, list(strategy.memory)))

    monkeypatch.setattr(strategy, "remember", remembered)
    monkeypatch.setattr(
        strategy, "supervised_loss", lambda: (learnt.append(strategy.epoch), loss())[1]
    )
    strategy.train(4 * 6)  # an epoch is 2 steps of w and 2 of the controller
    new = [draw.decisions for draw in draws]
    wanted = [new[:3], new[:6], new[:7], new[2:9], new[4:11]]
    assert contents == [(epoch, cells) for epoch, cells in enumerate(wanted, start=2)]
    assert learnt == [4, 4, 5, 5, 6, 6]
    assert len({str(decisions) for decisions in new}) > 5


def test_the_supervised_loss_is_added_to_the_policy_gradient(monkeypatch):
    strategy = remembering(supervised_from=1, supervised_batch=4)
    controller, optimiser = strategy.nas.controller, strategy.nas.optimiser
    strategy.epoch, strategy.nas.baseline = 1, 0.2
    strategy.remember()
    monkeypatch.setattr(optimiser, "step", lambda: None)
    monkeypatch.setattr(optimiser, "zero_grad", lambda: None)

    def gradient():
        found = controller.lstm.weight_hh_l0.grad.clone()
        controller.zero_grad()
        return found

    torch.manual_seed(1)
    strategy.train_controller()
    together = gradient()
    torch.manual_seed(1)
    of_memory = [strategy.memory[i] for i in torch.randperm(7)[:4]]
    likelihood = torch.ones(())
    for decisions in of_memory:
        places = [options.index(option) for options, option in decisions]
        likelihood = likelihood * controller(iter(places)).log_probability.exp()
    (-likelihood.log() / 4).backward()
    supervised = gradient()
    strategy.memory.clear()
    strategy.train_controller()  # with the same draws
    torch.testing.assert_close(together, gradient() + supervised)
    assert supervised.abs().max() > 1e-6


def test_without_a_memory_no_draw_changes():
    """Nor with one that is not yet filled."""
    drawn = []
    for given in ({"memory": 0, "memory_added": 9}, {"memory_from": 99, "supervised_from": 99}):
        strategy = remembering(**given)
        strategy.train(20)
        drawn.append((strategy.shared.trained, torch.get_rng_state().tolist()))
        assert not strategy.memory
    assert drawn[0] == drawn[1]
    strategy = remembering()
    strategy.train(20)
    assert strategy.shared.trained != drawn[0][0]
    assert strategy.shared.trained[:2] == drawn[0][0][:2]  # the first epoch


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memory": -1}, "memory: expected 0 or more, got -1"),
        ({"memory_from": 0}, "memory_from: expected 1 or more"),
        ({"memory_added": 0}, "memory_added: expected 1 or more"),
        ({"memory_replaced": -1}, "memory_replaced: expected 0 or more"),
        ({"supervised_batch": 0}, "supervised_batch: expected 1 or more"),
        ({"memory_from": 3}, r"supervised_from: expected at least memory_from \(3\), got 2"),
    ],
    ids=str,
)
def test_settings_of_the_memory_out_of_range_are_refused(settings, message):
    with pytest.raises(dn.SettingError, match=message):
        make_strategy({"enas": settings})


# ---------------------------------------------------------------- random labels

CONSTANTS = {
    "skip_connect": lambda c: [torch.eye(c)],
    "avg_pool_3x3": lambda c: [torch.full((c, 3, 3), 1 / 9)],
    "max_pool_3x3": lambda c: [torch.full((c, 3, 3), 1 / 9)],
    "blur_pool_3x3": lambda c: [
        torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]]).expand(c, 3, 3) / 16
    ],
}


def paths_through(nodes):
    """Every path of a cell as a list of edges, from an input to a node."""

    def beginning(state):
        for node, pairs in enumerate(nodes):
            for name, predecessor in pairs:
                if predecessor == state:
                    yield [(name, predecessor, node)]
                    yield from ([(name, predecessor, node), *p] for p in beginning(node + 2))

    return [path for state in (0, 1) for path in beginning(state)]


def vector(net, space, cell):
    """The weights of a cell by the names of the parameters, path by path."""
    state, parts = dict(net.named_parameters()), []
    poolings = dict(space.macro).get("pooling", ("none",))
    first = poolings.index(cell.choice("pooling")) * len(net.plans)
    operations = [name for name in state if ".mixed." in name]
    parts += [state[name] for name in state if not name.startswith("cells.")]
    for number, plan in enumerate(net.plans, start=first):
        own = f"cells.{number}."
        parts += [state[n] for n in state if n.startswith(own) and n not in operations]
        for path in paths_through(getattr(cell, plan.kind)):
            for name, predecessor, node in path:
                edge = space.edges.index((predecessor, node))
                place = space.operations.index(name)
                prefix = f"{own}mixed.{edge}.candidates.{place}."
                found = [state[n] for n in operations if n.startswith(prefix)]
                halving = plan.reduction and predecessor < 2 and space.name == "bounded"
                if not found and halving:  # an average over 2×2 pixels
                    parts.append(torch.full((plan.channels, 2, 2), 1 / 4))
                parts += found or CONSTANTS[name](plan.channels)
    return torch.cat([part.detach().double().flatten() for part in parts])


@pytest.mark.parametrize(
    ("name", "nodes"), [("low_pass", 2), ("bounded", 2), ("darts", 4), ("noise", 2)]
)
def test_the_angle_is_that_of_the_weights_of_all_paths(name, nodes):
    space = spaces.get_space(name, nodes)
    torch.manual_seed(0)
    initial = dn.SuperNet(space, 10, 1, 2, 3, "small", implementation="textbook")
    changed = copy.deepcopy(initial)
    for parameter in changed.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    angles = []
    for cell in cells(5, space):
        pair = [weight_vector(net, cell) for net in (initial, changed)]
        one, other = (vector(net, space, cell) for net in (initial, changed))
        angles.append(math.acos(one @ other / one.norm() / other.norm()))
        assert angle_between(*pair) == pytest.approx(angles[-1], rel=1e-5)
        assert len(pair[0]) == len(one)
    assert len(set(angles)) == 5
    assert angle_between(one, one) == 0
    assert angle_between(one, -one) == pytest.approx(math.pi)


def test_cells_are_ranked_by_their_angle_in_a_training_on_random_labels(sharing, monkeypatch):
    """Whatever λ is: the ranking ignores the noise."""
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 1)
    orders = []
    for noise_weight in (0.0, 2.0):
        module, data, shared = sharing(
            {"random_labels": {"samples": 15, "population": 5}},
            budget=16,
            candidate_epochs=1,
            noise_weight=noise_weight,
        )
        lines = []
        found = propose(module, data, said=lines.append)
        assert module.shared_steps == 8  # of one supernet
        weights, order = module.strategy.shared.w, module.strategy.ranked
        assert len(lines) == 8 // shared.epoch
        pairs = [
            [weight_vector(net, cell) for net in (shared.w.net, weights.net)] for cell in order
        ]
        angles = [angle_between(*pair) for pair in pairs]
        assert angles == sorted(angles, reverse=True)
        assert angles[0] > angles[-1] > 0
        assert 5 < len(set(order)) == len(order) <= 15
        assert found[0].genotype in order[: len(found)]
        assert all(candidate.steps > 0 for candidate in found)
        assert (found[0].noise is not None) == (noise_weight > 0)
        orders.append((order, angles))
    assert orders[0] == orders[1]


def test_the_labels_are_random_and_the_images_are_those_of_the_training(sharing):
    made = {}
    for seed in (0, 1):
        for noise_family in ("uniform", "random_labels"):
            module, data, shared = sharing("random_labels", seed=seed, noise_family=noise_family)
            module.strategy.shared = shared
            module.strategy.start(module.space)
            of = module.strategy.shared.w.stream.data
            assert torch.equal(of.images, data.train.images)
            assert float((of.labels == data.train.labels).float().mean()) < 0.3
            assert of.labels.bincount(minlength=10).min() > 0
            assert seed not in made or torch.equal(of.labels, made[seed])
            made[seed] = of.labels
            assert torch.equal(shared.w.stream.data.labels, data.train.labels)
    assert not torch.equal(*made.values())


def test_settings_of_random_labels_out_of_range_are_refused():
    with pytest.raises(dn.SettingError, match=r"population: expected 1 or more, got 0"):
        make_strategy({"random_labels": {"population": 0}})
    with pytest.raises(dn.SettingError, match=r"share: expected more than 0"):
        make_strategy({"random_labels": {"share": 2.0}})
