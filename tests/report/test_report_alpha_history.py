"""The history of α: it is read as written, a resumed run overwrites it, bad files are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_histories import history_of

from darts_noise.report.alpha_history import (
    DECIMALS,
    chosen_entries,
    read_history,
    strengths,
    write_history,
)
from darts_noise.space.published import load_genotype


def test_what_is_written_is_read(tmp_path: Path) -> None:
    history = history_of(epochs=3)
    write_history(tmp_path / "h.json", history)
    found = read_history(tmp_path / "h.json")
    assert (found.operations, found.edges) == (history.operations, history.edges)
    assert found.macro == history.macro
    for was, now in zip(history.moments, found.moments, strict=True):
        assert (was.epoch, was.genotype) == (now.epoch, now.genotype)
        for kind, rows in was.weights.items():
            for a, b in zip(rows, now.weights[kind], strict=True):
                assert b == pytest.approx(a, abs=0.51 * 10**-DECIMALS)


def test_an_epoch_that_comes_again_replaces_all_from_there() -> None:
    history = history_of(epochs=5)
    again = history.with_moment(history.moments[2])
    assert again.moments == history.moments[:3]


def test_changes_are_the_first_and_those_that_differ() -> None:
    first, second, *_ = history_of(epochs=2).moments
    assert first.genotype != second.genotype
    history = history_of(epochs=1).with_moment(second)
    same = [first, first, second, second, first]
    moments = [type(first)(i + 1, m.genotype, m.weights) for i, m in enumerate(same)]
    for moment in moments:
        history = history.with_moment(moment)
    assert [moment.epoch for moment in history.changes()] == [1, 3, 5]


@pytest.mark.parametrize(
    "damage",
    [
        lambda rows: {"format": "x"},
        lambda rows: [],
        lambda rows: [{**rows[0], "format": "other"}],
        lambda rows: [{**rows[0], "edges": [[1]]}],
        lambda rows: [{**rows[0], "macro": []}],
        lambda rows: [rows[0], {**rows[1], "genotype": {}}],
        lambda rows: [rows[0], {**rows[1], "weights": {"normal": [["a"]]}}],
        lambda rows: [rows[0], {**rows[1], "weights": {"normal": [[-1.0]]}}],
        lambda rows: [rows[0], {**rows[1], "weights": {"normal": [[float("nan")]]}}],
        lambda rows: [rows[0], 5],
    ],
)
def test_a_file_that_is_none_is_one_line_with_its_name(tmp_path: Path, damage: Any) -> None:
    file = tmp_path / "h.json"
    write_history(file, history_of(epochs=1))
    file.write_text(json.dumps(damage(json.loads(file.read_text()))))
    with pytest.raises(ValueError, match=r"h\.json: not the history of a search") as error:
        read_history(file)
    assert "\n" not in str(error.value)


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
