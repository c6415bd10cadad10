"""The entries of α that a genotype stands for are those that discretisation took."""

import pytest
from small_histories import history_of

from darts_noise.report.chosen import chosen_entries, strengths
from darts_noise.space.published import load_genotype


@pytest.mark.parametrize("space", ["darts", "low_pass"])
def test_chosen_entries_are_the_strongest_of_their_edges(space: str) -> None:
    history = history_of(space, epochs=3, nodes=3)
    moment = history.moments[-1]
    entries = chosen_entries(moment.genotype, history.operations, history.edges)
    values = strengths(moment.genotype, moment.weights, history.operations, history.edges)
    none = history.operations.index("none")
    for kind, nodes in entries.items():
        for node, pairs in enumerate(nodes):
            assert values[kind][node] == sorted(values[kind][node], reverse=True)
            for (row, column), value in zip(pairs, values[kind][node], strict=True):
                assert history.edges[row][1] == node
                weights = [w for j, w in enumerate(moment.weights[kind][row]) if j != none]
                assert moment.weights[kind][row][column] == value == max(weights)


def test_a_genotype_of_another_search_is_refused() -> None:
    history = history_of("low_pass", epochs=1, nodes=2)
    with pytest.raises(ValueError, match="normal: α has no row or column"):
        chosen_entries(load_genotype("nasnet"), history.operations, history.edges)
