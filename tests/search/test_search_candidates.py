"""The cells that α proposes, and the choice among them."""

import json
import math
import random
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import darts_noise as dn
from darts_noise.data.batches import BatchStream
from darts_noise.data.seeds import generator
from darts_noise.reading_record import Reading
from darts_noise.report.measured import count_parameters
from darts_noise.search import candidate_trainings
from darts_noise.search.candidate import Candidate
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.final_cell import FromAlpha, altered, choose, ordered

pytestmark = pytest.mark.usefixtures("small_space")

TINY = {"space": "small", "nodes": 1, "channels": 4, "num_cells": 3, "stem": "small"}
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
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 2)


def changes(one: dn.Genotype, other: dn.Genotype) -> int:
    """In how many operations and macro choices two cells differ."""
    pairs = [
        (a, b)
        for kind in ("normal", "reduce")
        for left, right in zip(getattr(one, kind), getattr(other, kind), strict=True)
        for a, b in zip(left, right, strict=True)
    ]
    assert all(a[1] == b[1] for a, b in pairs), "a predecessor has changed"
    macro = [(value, other.macro[name]) for name, value in one.macro.items()]
    return sum(a != b for a, b in pairs + macro)


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_proposal_from_the_best_changes_one_thing_in_it(nodes):
    arch, source = dn.Architecture("noise", nodes=nodes), generator(5)
    best = arch.genotype()
    found = [altered(best, arch.draw(source), source) for _ in range(200)]
    assert {changes(best, cell) for cell in found} <= {0, 1}
    kinds = {tuple(a != b for a, b in zip(parts(best), parts(c), strict=True)) for c in found}
    assert (
        len(kinds - {(False,) * 6}) == 6
    )  # both cells and each macro choice are among what changes


def parts(cell: dn.Genotype) -> list[object]:
    return [cell.normal, cell.reduce, *(cell.macro[name] for name in sorted(cell.macro))]


def test_where_alpha_is_certain_nothing_else_is_proposed(searched, short):
    module, data = searched(space="darts")
    with torch.no_grad():
        for alpha in module.arch.parameters():
            alpha.copy_(torch.randn_like(alpha).argsort(1).argsort(1) * 1000.0)
    [only] = choose(module, data)
    assert only.genotype == ordered(module.arch.genotype())
    assert module.genotype().meta["candidates"] == 1


def test_every_macro_choice_is_proposed_however_certain_alpha_is():
    arch = dn.Architecture("bounded", nodes=1)
    with torch.no_grad():
        arch.macro["logit_scale"][0, -1] = 1000.0
    strategy, scales = FromAlpha(arch, 400, seed=0), Counter()
    for _ in range(400):
        cell = strategy.ask().genotype
        strategy.tell(Candidate(cell, Reading(0.1, 0.5), objective=0.0))
        scales[cell.macro["logit_scale"]] += 1
    values = dict(arch.space.macro)["logit_scale"]
    assert len(values) == 4
    assert min(scales[value] for value in values) > 20


def test_a_draw_is_as_likely_as_alpha_makes_it():
    arch = dn.Architecture("noise", nodes=1)
    wanted = {"batch": 0.6, "layer": 0.3, "none": 0.1}
    names = dict(arch.space.macro)["normalisation"]
    with torch.no_grad():
        arch.macro["normalisation"].copy_(torch.tensor([[wanted[n] for n in names]]).log() + 7)
    source, draws = generator(0), 2000
    counts = Counter(arch.draw(source).macro["normalisation"] for _ in range(draws))
    for name, share in wanted.items():  # four standard deviations
        assert abs(counts[name] / draws - share) < 4 * math.sqrt(share * (1 - share) / draws)


def test_the_cell_of_the_least_objective_is_taken(searched, monkeypatch):
    """Against all of them measured: what is left out cannot have been better."""
    module, data = searched(candidates=9)
    salt, asked = [0], []

    def figures(genotype):
        drawn = random.Random(f"{salt[0]} {parts(genotype)}")
        return drawn.uniform(0, 3), drawn.uniform(0, 4)

    def on_noise(self, genotype, channels, noise, enough, share):
        asked.append(genotype)
        return Reading(figures(genotype)[1], 0.1)

    monkeypatch.setattr(
        CandidateTrainings, "on_data", lambda self, g, channels, **more: Reading(figures(g)[0], 0.5)
    )
    monkeypatch.setattr(CandidateTrainings, "on_noise", on_noise)
    for salt[0] in range(40):
        asked.clear()
        module.chosen = None
        strongest = ordered(module.genotype())
        found = choose(module, data)
        of = {c.genotype: figures(c.genotype) for c in found}
        least = min(val + 2 * max(0, 1 - noise / math.log(10)) for val, noise in of.values())
        assert len(of) == 9
        assert strongest in of
        assert found[0].objective == pytest.approx(least, rel=1e-5, abs=1e-5)
        assert module.genotype() == found[0].genotype
        for candidate in found:
            assert (candidate.objective is None) == (candidate.genotype not in asked)
            if candidate.objective is None:
                assert candidate.validation.loss >= found[0].objective


def test_the_later_proposals_climb(searched, monkeypatch):
    """Where every operation and choice counts for itself, changing one at a time is worth more
    than drawing all of them again and again."""

    def loss(self, genotype, channels=None, **more):
        named = [op for node in (*genotype.normal, *genotype.reduce) for op, _ in node]
        return Reading(sum(random.Random(str(p)).random() for p in [*named, *macro(genotype)]), 0)

    def macro(genotype):
        return sorted(genotype.macro.items())

    monkeypatch.setattr(CandidateTrainings, "on_data", loss)
    climbed, drawn = [], []
    for seed in range(5):
        module, data = searched(space="noise", candidates=30, noise_weight=0.0, seed=seed)
        climbed.append(choose(module, data)[0].objective)
        source = generator(seed)
        drawn.append(min(loss(None, module.arch.draw(source)).loss for _ in range(30)))
    assert sum(climbed) < sum(drawn)


def test_without_a_penalty_validation_alone_decides(searched, short):
    module, data = searched(noise_weight=0.0)
    found = choose(module, data)
    assert [c.noise for c in found] == [None] * 4
    losses = [c.validation.loss for c in found]
    assert losses == sorted(losses)
    assert found[0].objective == losses[0]


def test_the_same_alpha_gives_the_same_figures_and_torchs_generators_stay(
    searched, short, monkeypatch
):
    records, lines = [], []
    for ahead in (1, 2):
        module, data = searched()
        torch.manual_seed(ahead)
        before = torch.get_rng_state()
        with monkeypatch.context() as patch:
            patch.delattr(torch.cuda, "manual_seed_all")  # what seeds the GPUs' generators
            found = choose(module, data, lambda so_far: lines.append(str(so_far[-1])))
        assert torch.equal(torch.get_rng_state(), before)
        records.append([c.to_dict() for c in found])
        assert module.genotype().meta["candidates"] == 4
        assert module.genotype().meta["noise_weight"] == 2.0
    assert records[0] == records[1]
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    assert lines[0].startswith("val 0.")


def test_what_can_memorise_the_noise_is_told_from_what_cannot(searched, monkeypatch):
    """An independent reference: cells whose noise fit the `converged` protocol knows too."""
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 60)
    module, data = searched(noise_samples=64, channels=8)
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
    measure = CandidateTrainings(module, data).on_noise
    readings = {norm: measure(cell, 8, module.noise_set) for norm, cell in cells.items()}
    assert readings["batch"].accuracy > 0.95 > 0.5 > readings["none"].accuracy
    assert readings["batch"].loss < 0.3 < 1.5 < readings["none"].loss


def test_networks_of_different_operations_have_the_parameters_that_are_asked_for(searched):
    made = CandidateTrainings(*searched(candidate_parameters=6000))
    counts = {
        name: count_parameters(made.module.discrete(cell, made.channels(cell)))
        for name, cell in (
            ("pools", cell_of("avg_pool_3x3")),
            ("convolutions", cell_of("conv_3x3")),
        )
    }
    assert all(abs(count - 6000) < 900 for count in counts.values()), counts


def cell_of(operation, norm="layer"):
    cell = [[[operation, 0], [operation, 1]]]
    return dn.Genotype(cell, [2], cell, [2], macro={"normalisation": norm})


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_fit_ends_once_it_rules_the_cell_out(searched, monkeypatch, norm):
    """With a bound, the decision is that of the whole training, and earlier; also where a batch
    norm's running statistics still lag behind."""
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 40)
    module, data = searched(noise_samples=64, channels=8)
    cell = cell_of("sep_conv_3x3", norm)
    steps = []
    batch = BatchStream.batch
    monkeypatch.setattr(BatchStream, "batch", lambda self, k: (steps.append(k), batch(self, k))[1])
    monkeypatch.setattr(
        CandidateTrainings, "on_data", lambda self, g, channels, **more: Reading(0.5, 0.9)
    )
    measured = CandidateTrainings(module, data).measured
    whole, taken = measured(cell), len(steps)
    ruled_out = measured(cell, least=0.6)
    assert len(steps) - taken < taken / 2
    assert whole.objective > ruled_out.objective >= 0.6
    assert (ruled_out.bound, whole.bound) == (True, False)
    assert Candidate.from_dict(ruled_out.to_dict()) == replace(ruled_out, genotype=cell)
    assert f"F ≥ {ruled_out.objective:.4f}" in str(ruled_out)
    close = measured(cell, least=whole.objective + 0.1)
    assert close == whole


def test_the_better_of_the_fits_counts(searched, monkeypatch):
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 5)
    module, data = searched()
    fits = []
    for rates in ((3e-3,), (1e-6,), (3e-3, 1e-6), (1e-6, 3e-3)):
        trainings = tuple(("adam", rate) for rate in rates)
        monkeypatch.setattr(candidate_trainings, "NOISE_TRAININGS", trainings)
        fit = CandidateTrainings(module, data).on_noise(cell_of("conv_3x3"), 4, module.noise_set)
        fits.append(fit)
    good, bad, *both = fits
    assert good.loss < bad.loss
    assert both == [good, good]


def test_noise_that_looks_like_one_image_is_fitted_no_better_than_by_a_constant(
    searched, monkeypatch
):
    """After one epoch, with the reading that a long training comes near."""
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 60)
    module, data = searched()
    noise = replace(module.noise_set, images=torch.full_like(module.noise_set.images, 7))
    fits, steps = [], []
    for sees_one_image in (candidate_trainings.sees_one_image, lambda *_: False):
        monkeypatch.setattr(candidate_trainings, "sees_one_image", sees_one_image)
        trainings = CandidateTrainings(module, data)
        fits.append(trainings.on_noise(cell_of("conv_3x3"), 4, noise))
        steps.append(trainings.steps)
    assert fits[0].accuracy == noise.chance >= fits[1].accuracy
    assert fits[0].loss == pytest.approx(fits[1].loss, abs=0.02)
    assert fits[0].loss <= fits[1].loss + 1e-6
    assert steps[0] * 60 * len(candidate_trainings.NOISE_TRAININGS) == steps[1]


def test_a_training_that_diverges_is_the_worst_on_data(searched, short, monkeypatch):
    module, data = searched(gradient_clip=0.0, noise_weight=0.0)
    monkeypatch.setitem(candidate_trainings.RATES, "sgd", 1e30)
    candidate = CandidateTrainings(module, data).measured(module.arch.genotype())
    assert candidate.validation.loss == math.inf
    assert candidate.objective is None  # which a file can hold


def test_a_noise_fit_that_diverges_is_no_proof_of_a_cell(searched, short, monkeypatch):
    module, data = searched(gradient_clip=0.0)
    monkeypatch.setattr(candidate_trainings, "NOISE_TRAININGS", (("adam", 1e30),))
    candidate = CandidateTrainings(module, data).measured(module.arch.genotype())
    assert candidate.noise.loss == math.inf
    assert candidate.objective is None


def test_cells_are_trained_where_the_search_was(searched):
    """Lightning takes the module back to the CPU at the end of a fit."""
    module, data = searched()
    data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta")))
    assert CandidateTrainings(module, data).device.type == "meta"


def test_what_is_decided_is_not_searched(searched, short):
    macro = {"width": [1.0], "pooling": ["average_2", "average_4"]}
    module, data = searched(space="noise", macro=macro, candidates=6)
    assert module.arch.macro["width"].shape == (1, 1)
    assert len(module.net.poolings) == 2
    found = choose(module, data)
    assert {candidate.genotype.macro["width"] for candidate in found} == {1.0}
    assert {c.genotype.macro["pooling"] for c in found} <= {"average_2", "average_4"}


def test_the_order_of_the_operations_of_a_node_makes_no_second_cell():
    pairs = [["skip_connect", 1], ["avg_pool_3x3", 0]]
    one, other = (dn.Genotype([p], [2], [p], [2]) for p in (pairs, pairs[::-1]))
    assert one != other
    assert ordered(one) == ordered(other)


def test_a_candidate_is_read_as_it_was_written():
    cell = dn.Architecture("noise", nodes=1).genotype()
    for candidate in (
        Candidate(cell, Reading(0.25, 0.9), Reading(2.25, 0.125), 0.375),
        Candidate(cell, Reading(math.inf, 0.1)),
    ):
        text = json.dumps(candidate.to_dict(), allow_nan=False)
        assert Candidate.from_dict(json.loads(text)) == candidate


@pytest.mark.parametrize("damage", [{"validation": None}, {"noise": [1.0]}, {"objective": "x"}])
def test_what_is_no_candidate_is_refused(damage):
    cell = dn.Architecture("noise", nodes=1).genotype()
    row = Candidate(cell, Reading(0.25, 0.9)).to_dict()
    for wrong in ({**row, **damage}, {**row, "genotype": 1}, {}, []):
        with pytest.raises(ValueError, match="expected"):
            Candidate.from_dict(wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"macro": {"widht": [1.0]}},
            "model.macro: unknown macro choice 'widht': did you mean 'width'",
        ),
        (
            {"macro": {"pooling": ["average_3"]}},
            r"model.macro.pooling: expected some of 'none', 'average_2', 'average_4', got "
            "'average_3'",
        ),
        ({"macro": {"pooling": []}}, r"model.macro.pooling: expected some of"),
        ({"candidates": 0}, "model.candidates: expected 1 or more, got 0"),
        ({"candidate_epochs": 0}, "model.candidate_epochs: expected 1 or more, got 0"),
        (
            {"candidate_parameters": 0},
            "model.candidate_parameters: expected 1 or more, or null, got 0",
        ),
    ],
)
def test_refusals_name_the_key(wrong, message):
    with pytest.raises(ValueError, match=message):
        dn.SearchModule(**{**TINY, "space": "noise"}, **wrong)


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        ("twin", lambda share: share),
        ({"twin": {"form": "log"}}, lambda share: -math.log(1 - 0.999 * share)),
        ("lookahead", lambda share: share),  # which is no function of the noise loss
    ],
    ids=["gap", "log", "no function of the loss"],
)
def test_the_objective_is_that_of_the_search(searched, short, monkeypatch, penalty, expected):
    module, data = searched(penalty=penalty)
    monkeypatch.setattr(
        CandidateTrainings, "on_data", lambda self, g, channels, **more: Reading(0.5, 0.9)
    )
    monkeypatch.setattr(
        CandidateTrainings, "on_noise", lambda self, g, c, noise, enough, share: Reading(1.0, 0.6)
    )
    candidate = CandidateTrainings(module, data).measured(module.arch.genotype())
    share = 1 - 1 / math.log(10)
    assert candidate.objective == pytest.approx(0.5 + 2 * expected(share), rel=1e-5)


def test_a_loaded_search_measures_its_candidates_on_its_noise(searched, short, tmp_path):
    module, data = searched()
    checkpoint = {
        "pytorch-lightning_version": "2.6.6",
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
    }
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "a.ckpt")
    again = dn.SearchModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert [c.objective for c in choose(again, data)] == [c.objective for c in choose(module, data)]
