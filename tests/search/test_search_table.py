"""Tables of measured cells: what is read is what is told, and what searches on them find."""

import itertools
import math
import statistics
from contextlib import nullcontext

import numpy as np
import pytest
import torch

import darts_noise as dn
from darts_noise.errors import SettingError
from darts_noise.search.simulation import mean_interval
from darts_noise.search.strategies.cells import neighbours, random_cell
from darts_noise.search.strategies.controller import reward
from darts_noise.search.strategies.shared import Enas
from darts_noise.search.table import CellTable

NAMES = ("none", "skip_connect", "nor_conv_1x1")


def bench_text(a, b, c):
    return f"|{a}~0|+|{b}~0|{c}~1|"


BENCH = ["cell,validation,test,uniform,steps"] + [
    f"{bench_text(*names)},{0.5 + 0.01 * i},{0.6 + 0.01 * (i % 7)},{0.9 - 0.02 * i},{100 + i}"
    for i, names in enumerate(itertools.product(NAMES, repeat=3))
]
"""All 27 cells of NAS-Bench-201's form with two nodes and three operations."""
PLAIN = ["cell,normalisation,validation"] + [
    f"\"Genotype(normal=[('{a}', 0), ('{b}', 1)], normal_concat=[2], "
    f"reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1)], reduce_concat=[2])\",{norm},{accuracy}"
    for (a, b, norm), accuracy in zip(
        itertools.product(["conv_1x1", "conv_3x3"], ["conv_1x1", "conv_3x3"], ["batch", "none"]),
        [0.5, 0.52, 0.6, 0.61, 0.7, 0.75, 0.9, 0.97],
        strict=True,
    )
]
"""Eight cells of the package's own form, with a macro choice and without a cost."""


@pytest.fixture
def read(tmp_path):
    def reading(lines, **settings):
        path = tmp_path / "cells.csv"
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return CellTable.from_csv(path, **settings)

    return reading


def test_a_strategy_is_told_what_the_file_says(read):
    table = read(BENCH, noise="uniform", noise_weight=0.5, chance=0.2)
    cell = dn.Genotype.from_text(bench_text("skip_connect", "none", "nor_conv_1x1"))
    row = BENCH[1 + 9 + 0 + 2].split(",")
    told = table.measured(cell)
    assert (told.genotype, told.validation.accuracy, told.steps) == (
        cell,
        float(row[1]),
        int(row[4]),
    )
    penalty = max(0.0, (float(row[3]) - 0.2) / 0.8)
    assert told.objective == pytest.approx(1 - float(row[1]) + 0.5 * penalty)
    assert reward(told) == pytest.approx((float(row[1]) * math.exp(-0.5 * penalty)) ** 3)
    assert read(BENCH).measured(cell).objective == 1 - float(row[1])  # λ = 0
    assert table.figure("test") == [float(line.split(",")[2]) for line in BENCH[1:]]


def test_the_order_of_a_nodes_edges_and_a_mark_of_a_spreadsheet_change_nothing(read):
    turned = [
        line.replace("('conv_1x1', 0), ('conv_3x3', 1)", "('conv_3x3', 1), ('conv_1x1', 0)")
        for line in PLAIN
    ]
    assert turned != PLAIN
    assert read(["\ufeff" + turned[0], *turned[1:]]).candidates == read(PLAIN).candidates


@pytest.mark.parametrize("lines", [BENCH, PLAIN], ids=["complete", "plain"])
def test_the_space_has_the_cells_of_the_table_and_no_others(read, lines):
    table = read(lines)
    torch.manual_seed(0)
    drawn = [table.number(random_cell(table.space)) for _ in range(40 * len(lines))]
    assert set(drawn) == set(range(len(lines) - 1))
    least = min(map(drawn.count, set(drawn)))
    assert least > 40 - 5 * math.sqrt(40)  # uniform: five standard deviations
    for candidate in table.candidates:
        near = neighbours(table.space, candidate.genotype)
        numbers = {kind: {table.number(make()) for make in makes} for kind, makes in near.items()}
        assert {kind: len(found) for kind, found in numbers.items()} == (
            {"operation": 6, "edge": 0, "macro": 0}
            if lines is BENCH
            else {"operation": 2, "edge": 0, "macro": 1}
        )
        assert table.number(candidate.genotype) not in set().union(*numbers.values())


def changed(lines, number, old, new):
    return [line.replace(old, new) if i == number else line for i, line in enumerate(lines)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (changed(BENCH, 4, "skip_connect", "skip"), "line 5: .*unknown operation"),
        (changed(BENCH, 4, "|", ""), r"line 5: expected Genotype\(...\) or"),
        (changed(BENCH, 4, ",103", ""), "line 5: expected 5 values, got 4"),
        (changed(BENCH, 4, ",103", ",1.5"), "line 5: steps: expected a whole number from 1, got"),
        (changed(BENCH, 4, ",103", ",0"), "line 5: steps: expected a whole number from 1, got"),
        (changed(BENCH, 4, "0.53", "good"), "line 5: validation: expected a number, got 'good'"),
        (changed(BENCH, 4, "0.53", "nan"), "line 5: validation: expected a number, got 'nan'"),
        (changed(BENCH, 4, "0.53", "53"), "line 5: validation: expected 0 to 1, got 53"),
        ([*BENCH, BENCH[4]], "line 29: the same cell as .*cells.csv, line 5"),
        ([*BENCH, "|none~0|,0.5,0.5,0.5,1"], "line 29: expected as many nodes, edges and outputs"),
        (changed(BENCH, 0, "validation", "val"), "expected different columns, cell and validation"),
        (changed(BENCH, 0, "test", "uniform"), "expected different columns, cell and validation"),
        (changed(PLAIN, 2, "none", "nothing"), r"line 3: macro\['normalisation'\]: expected one"),
        (changed(PLAIN, 2, '"', ""), "line 3: expected 3 values, got"),
        ([*PLAIN[:-1], '"' + PLAIN[1]], "line 9: "),
        (changed(PLAIN, 2, "max_pool_3x3", "none"), "line 3: expected no 'none'"),
        (BENCH[:1], "expected at least one cell"),
        ([], "expected different columns"),
    ],
)
def test_a_damaged_row_is_named_with_one_line(read, lines, message):
    with pytest.raises(ValueError, match=message) as error:
        read(lines)
    assert "cells.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_figure_or_a_setting_that_cannot_be_is_refused(read):
    with pytest.raises(ValueError, match="unknown figure of the table 'unifrom': did you mean"):
        read(BENCH, noise="unifrom")
    for key, value in [("noise_weight", -1.0), ("noise_weight", math.nan), ("chance", 1.0)]:
        with pytest.raises(SettingError, match=f"^{key}: expected 0 or more"):
            read(BENCH, noise="uniform", **{key: value})


def test_a_complete_space_is_for_strategies_only(read):
    space = read(BENCH).space
    for make in (lambda: dn.Architecture(space), lambda: dn.SuperNet(space)):
        with pytest.raises(ValueError, match="only strategies can search them"):
            make()


# ---------------------------------------------------------------- searches


def test_the_regret_never_rises_and_is_0_after_all_cells(read):
    table = read(BENCH, noise="uniform")
    for run in dn.simulate(table, "random", repeats=5):
        assert sorted(run.found) == list(range(27))
        assert list(run.costs) == np.cumsum([100 + row for row in run.found]).tolist()
        regrets = run.regret(run.costs)
        assert (np.diff(regrets) <= 0).all()
        assert regrets[0] > 0
        assert regrets[-1] == 0
        assert math.isnan(run.regret([run.costs[0] - 1])[0])
        objectives = [candidate.objective for candidate in table.candidates]
        for place, row in enumerate(run.best):
            assert objectives[row] == min(objectives[one] for one in run.found[: place + 1])


def test_random_search_has_the_regret_of_draws_without_replacement(read):
    """Exactly: the i-th best of n cells is the best of k draws in C(n − i, k − 1) of C(n, k)."""
    table, repeats = read(PLAIN), 150
    runs = dn.simulate(table, "random", repeats, cells=6)
    scores = sorted(candidate.score for candidate in table.candidates)
    n, counts = len(scores), range(1, 7)
    found = np.array([run.regret(counts) for run in runs])
    for k, regrets in zip(counts, found.T, strict=True):
        shares = [math.comb(n - i, k - 1) / math.comb(n, k) for i in range(1, n + 1)]
        expected = sum(
            share * (score - scores[0]) for share, score in zip(shares, scores, strict=True)
        )
        error = statistics.stdev(regrets) / math.sqrt(repeats)
        assert abs(regrets.mean() - expected) < 4 * error


def test_evolution_beats_chance_where_good_cells_are_near_each_other(read):
    names = ("skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    lines = ["cell,validation"] + [
        f"|{'~0|+|'.join(cell[:2])}~0|{cell[2]}~1|,{0.5 + sum(map(names.index, cell)) / 20}"
        for cell in itertools.product(names, repeat=3)
    ]
    table = read(lines)
    at = [
        np.mean([run.regret([30]) for run in dn.simulate(table, strategy, 20, cells=30)])
        for strategy in ({"evolution": {"population": 8, "sample": 4}}, "random")
    ]
    assert at[0] < at[1] / 2


def test_a_search_depends_on_its_seed_alone_and_ends_at_its_budget(read):
    table = read(BENCH)
    first = dn.simulate(table, "nas", repeats=2, steps=900)
    torch.manual_seed(5)
    again = dn.simulate(table, "nas", repeats=1, steps=900, seed=1)
    assert again[0].found == first[1].found != first[0].found
    for run in first:
        assert run.costs[-2] < 900 <= run.costs[-1]


def test_a_strategy_of_the_user_is_a_function_that_makes_it(read):
    class InOrder(dn.Strategy):
        def __init__(self, cells):
            self.left = list(cells)

        def ask(self):
            return dn.Proposal(self.left[0])

        def tell(self, candidate):
            assert candidate.genotype == self.left.pop(0)

    table = read(PLAIN)
    cells = [candidate.genotype for candidate in table.candidates]
    [run] = dn.simulate(table, lambda: InOrder(cells[::-1]), repeats=1)
    assert run.found == [7, 6, 5, 4, 3, 2, 1, 0]
    assert (run.regret(run.costs) == 0).all()


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Enas, "strategy: expected one that trains no shared weights"),
        ({"random": {"rungs": 2}}, "share: expected 1, a table has no shorter trainings, got 0.25"),
    ],
)
def test_a_strategy_that_a_table_cannot_answer_is_refused(read, strategy, message):
    with pytest.raises(ValueError, match=message):
        dn.simulate(read(PLAIN), strategy, repeats=1)


def test_of_a_strategy_that_does_not_exist_it_names_those_that_a_table_answers(read):
    table = read(PLAIN)
    with pytest.raises(SettingError, match="did you mean 'evolution'") as unknown:
        dn.simulate(table, "evolutoin")
    *_, valid = unknown.value.problem.partition("valid: ")
    for name in dn.list_strategies():
        listed = name in valid.rstrip(")").split(", ")
        with nullcontext() if listed else pytest.raises(SettingError, match="valid: "):
            dn.simulate(table, name, repeats=1, cells=1)


def test_a_table_that_lacks_a_cell_says_which(read):
    for lines, cell in [
        (PLAIN[:-1], r"Genotype\(normal=\[\[\('conv_3x3', 0\), .*, normalisation none$"),
        (BENCH[:-1], r"\|nor_conv_1x1~0\|\+\|nor_conv_1x1~0\|nor_conv_1x1~1\|$"),
    ]:
        with pytest.raises(SettingError, match="^table: expected a row for every cell.*" + cell):
            dn.simulate(read(lines), "random", repeats=1)


def test_the_interval_is_that_of_a_mean():
    values = np.random.default_rng(1).normal(3.0, 2.0, (400, 2))
    mean, low, high = mean_interval(values, draws=2000)
    half = 1.96 * values.std(axis=0) / math.sqrt(400)
    assert np.allclose(mean, values.mean(axis=0))
    assert np.allclose(low, mean - half, atol=0.1 * half.max())
    assert np.allclose(high, mean + half, atol=0.1 * half.max())
