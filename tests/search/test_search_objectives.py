"""What a search minimises beside the validation loss and the penalty, one objective after another.

Each has a toy in which the right operation is known.
"""

import json
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from test_search_module import PLAIN, searched
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.parametrize import is_parametrized
from torch.optim import Adam

import darts_noise as dn
from darts_noise.attacks.gradient import ascend, fgsm
from darts_noise.attacks.pixels import Ball, OnPixels
from darts_noise.attacks.settings import AttackConfig
from darts_noise.data.images import Normalisation
from darts_noise.nets.gain import used_weights, weight_of
from darts_noise.reading import whole_set
from darts_noise.reading_record import Reading
from darts_noise.report.measured import count_multiply_adds, count_parameters
from darts_noise.search import candidate_trainings
from darts_noise.search import race as racing
from darts_noise.search.candidate import Candidate
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.gradients import probing_loss
from darts_noise.search.hypergradients import InnerStep
from darts_noise.search.objective_gradient import objective_gradients, objective_values
from darts_noise.search.objectives import (
    Objective,
    ObjectiveInputs,
    SearchedNetworks,
    TrainedCell,
    costs,
    make_objectives,
    objective,
)
from darts_noise.search.objectives.adversarial import Adversarial
from darts_noise.search.objectives.costs import LATENCY, Latency, MultiplyAdds
from darts_noise.search.objectives.prunability import pruned
from darts_noise.search.shared_weights import SharedWeights
from darts_noise.space.genotype import Genotype
from darts_noise.space.spaces import Space

pytestmark = pytest.mark.usefixtures("small_space")

GREY = Normalisation((0.5,), (0.25,))
RIGHT, WRONG = 0, 1
SPACE = Space("toy", ("skip_connect", "conv_3x3"), nodes=1)


# ---------------------------------------------------------------- toys


class Weak(nn.Module):
    """The class shows in the first pixel strongly and in the second weakly.

    The right operation reads the first. The wrong one reads the second, with a larger weight.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.3, 3.0]], dtype=torch.float64))

    def forward(self, images: Tensor, relaxed: dict[str, Tensor]) -> Tensor:
        share = relaxed["normal"].mean(0)
        one = (images.flatten(1)[:, :2] * self.weight * share).sum(1)
        return torch.stack([-one, one], 1)


class Spread(nn.Module):
    """Either operation has a matrix: the right one a large entry, the wrong one many small ones."""

    def __init__(self) -> None:
        super().__init__()
        right = torch.tensor([[1.6, 0, 0, 0, 0, 0, 0, 0]], dtype=torch.float64)
        self.right = nn.Parameter(right)
        self.wrong = nn.Parameter(torch.full_like(right, 0.2))

    def forward(self, images: Tensor, relaxed: dict[str, Tensor]) -> Tensor:
        share = relaxed["normal"].mean(0)
        x = images[:, 0, 0, :1].expand(-1, 8)
        one = (x @ (share[RIGHT] * self.right + share[WRONG] * self.wrong).T)[:, 0]
        return torch.stack([-one, one], 1)


def toy_batch() -> tuple[Tensor, Tensor]:
    labels = torch.arange(8) % 2
    images = torch.zeros(8, 1, 2, 2, dtype=torch.float64)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = 2.0 * labels - 1, 0.2 * labels - 0.1
    return images, labels


@pytest.mark.parametrize(
    ("toy", "setting"),
    [(Weak, {"adversarial": {"eps": 0.05}}), (Spread, {"prunability": {"sparsity": 0.6}})],
)
def test_alpha_moves_to_the_right_operation(toy, setting):
    """Both operations have the same validation loss, so that the objective alone decides."""
    torch.manual_seed(0)
    net, arch = toy(), dn.Architecture(SPACE).double()
    images, labels = toy_batch()
    alone = [
        F.cross_entropy(net(images, {"normal": row.expand(2, 2)}), labels)
        for row in torch.eye(2, dtype=torch.float64)
    ]
    torch.testing.assert_close(*alone)
    objectives, optimiser = make_objectives(setting), Adam(arch.parameters(), 0.1)
    values = []
    for _ in range(30):
        found, seen = objective_gradients(
            objectives, net, arch, (images, labels), GREY, (images, labels)
        )
        for parameter, gradient in zip(arch.parameters(), found, strict=True):
            parameter.grad = gradient
        optimiser.step()
        values += seen.values()
    assert arch.expected()["normal"][:, RIGHT].min() > 0.9
    assert values[-1] < 0.9 * values[0]


def test_the_gradient_passes_through_a_step_of_the_weights():
    """`exact`, against differences of the objectives at the weights after the step."""
    torch.manual_seed(0)
    net, arch, batch = Weak(), dn.Architecture(SPACE).double(), toy_batch()
    train = batch[0] * 0.7 + 0.1, batch[1]
    step = InnerStep(0.5)
    objectives = make_objectives({"adversarial": {"eps": 0.05, "weight": 2.0}})
    [found, *_], _ = objective_gradients(objectives, net, arch, batch, GREY, train, "exact", step)

    def value() -> Tensor:
        loss = F.cross_entropy(net(train[0], arch()), train[1])
        [slope] = torch.autograd.grad(loss, [net.weight])
        after = Weak()
        after.weight.data = (net.weight - 0.5 * slope).detach()
        _, seen = objective_gradients(objectives, after, arch, batch, GREY, train)
        return 2 * seen["adversarial"]

    check_slope(arch.normal, found, value)


def check_slope(alpha: Tensor, gradient: Tensor, value: Callable[[], Tensor]) -> None:
    """Compares two entries of a gradient with central differences."""
    for index in ((0, 1), (-1, -1)):
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                alpha[index] += sign * 1e-6
            sides.append(value())
            with torch.no_grad():
                alpha[index] -= sign * 1e-6
        numeric = (sides[0] - sides[1]) / 2e-6
        torch.testing.assert_close(gradient[index], numeric, rtol=1e-4, atol=1e-8)


@pytest.fixture
def module(digits):
    """A search that has not begun, in float64, and a batch of its validation images."""

    def make(**settings):
        data = digits()
        torch.manual_seed(0)
        few = {"pooling": ["none"], "input_filter": ["none"], "normalisation": ["batch"]}
        form = {"space": "small", "macro": few, "channels": 4, "num_cells": 3, "stem": "small"}
        made = dn.SearchModule(**{**form, "noise_weight": 0.0, **settings})
        made.build(data)
        return made.double(), data

    return make


@pytest.mark.parametrize(
    "setting",
    [
        {"adversarial": {"eps": 0.02}},
        {"adversarial": {"eps": 0.02, "steps": 3}},
        {"prunability": {"sparsity": 0.5}},
        {"multiply_adds": {"weight": 3.0}},
    ],
    ids=str,
)
def test_the_gradient_of_a_supernet_is_that_of_differences(setting, module):
    made, data = module(objectives=setting)
    stream = data.validation_stream(shuffle=True)
    images, labels = stream.batch(0)
    batch = images.double(), labels

    def found() -> tuple[list[Tensor], dict[str, Tensor]]:
        torch.manual_seed(1)
        return objective_gradients(
            made.objectives, made.net, made.arch, batch, stream.normalisation, batch
        )

    gradients, _ = found()
    names = [name for name, _ in made.arch.named_parameters()]
    for name, alpha, gradient in zip(names, made.arch.parameters(), gradients, strict=True):
        if name in ("normal", "macro.width"):
            check_slope(alpha, gradient, lambda: made.objectives.total(found()[1]))
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 1e-3


# ---------------------------------------------------------------- parts of an objective


@pytest.mark.parametrize("steps", [1, 4])
def test_the_loss_on_attacked_images_is_that_of_the_attacks(steps):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    pixels, labels = torch.rand(20, 1, 4, 4), torch.arange(20) % 3
    inputs = ObjectiveInputs(
        lambda weights, images: net(images), [], (GREY(255 * pixels), labels), GREY, {}
    )
    torch.manual_seed(1)
    found = Adversarial(0.1, steps)(inputs)
    torch.manual_seed(1)
    arguments = OnPixels(net, GREY), pixels, labels, Ball("linf", 0.1)
    if steps == 1:
        changed = fgsm(*arguments, AttackConfig(), torch.Generator())
    else:
        changed = ascend(*arguments, steps, torch.default_generator)
    torch.testing.assert_close(found, F.cross_entropy(net(GREY(255 * changed)), labels))


def test_the_same_weights_are_pruned_as_by_torch():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Conv2d(5, 4, 1), nn.Flatten(), nn.Linear(4, 3))
    ours = pruned(list(net.parameters()), 0.7)
    layers = [(layer, "weight") for layer in net if not isinstance(layer, nn.Flatten)]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=0.7)
    for (layer, _), weight in zip(layers, ours[::2], strict=True):
        assert torch.equal(layer.weight, weight)
    for (layer, _), bias in zip(layers, ours[1::2], strict=True):
        assert torch.equal(layer.bias, bias)


def test_the_scale_of_a_bounded_layers_stored_weight_has_no_effect_on_its_pruning(module):
    """In a supernet and in the network of a cell."""
    macro = {"gain": ["bounded"], "reduction": ["average"], "logit_scale": [64.0]}
    made, data = module(objectives={"prunability": {"sparsity": 0.6}}, macro=macro)
    images, labels = data.validation_stream(shuffle=False).batch(0)
    cell = made.discrete(made.arch.genotype(), 4)
    relaxed, batch = made.arch(), (images.double(), labels)

    def found() -> tuple[list[Tensor], float, float]:
        weights = [p.detach() for p in made.net.parameters()]
        masks = [w != 0 for w in pruned(weights, 0.6, used_weights(made.net, weights))]
        [value] = objective_values(made.objectives, made.net, relaxed, {}, batch, GREY).values()
        trained = TrainedCell(cell, None, data.validation_stream(shuffle=False))
        [alone] = made.objectives.of_cell(trained).values()
        return masks, float(value.detach()), alone

    torch.manual_seed(0)
    layers = [m for net in (made.net, cell) for m in net.modules() if is_parametrized(m)]
    for layer in layers:
        weight_of(layer).data.normal_()  # most entries start at zero
    masks, *values = found()
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            weight_of(layer).data.mul_(2.0 ** torch.randint(-6, 7, ()))
    after, *others = found()
    assert others == pytest.approx(values, rel=1e-4)
    assert all(map(torch.equal, masks, after))


# ---------------------------------------------------------------- costs


def plain(operation: str, nodes: int = 1, **macro) -> Genotype:
    cell = [[(operation, 0), (operation, 1)]] * nodes
    concat = list(range(2, 2 + nodes))
    return Genotype(cell, concat, cell, concat, macro=macro)


def started(space: Space, channels: int = 4) -> MultiplyAdds:
    torch.manual_seed(0)
    made = dn.SearchModule(channels=channels, num_cells=3, stem="small", objectives="multiply_adds")
    made.num_classes, made.in_channels = 10, 1
    term = MultiplyAdds()
    term.start(SearchedNetworks(space, channels, (1, 8, 8), made.discrete))
    return term


def shares_of(space: Space, cell: Genotype) -> dict[str, Tensor]:
    """The probabilities of an α that is certain of a plain cell."""
    name = cell.normal[0][0][0]
    row = torch.tensor([float(o == name) for o in space.operations], dtype=torch.float64)
    shares = {kind: row.expand(len(space.edges), -1) for kind in ("normal", "reduce")}
    return shares | {
        name: torch.tensor([[float(v == cell.choice(name)) for v in values]]).double()
        for name, values in space.macro
    }


def at(term: Objective, shares: dict[str, Tensor]) -> float:
    batch = torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64)
    return float(term(ObjectiveInputs(lambda w, x: x, [], batch, GREY, shares)))


@pytest.mark.parametrize("bounded", [False, True])
def test_a_certain_alpha_costs_what_its_network_costs(bounded):
    """With one node, whose edges are all kept; against torch's count of the whole network."""
    macro = {"pooling": ("none", "average_2"), "width": (1.0, 0.5)}
    if bounded:
        macro = {"gain": ("bounded",), "reduction": ("average",)}
    operations = ("none", "skip_connect", "blur_pool_3x3", "sep_conv_3x3", "conv_3x3")
    space = Space("costs", operations[1:] if bounded else operations, 1, macro=macro)
    term, found = started(space), {}
    for name in space.operations[0 if bounded else 1 :]:
        for values in [{}] if bounded else [{"pooling": "average_2", "width": 0.5}, {}]:
            fixed = {k: v[0] for k, v in macro.items()} | values
            cell = plain(name, **fixed)
            net = term.networks.make(cell, 4)
            found[name, *fixed.values()] = count = count_multiply_adds(net, (1, 8, 8))
            assert at(term, shares_of(space, cell)) == pytest.approx(count / term.largest("cpu"))
            trained = TrainedCell(net, partial(term.networks.make, cell, 4), images())
            assert term.of_cell(trained) == pytest.approx(count / term.largest("cpu"))
    assert term.largest("cpu") == max(found.values())


def images():
    data = dn.LabelledImages(
        torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.arange(2), ("a", "b")
    )
    return whole_set(data, GREY, torch.device("cpu"))


def test_the_expected_cost_is_the_mean_over_cells_and_none_does_not_count():
    space = Space("costs", ("none", "skip_connect", "conv_3x3"), 2)
    term = started(space)
    cheap, dear = (at(term, shares_of(space, plain(name))) for name in space.operations[1:])
    assert cheap < dear == 1
    row = torch.tensor([0.5, 0.125, 0.375], dtype=torch.float64)
    shares = {kind: row.expand(len(space.edges), -1) for kind in ("normal", "reduce")}
    assert at(term, shares) == pytest.approx(0.25 * cheap + 0.75 * dear)


@pytest.mark.parametrize("name", ["multiply_adds", "latency"])
def test_alpha_moves_to_the_cheap_operation(name, monkeypatch):
    """And its gradient is that of differences."""
    monkeypatch.setattr(costs, "seconds", lambda module, images: 1.0 + count_parameters(module))
    space = Space("costs", ("conv_3x3", "skip_connect"), 2)
    objectives, arch = make_objectives({name: {}}), dn.Architecture(space).double()
    objectives.start(started(space).networks)
    optimiser = Adam(arch.parameters(), 0.3)

    def value() -> Tensor:
        batch = torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64)
        inputs = ObjectiveInputs(lambda w, x: x, [], batch, GREY, arch.expected())
        return objectives.total(objectives.values(inputs))

    check_slope(arch.normal, torch.autograd.grad(value(), arch.normal)[0], value)
    for _ in range(20):
        optimiser.zero_grad()
        value().backward()
        optimiser.step()
    assert {o for node in arch.genotype().normal for o, _ in node} == {"skip_connect"}
    assert value() < 0.7


def test_a_resumed_run_uses_the_same_times(tmp_path, monkeypatch):
    space = Space("costs", ("skip_connect", "conv_3x3"), 1)
    networks, timed = started(space).networks, []

    def seconds(module, images):
        timed.append(len(images))
        return float(sum(p.numel() for p in module.parameters()) + 1)

    monkeypatch.setattr(costs, "seconds", seconds)
    values = []
    for number in (5, 0):
        term = Latency(batch_size=3)
        term.start(networks)
        term.keep(tmp_path)
        values.append(at(term, shares_of(space, plain("skip_connect"))))
        assert values[-1] < at(term, shares_of(space, plain("conv_3x3"))) == 1
        assert bool(timed) == bool(number)
        assert set(timed) <= {3}
        timed.clear()
    assert values[0] == values[1]
    rows = json.loads((tmp_path / LATENCY).read_text())["seconds"]
    assert len({label.split()[0] for label in rows}) > 5


def test_a_time_is_of_float32_in_autocast_too():
    seen = []
    layer = nn.Conv2d(1, 1, 1).eval()
    layer.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        costs.seconds(layer, torch.ones(1, 1, 8, 8))
    assert set(seen) == {torch.float32}


def test_a_time_is_measured():
    small, large = nn.Conv2d(1, 1, 1).eval(), nn.Conv2d(64, 64, 5).eval()
    times = (
        costs.seconds(small, torch.ones(1, 1, 8, 8)),
        costs.seconds(large, torch.ones(1, 64, 32, 32)),
    )
    assert 0 < times[0] < times[1] < 5


# ---------------------------------------------------------------- in a search


def test_a_weight_of_0_measures_and_changes_nothing(digits):
    """It is the control of a search with a weight."""
    settings = {"noise_weight": 0.0, **PLAIN}
    without, run = searched(digits(), **settings)
    assert not any("objectives" in name for name in run.callback_metrics)
    ends = {}
    for weight in (0.0, 1.0):
        terms = {"adversarial": {"weight": weight, "eps": 0.2}, "multiply_adds": {"weight": weight}}
        ends[weight], run = searched(digits(), objectives=terms, **settings)
        assert run.callback_metrics["objectives/adversarial"] > run.callback_metrics["val/loss"] / 2
        assert 0 < run.callback_metrics["objectives/multiply_adds"] < 1
    assert torch.equal(ends[0.0].arch.normal, without.arch.normal)
    assert torch.equal(ends[0.0].net.classifier.weight, without.net.classifier.weight)
    assert not torch.equal(ends[1.0].arch.normal, without.arch.normal)
    # What a variant such as darts_pt is told.
    module, batch = ends[1.0], ends[1.0].validation_stream.batch(0)
    relaxed = module._fixed_alpha()
    values = objective_values(module.objectives, module.net, relaxed, relaxed, batch, GREY)
    assert values.keys() == {"adversarial", "multiply_adds"}
    module.validation_stream.normalisation = GREY
    found = module._objective(relaxed, [batch], [])
    own = probing_loss(module.net, batch)(relaxed)
    assert found == pytest.approx(float(own.detach() + sum(values.values()).detach()))


def test_a_candidate_counts_every_objective(digits, monkeypatch):
    """F against its definition, and in the file."""
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 1)
    data = digits()
    terms = {"multiply_adds": {"weight": 2.0}, "adversarial": {"weight": 0.5, "eps": 0.1}}
    made = dn.SearchModule(
        **{**PLAIN, "noise_samples": 32, "candidate_epochs": 1, "objectives": terms}
    )
    made.build(data)
    trainings = CandidateTrainings(made, data)
    found = [trainings.measured(plain(name)) for name in ("skip_connect", "sep_conv_5x5")]
    for one in found:
        assert one.noise is not None
        penalty = max(0.0, 1 - one.noise.loss / math.log(10))
        others = 2 * one.terms["multiply_adds"] + 0.5 * one.terms["adversarial"]
        assert one.objective == pytest.approx(one.validation.loss + penalty + others)
        assert Candidate.from_dict(json.loads(json.dumps(one.to_dict()))) == one
        assert one.terms["adversarial"] > one.validation.loss
    assert found[0].terms["multiply_adds"] < 0.5 < found[1].terms["multiply_adds"]
    bar = found[0].validation.loss + 0.1  # the objectives alone are above it
    assert CandidateTrainings(made, data).measured(plain("skip_connect"), bar).noise is None


@pytest.fixture
def trainings(digits):
    """The trainings of single cells in a search with two objectives and without noise."""
    terms = {"multiply_adds": {"weight": 2.0}, "adversarial": {"weight": 0.5, "eps": 0.1}}
    made, data = dn.SearchModule(**{**PLAIN, "noise_weight": 0.0, "objectives": terms}), digits()
    made.build(data)
    return CandidateTrainings(made, data)


def test_a_race_counts_every_objective(trainings, monkeypatch):
    def on_data(self, genotype, channels, share):
        self.terms = {"multiply_adds": 0.25, "adversarial": 3.0}
        return Reading(0.7, 0.5)

    monkeypatch.setattr(CandidateTrainings, "on_data", on_data)
    cells = [plain("skip_connect")] * 2
    heat = racing._train(racing.Heat({}, (1, 1)), math.inf, 1.0, trainings, cells)
    assert heat.objective == pytest.approx((0.7 + 2 * 0.25 + 0.5 * 3.0) / 2)


def test_shared_weights_count_every_objective(trainings):
    shared, cell = SharedWeights(trainings, 10), plain("sep_conv_3x3")
    found = shared.measured(cell)
    others = 2 * found.terms["multiply_adds"] + 0.5 * found.terms["adversarial"]
    assert found.objective == pytest.approx(found.validation.loss + others)
    alone = trainings.objectives_of(trainings.module.discrete(cell, 4), cell, images())
    assert found.terms["multiply_adds"] == alone["multiply_adds"]


def test_a_term_of_a_user_that_is_negative_is_refused(monkeypatch):
    monkeypatch.setattr(objective, "_OBJECTIVES", dict(objective._OBJECTIVES))

    @dn.register_objective("negative")
    class Negative(Objective):
        def __call__(self, inputs):
            return -inputs.logits(inputs.weights, inputs.batch[0]).exp().sum()

    cell = TrainedCell(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), None, images())
    with pytest.raises(dn.SettingError, match=r"objectives.negative: .* at least 0"):
        make_objectives({"negative": None}).of_cell(cell)


def test_the_annotations_of_a_user_may_be_texts(monkeypatch):
    """They are with ``from __future__ import annotations``."""
    monkeypatch.setattr(objective, "_OBJECTIVES", dict(objective._OBJECTIVES))

    @dn.register_objective("shares")
    class Shares(Objective):
        def __init__(self, shares: "tuple[float, ...]" = ()):
            self.shares = shares

        def __call__(self, inputs):
            return sum(self.shares)

    assert make_objectives({"shares": {"shares": [0.5]}})
    with pytest.raises(dn.SettingError, match=r"objectives.shares.shares\[0\]: expected a finite"):
        make_objectives({"shares": {"shares": ["a"]}})
