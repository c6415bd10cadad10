"""Which cells α proposes, and which of them is taken."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import darts_noise as dn
from darts_noise.data.seeds import generator
from darts_noise.search import candidates
from darts_noise.search.candidates import Reading, Trials, choose, propose

TINY = {"space": "noise", "nodes": 1, "channels": 4, "num_cells": 3, "stem": "small"}
FAST = {"candidate_epochs": 1, "noise_samples": 32}


@pytest.fixture
def searched(digits):
    """Makes an ended search of small size (its α as it begins), and its data."""

    def make(**more):
        data = digits()
        torch.manual_seed(0)
        module = dn.SearchModule(**{**TINY, **FAST, "candidates": 4, "noise_weight": 2.0, **more})
        module.build(data)
        return module, data

    return make


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(candidates, "NOISE_EPOCHS", 2)


def test_the_first_proposal_is_what_alpha_stands_for_and_the_others_differ():
    arch = dn.Architecture("noise", nodes=2)
    found = propose(arch, 20, seed=5)
    assert found[0] == arch.genotype()
    assert len(set(found)) == len(found) == 20
    assert propose(arch, 20, seed=5) == found
    assert propose(arch, 20, seed=6)[1:] != found[1:]


def test_where_alpha_is_certain_there_is_one_proposal():
    arch = dn.Architecture("darts")
    with torch.no_grad():
        for alpha in arch.parameters():
            alpha.copy_(torch.randn_like(alpha).argsort(1).argsort(1) * 1000.0)
    assert propose(arch, 8, seed=0) == [arch.genotype()]


def test_a_draw_is_as_likely_as_alpha_makes_it():
    arch = dn.Architecture("noise", nodes=1)
    wanted = {"batch": 0.6, "layer": 0.3, "none": 0.1}
    names = dict(arch.space.macro)["normalisation"]
    with torch.no_grad():
        arch.macro["normalisation"].copy_(torch.tensor([[wanted[n] for n in names]]).log() + 7)
    random, draws = generator(0), 2000
    counts = Counter(arch.draw(random).macro["normalisation"] for _ in range(draws))
    for name, share in wanted.items():  # four standard deviations
        assert abs(counts[name] / draws - share) < 4 * math.sqrt(share * (1 - share) / draws)


def test_the_cell_of_the_least_objective_is_taken(searched, monkeypatch):
    """Against all of them measured: what is left out cannot have been better."""
    module, data = searched()
    cells = propose(module.arch, 4, 0)
    of, asked = {}, []
    monkeypatch.setattr(Trials, "on_data", lambda self, g: Reading(of[g][0], 0.5))

    def on_noise(self, genotype, noise):
        asked.append(genotype)
        return Reading(of[genotype][1], 0.1)

    monkeypatch.setattr(Trials, "on_noise", on_noise)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 5)), min_size=4, max_size=4))
    def check(losses):
        asked.clear()
        of.update(zip(cells, losses, strict=True))
        module.chosen = None
        found = choose(module, data)
        least = min(val + 2 * max(0, 1 - noise / math.log(10)) for val, noise in losses)
        assert found[0].objective == pytest.approx(least, rel=1e-5, abs=1e-5)
        assert module.genotype() == found[0].genotype
        for candidate in found:
            assert (candidate.objective is None) == (candidate.genotype not in asked)
            if candidate.objective is None:
                assert candidate.validation.loss >= found[0].objective

    check()


def test_without_a_penalty_validation_alone_decides(searched, short):
    module, data = searched(noise_weight=0.0)
    found = choose(module, data)
    assert [c.noise for c in found] == [None] * 4
    best, *others = found
    assert best.objective == best.validation.loss == min(c.validation.loss for c in found)
    assert [c.objective for c in others] == [None] * 3  # nothing can make them better


def test_the_same_alpha_gives_the_same_figures_and_torchs_generator_stays(searched, short):
    records, lines = [], []
    for ahead in (1, 2):
        module, data = searched()
        torch.manual_seed(ahead)
        before = torch.get_rng_state()
        found = choose(module, data, lines.append)
        assert torch.equal(torch.get_rng_state(), before)
        records.append([c.to_dict() for c in found])
        assert module.genotype().meta["candidates"] == 4
        assert module.genotype().meta["noise_weight"] == 2.0
    assert records[0] == records[1]
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    assert lines[0].startswith("candidate 1/4  val 0.")


def test_what_can_memorise_the_noise_is_told_from_what_cannot(searched, monkeypatch):
    """An independent reference: cells whose noise fit the `converged` protocol knows too."""
    monkeypatch.setattr(candidates, "NOISE_EPOCHS", 60)
    module, data = searched(noise_samples=64, candidate_channels=8)
    cells = {
        norm: dn.Genotype(
            [[[operation, 0], [operation, 1]]],
            [2],
            [[[operation, 0], [operation, 1]]],
            [2],
            macro={"normalisation": norm, "input_filter": filtered},
        )
        for norm, operation, filtered in (
            ("batch", "sep_conv_3x3", "none"),
            ("none", "avg_pool_3x3", "blur_5x5"),
        )
    }
    trials = Trials(module, data)
    readings = {norm: trials.on_noise(cell, module.noise_set) for norm, cell in cells.items()}
    assert readings["batch"].accuracy > 0.95 > 0.5 > readings["none"].accuracy
    assert readings["batch"].loss < 0.3 < 1.5 < readings["none"].loss


def test_a_training_that_diverges_is_the_worst_on_data(searched, short, monkeypatch):
    module, data = searched(gradient_clip=0.0)
    monkeypatch.setattr(candidates, "RATE", 1e30)
    reading = Trials(module, data).on_data(module.arch.genotype())
    assert reading.loss == math.inf


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"candidates": 0}, "model.candidates: expected 1 or more, got 0"),
        ({"candidate_epochs": 0}, "model.candidate_epochs: expected 1 or more, got 0"),
        (
            {"candidate_channels": 0},
            "model.candidate_channels: expected 1 or more, or null, got 0",
        ),
    ],
)
def test_refusals_name_the_key(wrong, message):
    with pytest.raises(ValueError, match=message):
        dn.SearchModule(**TINY, **wrong)
