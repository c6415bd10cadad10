"""The control cells without a search."""

import pytest

import darts_noise as dn
from darts_noise.report.measured import count_parameters
from darts_noise.space.spaces import Space, get_space
from darts_noise.study.cells import all_skip_cell, matched_cell, random_cell

SPACE = Space(
    "small",
    ("none", "skip_connect", "sep_conv_3x3", "max_pool_3x3"),
    nodes=3,
    macro=(("normalisation", ("batch", "none")), ("width", (1.0, 0.5))),
)


def parameters(cell, channels):
    return count_parameters(dn.create_model(cell, channels=channels, num_cells=3, stem="small"))


def test_a_random_cell_is_one_that_a_search_could_have_found():
    cells = [random_cell(SPACE, seed) for seed in range(40)]
    for cell in cells:
        for nodes in (cell.normal, cell.reduce):
            assert [len(node) for node in nodes] == [2, 2, 2]
            for node in nodes:
                predecessors = [p for _, p in node]
                assert len(set(predecessors)) == 2
        assert cell.normal_concat == cell.reduce_concat == (2, 3, 4)
    used = {op for cell in cells for node in (*cell.normal, *cell.reduce) for op, _ in node}
    assert used == set(SPACE.operations) - {"none"}
    macros = {tuple(cell.macro.items()) for cell in cells}
    assert len(macros) == 4
    assert {p for cell in cells for _, p in cell.normal[2]} == {0, 1, 2, 3}


def test_a_random_cell_has_only_what_its_edges_allow():
    space = get_space("robust_darts_s1")
    seen, allowed = set(), set()
    for kind in ("normal", "reduce"):
        for (predecessor, node), names in zip(space.edges, space.candidates(kind), strict=True):
            allowed |= {(kind, node, name, predecessor) for name in names}
        for seed in range(100):
            nodes = getattr(random_cell(space, seed), kind)
            seen |= {(kind, node, *pair) for node, pairs in enumerate(nodes) for pair in pairs}
    assert seen == allowed


def test_it_depends_on_its_seed_and_draw_alone():
    assert random_cell(SPACE, 3) == random_cell(SPACE, 3)
    different = {str(random_cell(SPACE, seed, draw)) for seed in range(5) for draw in range(5)}
    assert len(different) == 25


@pytest.mark.parametrize("name", ["darts_v1", "gdas"])
def test_a_matched_cell_has_as_many_parameters_within_five_per_cent(name):
    target = parameters(dn.load_genotype(name), 16)
    cell, channels = matched_cell(SPACE, 0, target, parameters, 16, "small")
    assert abs(parameters(cell, channels) - target) <= 0.05 * target
    assert cell == next(
        random_cell(SPACE, 0, draw) for draw in range(1, 100) if random_cell(SPACE, 0, draw) == cell
    )


def test_it_is_another_draw_than_the_random_cell_of_its_seed():
    own = random_cell(SPACE, 0)
    cell, _ = matched_cell(SPACE, 0, parameters(own, 8), parameters, 8, "small")
    assert cell != own


def test_no_width_matches_is_one_line():
    with pytest.raises(ValueError, match=r"controls\.matched: none of 1000 .* 10 parameters"):
        matched_cell(SPACE, 0, 10, lambda cell, channels: 1000 * channels, 4, "small")


def test_the_all_skip_cell_has_skips_and_darts_macro_choices_alone():
    cell = all_skip_cell(2)
    assert {op for node in (*cell.normal, *cell.reduce) for op, _ in node} == {"skip_connect"}
    assert len(cell.normal) == 2
    assert not cell.macro
