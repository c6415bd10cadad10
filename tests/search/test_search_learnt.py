"""What a controller has learnt: its hidden states, its cells, and its file."""

from collections import Counter
from dataclasses import replace
from itertools import chain, repeat

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.stats import chisquare, spearmanr

from darts_noise.reading_record import Reading
from darts_noise.search import learnt as module
from darts_noise.search.candidate import Candidate, write_candidates
from darts_noise.search.learnt import (
    CONTROLLER,
    FORMAT,
    learnt,
    read_controller,
    spearman,
    write_controller,
)
from darts_noise.search.strategies.controller import Controller
from darts_noise.space.spaces import Space

OPERATIONS = Space("tiny", ("none", "skip_connect", "conv_3x3", "conv_1x1"), nodes=1)
"""One of three operations on each of four edges, and nothing else to decide."""
SMALL = replace(
    OPERATIONS,
    nodes=2,
    operations=("none", "skip_connect", "conv_3x3"),
    macro=(("normalisation", ("batch", "none")),),
)
SKIP, CONV = ("skip_connect",), ("conv_3x3",)
UNEQUAL = replace(
    SMALL,
    allowed=(("normal", (SKIP, CONV, SKIP, CONV, SKIP + CONV)), ("reduce", (SKIP,) * 5)),
)
"""Here the number of decisions depends on the predecessors of the second node."""


@pytest.fixture(autouse=True)
def few_cells(monkeypatch):
    monkeypatch.setattr(module, "CELLS", 400)


def made(space, hidden=4, layers=2, scale=1.0):
    torch.manual_seed(3)
    controller = Controller(space, hidden, layers)
    with torch.no_grad():
        for parameter in controller.parameters():
            parameter *= scale
    return controller


def shift_register(space, steps):
    """A controller whose state is the list of all its decisions: block 0 is the last one."""
    width = len(space.operations)
    controller = made(space, steps * width, layers=1, scale=0.0)
    lstm, size = controller.lstm, steps * width
    with torch.no_grad():
        for gate, bias in enumerate((20.0, -20.0, 0.0, 20.0)):  # input, forget, value, output
            lstm.bias_ih_l0[gate * size : (gate + 1) * size] = bias
        value = slice(2 * size, 3 * size)
        lstm.weight_ih_l0[value] = 20 * torch.eye(size)
        lstm.weight_hh_l0[value] = 20 * torch.diag(torch.ones(size - width), -width)
        embeddings = controller.embeddings["operation"].weight
        embeddings[:, :width] = 2 * torch.eye(width) - 1
    return controller


# ---------------------------------------------------------------- hidden states


def test_states_that_are_the_cell_have_a_correlation_of_1():
    found = learnt(shift_register(OPERATIONS, steps=4))
    assert found.trained.correlations["operations"] == pytest.approx(1, abs=1e-6)
    assert found.trained.correlations["connections"] is None  # every cell has all of them
    assert found.trained.states.shape == (100, 16)
    assert set(found.trained.correlations) == {"operations", "connections"}  # no choices

    short = learnt(shift_register(OPERATIONS, steps=1)).trained  # knows the last decision only
    assert 0.2 < short.correlations["operations"] < 0.8


def test_states_that_are_all_alike_have_no_correlation():
    for controller in (made(SMALL, scale=0.0), made(replace(OPERATIONS, operations=("conv_3x3",)))):
        found = learnt(controller).trained
        assert set(found.correlations.values()) == {None}
        assert (found.states == found.states[0]).all()
    assert found.distinct == 1
    assert found.differences == 0


def test_rho_is_that_of_scipy():
    torch.manual_seed(0)
    one, other = torch.randn(50).numpy(), torch.randint(4, (50,)).numpy()
    assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert spearman(one, 0 * other + 1e-9 * one) is None


# ---------------------------------------------------------------- draws


def every_draw(controller):
    """Every series of decisions, as single draws."""
    places = []
    while True:
        draw = controller(chain(iter(places), repeat(0)))
        places += [0] * (len(draw.decisions) - len(places))
        yield draw
        while places and places[-1] + 1 == len(draw.decisions[len(places) - 1][0]):
            places.pop()
        if not places:
            return
        places[-1] += 1


@torch.no_grad()
def test_cells_drawn_at_once_have_the_probabilities_and_states_of_single_draws():
    controller = made(UNEQUAL, scale=20.0)
    embeddings = torch.cat([part.weight for part in controller.embeddings.values()])
    expected, states, lengths = Counter(), {}, set()
    for draw in every_draw(controller):
        taken = [option for _, option in draw.decisions]
        outputs, _ = controller.lstm(torch.cat([controller.start[None], embeddings[taken]]))
        name = str(draw.genotype)
        lengths.add(len(taken))
        expected[name] += float(draw.log_probability.exp())
        states.setdefault(name, []).append(outputs[-1])
    assert len(lengths) > 1
    assert sum(expected.values()) == pytest.approx(1, abs=1e-5)

    torch.manual_seed(0)
    cells, found = controller.sample(3000)
    for cell, state in zip(cells[:200], found, strict=False):
        assert min((state - one).abs().max() for one in states[str(cell)]) < 1e-5
    counts = Counter(map(str, cells))
    often = [name for name in expected if 3000 * expected[name] > 5]
    observed = [counts[name] for name in often] + [3000 - sum(counts[name] for name in often)]
    wanted = [3000 * expected[name] for name in often]
    assert len(often) > 5
    assert set(counts) <= set(expected)
    assert chisquare(observed, [*wanted, 3000 - sum(wanted)]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("space", "mean"),
    [
        (OPERATIONS, 4 * 2 / 3),  # four operations of three
        # Two edges with one of two operations; then two of three predecessors, of which an edge is
        # shared with probability 2/3; and one choice of two.
        (SMALL, 2 * (2 / 2 + 2 * (1 - 2 / 3 / 2)) + 1 / 2),
    ],
)
def test_an_untrained_controller_draws_nearly_uniform_cells(space, mean):
    drawn = learnt(made(space, 8, 1)).untrained
    assert drawn.differences == pytest.approx(mean, rel=0.03)
    assert drawn.parts == 4 * space.nodes + len(space.macro)
    assert drawn.cells == 400


def test_a_controller_that_has_decided_draws_few_cells():
    controller = made(OPERATIONS)
    with torch.no_grad():
        controller.heads["operation"].bias[1] = 20.0
    drawn = learnt(controller).trained
    assert drawn.distinct < 10
    assert drawn.differences < 0.1


# ---------------------------------------------------------------- accuracies, and the file


def test_measured_cells_give_the_accuracies_of_the_draws(tmp_path):
    controller = made(OPERATIONS)
    cells = list({str(cell): cell for cell in controller.sample(1200)[0]}.values())
    assert len(cells) == 81
    table = [Candidate(cell, Reading(1.0, row / 100)) for row, cell in enumerate(cells)]
    found = learnt(controller, table)
    assert len(found.trained.accuracies) == len(found.untrained.accuracies) == 400
    assert sum(found.trained.accuracies) / 400 == pytest.approx(0.4, abs=0.05)

    write_controller(tmp_path / CONTROLLER, controller)
    short = [replace(candidate, share=0.25) for candidate in table[1:]]
    write_candidates(tmp_path / "candidates.json", [table[0], *short])
    of_run = learnt(tmp_path).trained
    assert set(of_run.accuracies) == {0.0}
    assert of_run.correlations == found.trained.correlations
    assert (of_run.states == found.trained.states).all()


@pytest.mark.parametrize("space", [UNEQUAL, replace(OPERATIONS, complete=True)])
def test_a_controller_is_read_as_it_was_written(tmp_path, space):
    controller, path = made(space), tmp_path / CONTROLLER
    write_controller(path, controller)
    again = read_controller(path)
    assert again.space == space
    assert again.state_dict().keys() == controller.state_dict().keys()
    for name, weights in controller.state_dict().items():
        assert torch.equal(again.state_dict()[name], weights)


def changed(path, metadata=None, **weights):
    with safe_open(path, "pt") as file:
        metadata = metadata or file.metadata()
    save_file({**load_file(path), **weights}, path, metadata)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "expected the controller"),
        (lambda path: changed(path, start=torch.zeros(3)), "expected the controller"),
        (lambda path: changed(path, start=torch.zeros(10**6)), "expected the controller"),
        (lambda path: changed(path, start=torch.full((4,), torch.nan)), "'start': expected finite"),
        (lambda path: changed(path, start=torch.zeros(4).half()), "'start': expected finite"),
        (lambda path: changed(path, {"x": "y"}), "in its metadata, got"),
        (lambda path: changed(path, {FORMAT: "[1]"}), "expected the controller"),
        (
            lambda path: changed(path, {FORMAT: '{"name": "a", "operations": ["plugin"]}'}),
            "unknown operation 'plugin'",
        ),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, damage, problem):
    path = tmp_path / CONTROLLER
    write_controller(path, made(SMALL))
    damage(path)
    with pytest.raises(ValueError, match=problem) as told:
        learnt(tmp_path)
    assert str(told.value).startswith(f"{path}: ")
    assert "\n" not in str(told.value)
