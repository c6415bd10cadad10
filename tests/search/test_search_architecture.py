"""α as parameters, their relaxation, and the discrete cell of α."""

import ast
import math
import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import wave

import darts_noise as dn
from darts_noise.search.architecture import discretise, entropy, softmax
from darts_noise.space.spaces import get_space


def test_alphas_are_parameters_and_in_the_state():
    arch = dn.Architecture("darts", nodes=2)
    assert set(dict(arch.named_parameters())) == {"normal", "reduce"}
    assert set(arch.state_dict()) == {"normal", "reduce"}
    assert arch.normal.shape == (5, 8)


def test_relaxed_weights_are_a_distribution_that_a_shift_of_a_row_does_not_change():
    arch = dn.Architecture("darts").double()
    before = arch()["normal"]
    torch.testing.assert_close(before.sum(-1), torch.ones(14, dtype=torch.float64))
    with torch.no_grad():
        arch.normal += torch.linspace(-5, 5, 14, dtype=torch.float64)[:, None]
    torch.testing.assert_close(arch()["normal"], before)


def test_genotype_equals_the_reference(golden):
    arch = dn.Architecture("darts").double()
    with torch.no_grad():
        arch.normal.copy_(wave((14, 8), 0.5, 300))
        arch.reduce.copy_(wave((14, 8), 0.5, 900))
    text = golden["supernet"]["genotype"]
    for kind in ("normal", "reduce"):
        pairs = ast.literal_eval(re.search(rf"{kind}=(\[.*?\])", text)[1])
        found = [pair for node in getattr(arch.genotype(), kind) for pair in node]
        assert found == pairs
    assert arch.genotype().normal_concat == (2, 3, 4, 5)


def test_edges_are_ranked_by_softmax_and_not_by_raw_alpha():
    """A large α among equally large ones has a smaller weight than a lesser one that stands out."""
    arch = dn.Architecture("darts", nodes=2)
    skip, sep = 3, 4
    with torch.no_grad():
        arch.normal.zero_()
        arch.normal[2, sep] = 2.0  # from input 0: stands out, weight 0.51
        arch.normal[3] = 3.0  # from input 1: one of eight equals, weight 0.125
        arch.normal[4, skip] = 3.5  # from node 0: weight 0.83
    raw = {"normal": arch.normal, "reduce": arch.reduce}
    by_raw = discretise(arch.space, raw).normal[1]
    by_softmax = arch.genotype().normal[1]
    assert {p for _, p in by_raw} == {1, 2}
    assert by_softmax == (("skip_connect", 2), ("sep_conv_3x3", 0))


def test_none_is_never_chosen_and_predecessors_are_distinct():
    for seed in range(20):
        torch.manual_seed(seed)
        space = get_space("darts", 5)
        weights = {k: torch.rand(20, 8).softmax(-1) for k in ("normal", "reduce")}
        for w in weights.values():
            w[:, 0] = 1.0
        g = discretise(space, weights)
        for node in (*g.normal, *g.reduce):
            assert len({p for _, p in node}) == 2
            assert "none" not in {o for o, _ in node}


@pytest.mark.parametrize("n", [2, 8])
def test_entropy_of_undecided_and_decided_edges(n):
    assert entropy(torch.full((5, n), 1 / n)).item() == pytest.approx(math.log(n))
    assert entropy(torch.eye(n)).item() == 0


RELAXATIONS = {"softmax": softmax, "gumbel": partial(F.gumbel_softmax, tau=0.5, hard=True)}


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_what_is_not_allowed_has_no_weight_and_no_gradient(relaxation):
    arch = dn.Architecture("robust_darts_s1").double()
    arch.relaxation = RELAXATIONS[relaxation]
    with torch.no_grad():
        for alpha in arch.parameters():
            alpha.normal_(std=5)
    for kind, weights in arch().items():
        alpha = arch.get_parameter(kind)
        allowed = torch.tensor(
            [[o in names for o in arch.space.operations] for names in arch.space.candidates(kind)]
        )
        assert allowed.sum() == 28
        assert not weights[~allowed].any()
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[:, 0]))
        cost = torch.randn_like(weights)
        [first] = torch.autograd.grad((weights.exp() * cost).sum(), alpha, create_graph=True)
        [second] = torch.autograd.grad((first * torch.randn_like(first)).sum(), alpha)
        for gradient in (first, second):
            assert gradient.isfinite().all()
            assert not gradient[~allowed].any()
            assert gradient[allowed].any()
        # The rest is the relaxation of a row that has only the candidates of its edge.
        if relaxation == "softmax":
            rows = alpha[allowed].view(14, 2).softmax(-1)
            torch.testing.assert_close(weights[allowed].view(14, 2), rows)


def test_no_genotype_and_no_sample_has_what_is_not_allowed():
    arch = dn.Architecture("robust_darts_s1")
    space, seen = arch.space, set()
    candidates = {
        (kind, *edge, name)
        for kind in ("normal", "reduce")
        for edge, names in zip(space.edges, space.candidates(kind), strict=True)
        for name in names
    }
    random = torch.Generator().manual_seed(0)
    for _ in range(60):
        weights = {kind: torch.rand(14, 6) for kind in ("normal", "reduce")}
        for genotype in (discretise(space, weights), arch.draw(random)):
            for kind in ("normal", "reduce"):
                for node, pairs in enumerate(getattr(genotype, kind)):
                    seen |= {(kind, predecessor, node, name) for name, predecessor in pairs}
    assert seen == candidates
    figures = arch.figures()
    assert figures["alpha/entropy_normal"] == pytest.approx(math.log(2), rel=1e-4)
    assert figures["share/normal/avg_pool_3x3"] == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_genotype_is_read_from_an_alpha_that_is_not_finite(value):
    arch = dn.Architecture("darts", nodes=2)
    with torch.no_grad():
        arch.reduce[3, 4] = value
    with pytest.raises(ValueError, match="α of the reduce cell is not finite"):
        arch.genotype()
