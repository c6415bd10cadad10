"""Strategies: each has the property that its paper claims; how they are asked and told."""

import math
import random
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import darts_noise as dn
from darts_noise.reading_record import Reading
from darts_noise.search import asking, candidate_trainings
from darts_noise.search.asking import ask_and_tell, propose
from darts_noise.search.candidate import Candidate
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.parts import make_parts, spaces_of
from darts_noise.search.strategies import evolution, make_strategy
from darts_noise.search.strategies import strategy as strategies
from darts_noise.search.strategies.cells import assemble, neighbours, random_cell
from darts_noise.search.strategies.controller import Controller, reward
from darts_noise.search.strategies.evolution import mutated
from darts_noise.space import spaces
from darts_noise.space.spaces import Space

SMALL = Space(
    "small",
    ("none", "skip_connect", "conv_3x3"),
    nodes=1,
    macro=(("normalisation", ("batch", "none")),),
)
"""Two operations on each of four edges and one choice: 32 cells."""
WIDE = replace(SMALL, nodes=2, macro=(("normalisation", ("batch", "none")), ("width", (1.0,))))
"""Here the second node chooses two of three predecessors."""
PAIRS = replace(SMALL, operations=("none", "skip_connect"), nodes=2)
"""Only the predecessors of the second node and the normalisation are to choose: 18 cells."""
TINY = {"space": "low_pass", "nodes": 1, "channels": 4, "num_cells": 3, "stem": "small"}
UNEQUAL = replace(
    SMALL,
    nodes=2,
    allowed=(("normal", (("skip_connect",), ("conv_3x3",), *[("skip_connect", "conv_3x3")] * 3)),),
)


def test_random_search_takes_each_combination_of_a_list_equally_often():
    macro = [{"gain": "free", "logit_scale": 1}, {"gain": "bounded", "logit_scale": [256, 1024]}]
    config = dn.SearchConfig("bounded", nodes=1, macro=macro, strategy="random", race=0)
    parts = make_parts(config)
    assert dict(parts.space.macro)["logit_scale"] == (1, 256, 1024)
    parts.strategy.spaces = spaces_of(config)
    torch.manual_seed(0)
    parts.strategy.start(parts.space)
    drawn = [parts.strategy.ask().genotype for _ in range(600)]
    counts = Counter((cell.choice("gain"), cell.choice("logit_scale")) for cell in drawn)
    assert counts.keys() == {("free", 1), ("bounded", 256), ("bounded", 1024)}
    assert all(abs(count - 200) < 50 for count in counts.values())  # four standard deviations


def decided(space, places):
    """The cell of these decisions, then of the first option; and the options of each decision."""
    left, sizes = iter(places), []

    def take(kind, options, count):
        options = list(options)
        if count == len(options):  # one answer
            return options
        sizes.extend(range(len(options), len(options) - count, -1))
        return [options.pop(next(left, 0)) for _ in range(count)]

    return assemble(space, take), sizes


def every_decision(space):
    """The places of every series of decisions, and the cell that it makes."""
    places = []
    while True:
        cell, sizes = decided(space, places)
        places += [0] * (len(sizes) - len(places))
        yield tuple(places), cell
        while places and places[-1] + 1 == sizes[len(places) - 1]:
            places.pop()
        if not places:
            return
        places[-1] += 1


def every_cell(space):
    return {str(cell): cell for _, cell in every_decision(space)}


def told(cell, objective, **more):
    return Candidate(cell, Reading(objective, 0.5), None, objective, **more)


def started(name, space=SMALL, **settings):
    strategy = make_strategy({name: settings})
    strategy.start(space)
    return strategy


# ---------------------------------------------------------------- cells


@pytest.mark.parametrize(("space", "count"), [(SMALL, 32), (WIDE, (4 * 3 * 4) ** 2 * 2)])
def test_random_cells_are_uniform_over_the_space(space, count):
    cells = every_cell(space)
    assert len(cells) == count
    torch.manual_seed(0)
    if space is SMALL:
        draws = 3200
        found = Counter(str(random_cell(space)) for _ in range(draws))
        chi = sum((found[name] - draws / count) ** 2 / (draws / count) for name in cells)
        assert set(found) <= set(cells)
        assert chi < 60  # 31 degrees of freedom: p = 0.001 is 61
    else:
        assert {str(random_cell(space)) for _ in range(100)} <= set(cells)


def differences(one, other):
    """By kind: in how many operations, predecessors of nodes and macro choices they differ."""
    operations = edges = 0
    for kind in ("normal", "reduce"):
        for left, right in zip(getattr(one, kind), getattr(other, kind), strict=True):
            of, to = ({p: o for o, p in pairs} for pairs in (left, right))
            edges += len(of.keys() - to.keys())
            operations += sum(of[p] != to[p] for p in of.keys() & to.keys())
            if len(lost := of.keys() - to.keys()) == 1:  # did the moved operation stay the same?
                [gained] = to.keys() - of.keys()
                moved = of[lost.pop()], to[gained]
                operations += moved[0] != moved[1]
    macro = sum(value != other.macro[name] for name, value in one.macro.items())
    return operations, edges, macro


def test_the_neighbours_are_all_cells_that_differ_in_one_thing():
    cells = every_cell(WIDE)
    torch.manual_seed(1)
    for _ in range(3):
        cell = random_cell(WIDE)
        found = neighbours(WIDE, cell)
        names = {kind: {str(make()) for make in makes} for kind, makes in found.items()}
        assert sum(map(len, found.values())) == sum(map(len, names.values()))
        for kind, wanted in (("operation", (1, 0, 0)), ("edge", (0, 1, 0)), ("macro", (0, 0, 1))):
            expected = {name for name, one in cells.items() if differences(cell, one) == wanted}
            assert names[kind] == expected, kind


def test_a_mutation_stays_within_what_each_edge_allows():
    cells, cell = every_cell(UNEQUAL), random_cell(UNEQUAL)
    torch.manual_seed(0)
    for _ in range(200):
        child = mutated(UNEQUAL, cell)
        assert str(child) in cells
        assert child != cell
        cell = child


def test_the_kinds_of_a_mutation_are_equally_likely():
    torch.manual_seed(0)
    cell, draws = random_cell(WIDE), 900
    kinds = Counter(differences(cell, mutated(WIDE, cell)) for _ in range(draws))
    assert kinds.keys() == {(1, 0, 0), (0, 1, 0), (0, 0, 1)}
    for count in kinds.values():  # four standard deviations
        assert abs(count - draws / 3) < 4 * math.sqrt(draws * 2 / 9)


# ---------------------------------------------------------------- random


@pytest.mark.parametrize(("rungs", "reduction"), [(1, 4), (2, 2), (3, 2), (3, 3)])
def test_promotions_are_those_of_asha(rungs, reduction):
    """Against algorithm 2 of arXiv:1810.05934, with one worker."""
    space = replace(SMALL, nodes=3)
    drawn = random.Random(0)
    torch.manual_seed(0)
    strategy = started("random", space, rungs=rungs, reduction=reduction)
    results, promoted = [{} for _ in range(rungs)], [set() for _ in range(rungs)]

    def job():
        for rung in reversed(range(rungs - 1)):
            best = sorted(results[rung], key=results[rung].get)
            for cell in best[: len(results[rung]) // reduction]:
                if cell not in promoted[rung]:
                    promoted[rung].add(cell)
                    return cell, rung + 1
        return None, 0

    for _ in range(120):
        expected, rung = job()
        proposal = strategy.ask()
        assert proposal.share == pytest.approx(reduction ** (rung + 1 - rungs))
        if expected is not None:
            assert proposal.genotype == expected
        results[rung].setdefault(proposal.genotype, drawn.random())
        score = results[rung][proposal.genotype]
        strategy.tell(told(proposal.genotype, score, share=proposal.share))
    assert all(results)


# ---------------------------------------------------------------- evolution


def test_the_oldest_dies_and_the_best_of_a_sample_has_a_child(monkeypatch):
    """Against algorithm 1 of arXiv:1802.01548, with the same draws."""
    space, drawn = replace(SMALL, nodes=3), random.Random(1)
    strategy = started("evolution", space, population=6, sample=3)
    parents, population = [], []
    monkeypatch.setattr(
        evolution, "mutated", lambda space, cell: (parents.append(cell), mutated(space, cell))[1]
    )
    for number in range(40):
        torch.manual_seed(number)
        cell = strategy.ask().genotype
        torch.manual_seed(number)
        if number < 6:
            assert cell == random_cell(space)
        else:
            sample = [population[i] for i in torch.randint(6, (3,)).tolist()]
            parent = min(sample, key=lambda one: one[1])[0]
            assert parents[-1] == parent
            assert sum(differences(parent, cell)) == 1
        score = drawn.random()
        strategy.tell(told(cell, score))
        population = [*population, (cell, score)][-6:]
    assert len(parents) == 34


def test_evolution_finds_better_cells_than_chance():
    """Where every operation counts for itself, with as many cells."""

    def worth(cell):
        pairs = [(k, i, pair) for k in ("normal", "reduce") for i, n in enumerate(getattr(cell, k))
                 for pair in n]  # fmt: skip
        return sum(random.Random(str(pair)).random() for pair in pairs)

    space, found = replace(SMALL, nodes=3), {}
    for name in ("random", "evolution"):
        best = []
        for seed in range(5):
            torch.manual_seed(seed)
            strategy, scores = started(name, space), []
            for _ in range(60):
                cell = strategy.ask().genotype
                scores.append(worth(cell))
                strategy.tell(told(cell, scores[-1]))
            best.append(min(scores))
        found[name] = sum(best)
    assert found["evolution"] < found["random"]


# ---------------------------------------------------------------- nas


def test_the_controller_draws_each_cell_as_often_as_it_says():
    torch.manual_seed(0)
    controller = Controller(PAIRS, hidden=4, layers=2)
    with torch.no_grad():
        for parameter in controller.parameters():
            parameter.mul_(30)
        shares = Counter()
        for places, cell in every_decision(PAIRS):
            draw = controller(iter(places))
            assert draw.genotype == cell
            shares[str(cell)] += math.exp(draw.log_probability)
        assert len(shares) == 18  # two orders of two predecessors are one cell
        assert sum(shares.values()) == pytest.approx(1.0, abs=1e-5)
        draws = 200
        found = Counter(str(controller().genotype) for _ in range(draws))
    assert max(shares.values()) > 0.1
    for name, share in shares.items():
        assert abs(found[name] / draws - share) < 4 * math.sqrt(share * (1 - share) / draws)


@pytest.mark.parametrize(("space", "baseline"), [(SMALL, 0.0), (PAIRS, 0.7)])
def test_reinforce_is_the_gradient_of_the_expected_reward(space, baseline):
    """The mean of what `tell` adds, over all cells, against the exact gradient, with any baseline.
    The gradient of the entropy is a term of its own."""
    torch.manual_seed(0)
    strategy, beta = started("nas", space, hidden=5, layers=1, entropy=0.0, batch=10**9), 0.3
    controller = strategy.controller.double()
    for parameter in controller.parameters():
        parameter.data.mul_(10)
    accuracy = {places: random.Random(str(places)).random() for places, _ in every_decision(space)}
    expected = sum(
        controller(iter(places)).log_probability.exp() * share**3
        for places, share in accuracy.items()
    )
    exact = torch.autograd.grad(expected, list(controller.parameters()), allow_unused=True)
    pairs = zip(controller.parameters(), exact, strict=True)  # a head may have no decision
    parameters, exact = zip(
        *((p, wanted) for p, wanted in pairs if wanted is not None), strict=True
    )
    assert len(parameters) >= 8
    mean = [torch.zeros_like(parameter) for parameter in parameters]
    for places, share in accuracy.items():
        strategy.draw, strategy.baseline = controller(iter(places)), baseline
        probability = strategy.draw.log_probability.exp().detach()
        strategy.tell(Candidate(strategy.draw.genotype, Reading(0.4, share), None, 0.4))
        for total, parameter in zip(mean, parameters, strict=True):
            total -= probability * parameter.grad * strategy.batch
            parameter.grad = None
    for total, wanted in zip(mean, exact, strict=True):
        torch.testing.assert_close(total, wanted, rtol=1e-6, atol=1e-9)

    strategy.entropy, strategy.baseline = beta, 0.5**3
    strategy.draw = controller()
    [wanted] = torch.autograd.grad(strategy.draw.entropy, controller.start, retain_graph=True)
    strategy.tell(Candidate(strategy.draw.genotype, Reading(0.4, 0.5), None, 0.4))
    torch.testing.assert_close(controller.start.grad * strategy.batch, -beta * wanted)


def test_the_baseline_is_the_moving_average_of_earlier_rewards():
    torch.manual_seed(0)
    strategy, before, mean = started("nas", baseline=0.8, batch=3), None, None
    start = strategy.controller.start.detach().clone()
    for number, accuracy in enumerate((0.5, 0.9, 0.2), start=1):
        cell = strategy.ask().genotype
        assert torch.equal(strategy.controller.start, start)  # no step before the batch is whole
        assert strategy.baseline == before
        strategy.tell(Candidate(cell, Reading(1.0, accuracy), None, 1.0))
        mean = accuracy**3 if number == 1 else 0.8 * mean + 0.2 * accuracy**3
        before = pytest.approx(mean)
        assert strategy.baseline == before
    assert not torch.equal(strategy.controller.start, start)


def test_the_reward_is_the_cube_of_the_best_of_the_last_accuracies_less_the_penalty():
    cell = random_cell(SMALL)
    best = Candidate(cell, Reading(0.5, 0.7), None, 0.5, peak=0.8)
    assert reward(best) == pytest.approx(0.8**3)
    assert reward(replace(best, peak=None)) == pytest.approx(0.7**3)
    punished = replace(best, objective=0.5 + 0.25)  # λ · P = 0.25
    assert reward(punished) == pytest.approx((0.8 * math.exp(-0.25)) ** 3)
    assert reward(replace(best, objective=None)) == 0


def test_the_controller_learns_what_is_rewarded():
    torch.manual_seed(0)
    strategy = started("nas", learning_rate=0.05)

    def skips(cell):
        return sum(o == "skip_connect" for n in (*cell.normal, *cell.reduce) for o, _ in n)

    before = [skips(strategy.ask().genotype) for _ in range(20)]
    counts = []
    for _ in range(60):
        cell = strategy.ask().genotype
        counts.append(skips(cell))
        strategy.tell(Candidate(cell, Reading(1.0, counts[-1] / 4), None, 1.0))
    assert sum(counts[-20:]) / 20 > 3.5 > 2.7 > sum(before) / 20


@pytest.mark.parametrize("space", [WIDE, PAIRS, UNEQUAL], ids=lambda space: str(space.nodes))
def test_many_log_probabilities_at_once_are_those_of_each_cell(space):
    """Also in a space whose cells differ in the number of their decisions; and their gradients."""
    torch.manual_seed(0)
    controller = Controller(space, hidden=5, layers=2).double()
    for parameter in controller.parameters():
        parameter.data.mul_(10)
    draws = [controller() for _ in range(20)]
    direct = torch.stack([draw.log_probability for draw in draws])
    together = controller.log_probabilities([draw.decisions for draw in draws])
    torch.testing.assert_close(together, direct)
    assert together.unique().numel() > 5
    parameters = list(controller.parameters())
    weights = torch.arange(20.0, dtype=torch.float64)
    found, wanted = (
        torch.autograd.grad(weights @ logs, parameters, allow_unused=True, materialize_grads=True)
        for logs in (together, direct)
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


# ---------------------------------------------------------------- asked and told


@pytest.fixture
def searching(digits, monkeypatch):
    """Makes a search by a strategy whose trainings take no time, and its data."""

    def figures(cell, share):
        drawn = random.Random(f"{cell.normal} {cell.reduce} {cell.macro} {share}")
        return drawn.uniform(0, 3), drawn.uniform(0, 4)

    def on_data(self, cell, channels, share, accuracies):
        self.steps += math.ceil(10 * share)
        made.append((cell, share))
        if accuracies is not None:
            accuracies += [0.25, 0.75, 0.5]
        return Reading(figures(cell, share)[0], 0.5)

    def on_noise(self, cell, channels, noise, enough, share):
        self.steps += math.ceil(20 * share)
        return Reading(figures(cell, share)[1], 0.5)

    made = []
    monkeypatch.setattr(CandidateTrainings, "on_data", on_data)
    monkeypatch.setattr(CandidateTrainings, "on_noise", on_noise)
    monkeypatch.setitem(spaces._SPACES, "small", replace(SMALL, nodes=2))
    small = {"channels": 4, "num_cells": 3, "stem": "small", "noise_samples": 32}

    def make(strategy, **more):
        data = digits()
        module = dn.SearchModule("small", strategy=strategy, strategy_steps=400, **small, **more)
        module.prepare(data)
        made.clear()
        return module, data, made

    return make


EACH = ["random", {"random": {"rungs": 3, "reduction": 2}}, "evolution", "nas"]


@pytest.mark.parametrize("strategy", EACH, ids=str)
def test_a_search_goes_on_from_what_is_measured(searching, strategy):
    """Whatever is known, it proposes the same cells, and measures none of them again."""
    module, data, made = searching(strategy)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    lines = []
    whole = propose(module, data, lambda found, budget: lines.append((str(found[-1]), budget)))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(made) == len(set(map(str, made))) == len(whole) == len(lines) > 13
    assert sum(candidate.steps for candidate in whole[:-1]) < 400 + 30
    assert sum(candidate.steps for candidate in whole) >= 400
    assert {budget for _, budget in lines} == {400}
    if module.strategy.exact:  # a comparison of any two cells needs both objectives
        assert all(candidate.noise is not None for candidate in whole)
    assert module.genotype() == whole[0].genotype
    assert module.genotype().meta["candidates"] == len(whole)
    assert dn.Genotype.from_dict(module.genotype().to_dict()) == module.genotype()
    for known in (whole[::2], whole):
        again, data, made = searching(strategy)
        torch.manual_seed(2)
        assert propose(again, data, known=known) == whole
        assert len(made) == len(whole) - len(known)
    other, data, _ = searching(strategy, seed=1)
    assert propose(other, data) != whole


def test_measurements_that_are_cut_short_never_change_the_best_cell(searching):
    saved = []
    for seed in range(5):
        module, data, _ = searching("random", seed=seed)
        found = propose(module, data)
        exact, data, _ = searching("random", seed=seed)
        exact.strategy.exact = True
        trainings = CandidateTrainings(exact, data)
        exact.strategy.start(exact.space)
        whole = ask_and_tell(exact.strategy, trainings, seed=seed, cells=len(found))
        assert found[0].objective == min(candidate.objective for candidate in whole)
        assert {c.genotype for c in whole} == {c.genotype for c in found}
        saved.append(sum(c.steps for c in whole) - sum(c.steps for c in found))
    assert sum(saved) > 500


def test_a_cell_that_was_trained_longer_comes_first(searching):
    found = propose(*searching({"random": {"rungs": 3, "reduction": 2}})[:2])
    assert [c.share for c in found] == sorted((c.share for c in found), reverse=True)
    assert {c.share for c in found} == {1.0, 0.5, 0.25}
    assert found[0].objective == min(c.score for c in found if c.share == 1)
    for candidate in found:
        assert Candidate.from_dict(candidate.to_dict()) == candidate


def test_only_a_strategy_that_asks_for_it_gets_the_best_of_the_last_accuracies(searching):
    assert {c.peak for c in propose(*searching("nas")[:2])} == {0.75}
    assert {c.peak for c in propose(*searching("evolution")[:2])} == {None}


def test_a_strategy_of_the_user_is_told_each_proposal_and_ends_if_it_repeats_itself(
    searching, monkeypatch
):
    monkeypatch.setattr(strategies, "_STRATEGIES", dict(strategies._STRATEGIES))
    heard = []

    @dn.register_strategy("mine")
    class Mine(dn.Strategy):
        def __init__(self, cells: int = 3) -> None:
            self.cells = cells

        def start(self, space):
            self.left = [random_cell(space) for _ in range(self.cells)]

        def ask(self):
            self.left.append(self.left.pop(0))
            return dn.Proposal(self.left[-1])

        def tell(self, candidate):
            heard.append((candidate, self.left[-1]))

    assert "mine" in dn.list_strategies()
    for taken in ("mine", "darts"):
        with pytest.raises(ValueError, match="is registered already"):
            dn.register_strategy(taken)
    module, data, _ = searching({"mine": {"cells": 4}})
    found = propose(module, data)
    assert len(found) == 4
    assert all(candidate.genotype == cell for candidate, cell in heard)
    assert {candidate.genotype for candidate, _ in heard} == {c.genotype for c in found}
    assert len(heard) == 4 + asking.REPEATS
    assert "100 cells in a row" in module.stopped_because


def crash(self):
    raise KeyError("gone")


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ({"ask": lambda self: self.cell}, ["expected a Proposal", "Genotype("]),
        ({"ask": lambda self: None}, ["expected a Proposal", "None"]),
        ({"ask": lambda self: dn.Proposal("darts_v2")}, ["expected a Proposal", "darts_v2"]),
        ({"share": 0}, ["share above 0 and at most 1", "got 0"]),
        ({"share": 2.0}, ["share above 0 and at most 1", "got 2.0"]),
        ({"share": math.nan}, ["share above 0 and at most 1", "got nan"]),
        ({"share": "half"}, ["share above 0 and at most 1", "half"]),
        ({"start": lambda self, space: crash(self)}, ["KeyError: 'gone'", "strategies.py, line"]),
        ({"ask": crash}, ["crash failed", "KeyError: 'gone'", "strategies.py, line"]),
        ({"tell": lambda self, candidate: crash(self)}, ["KeyError: 'gone'", ".py, line"]),
    ],
    ids=lambda given: "-".join(map(str, given)),
)
def test_a_faulty_strategy_of_the_user_is_answered_with_one_line(
    searching, monkeypatch, methods, words
):
    monkeypatch.setattr(strategies, "_STRATEGIES", dict(strategies._STRATEGIES))

    class Faulty(dn.Strategy):
        share = 1.0

        def start(self, space):
            self.cell = random_cell(space)

        def ask(self):
            return dn.Proposal(self.cell, self.share)

        def tell(self, candidate):
            pass

    dn.register_strategy("faulty")(type("Faulty", (Faulty,), methods))
    module, data, _ = searching("faulty")
    with pytest.raises(dn.SettingError, match=r"^model\.strategy: ") as caught:
        propose(module, data)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_class_that_is_no_strategy_or_cannot_be_made_is_answered_with_one_line(monkeypatch):
    monkeypatch.setattr(strategies, "_STRATEGIES", dict(strategies._STRATEGIES))

    class Other:
        pass

    class Abstract(dn.Strategy):
        pass

    with pytest.raises(TypeError, match="'other': expected a subclass of"):
        dn.register_strategy("other")(Other)
    assert "other" not in dn.list_strategies()
    dn.register_strategy("abstract")(Abstract)
    with pytest.raises(dn.SettingError, match=r"^strategy\.abstract: TypeError: .*ask.*tell"):
        make_strategy("abstract")


def test_lightning_does_not_train_a_supernet_for_another_strategy(searching):
    module, data, _ = searching("random")
    module.trainer = SimpleNamespace(datamodule=data)
    with pytest.raises(dn.SettingError, match=r"^model.strategy: expected 'darts'"):
        module.setup("fit")


def test_the_default_budget_is_that_of_twenty_whole_cells(digits, monkeypatch):
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 2)
    small = {"channels": 4, "num_cells": 3, "stem": "small", "noise_samples": 32, "nodes": 1}
    module, data = (
        dn.SearchModule("low_pass", **small, strategy="nas", candidate_epochs=2),
        digits(),
    )
    module.prepare(data)
    trainings = CandidateTrainings(module, data)
    monkeypatch.setattr(candidate_trainings, "FITTED", -1.0)  # nothing ends early
    measured = trainings.measured(random_cell(module.space))
    assert asking.budget(trainings) == 20 * measured.steps


def test_the_peak_is_the_largest_accuracy_of_the_last_epochs(digits, monkeypatch):
    small = {"channels": 4, "num_cells": 3, "stem": "small", "noise_weight": 0.0, "nodes": 1}
    module, data = (
        dn.SearchModule("low_pass", **small, strategy="nas", candidate_epochs=4),
        digits(),
    )
    module.prepare(data)
    trainings, cell = CandidateTrainings(module, data), random_cell(module.space)
    read, seen = candidate_trainings.read, []
    monkeypatch.setattr(
        candidate_trainings, "read", lambda *given: (seen.append(read(*given)), seen[-1])[1]
    )
    plain = trainings.measured(cell)
    assert len(seen) == 1
    trainings.peak_epochs = 3
    peaked = trainings.measured(cell)
    accuracies = [reading.accuracy for reading in seen[1:4]]
    assert len(seen) == 5
    assert peaked.peak == max(accuracies)
    assert seen[3] == seen[4] == peaked.validation == plain.validation  # looking changes nothing
    assert replace(peaked, peak=None) == plain
