"""α as parameters, their relaxation, and the discrete cell of α."""

import ast
import math
import re

import pytest
import torch
from conftest import wave

import darts_noise as dn
from darts_noise.search.architecture import discretise, entropy
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_genotype_is_read_from_an_alpha_that_is_not_finite(value):
    arch = dn.Architecture("darts", nodes=2)
    with torch.no_grad():
        arch.reduce[3, 4] = value
    with pytest.raises(ValueError, match="α of the reduce cell is not finite"):
        arch.genotype()
