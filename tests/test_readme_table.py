"""The tables of README and docs are those of the files in docs/results, whichever are there."""

import doctest
import json
import shutil

import pytest
from conftest import ROOT

from benchmarks import readme_table

SEARCH_STEP = {
    "setting": {"channels": 16, "cells": 8, "batch": 16, "threads": 1},
    "hardware": {"cores": 2, "threads": "1"},
    "sides": {
        "textbook": {"seconds": [4.0, 4.2, 4.4], "median_s": 4.2, "peak_mib": 2000},
        "shared": {"seconds": [1.5, 1.6, 1.7], "median_s": 1.6, "peak_mib": 860},
        "shared, noise-aware": {"seconds": [2.9, 3.0, 3.1], "median_s": 3.0, "peak_mib": 870},
    },
    "textbook_over_shared": 2.62,
    "noise_aware_over_plain": 1.88,
    "memory_shared_over_textbook": 0.43,
    "launches": {"textbook": 12352, "shared": 2057},
}


def rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


AGAIN = "files of docs/results have changed: run `python -m benchmarks.readme_table`"


def test_the_docs_have_the_table_of_the_files():
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    assert page == readme_table.filled(page, readme_table.table()), AGAIN


def test_the_readme_has_the_tables_of_the_studies():
    readme = (ROOT / "README.md").read_text("utf-8")
    between = (readme_table.STUDY_BEGIN, readme_table.STUDY_END)
    assert readme == readme_table.filled(readme, readme_table.studies(), *between), AGAIN


def test_a_study_has_a_row_for_every_network(tmp_path):
    assert readme_table.studies(tmp_path) == ""
    figure = {"mean": 0.975, "sd": 0.01, "n": 3}
    networks = [
        {
            "title": "λ = 0",
            "seeds": [0, 1, 2],
            "parameters": {"mean": 12345.0},
            "test_accuracy": figure,
            "converged/uniform": {"mean": 1.0, "sd": None, "n": 1},
        },
        {
            "title": "ResNet-18",
            "seeds": [0],
            "quick/uniform": {"mean": 0.11, "sd": None, "n": 1},
        },
    ]
    for folder, written in (("mnist_study", networks), ("cifar10_study", networks[:1])):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "results.json").write_text(json.dumps({"networks": written}))
    of_mnist, of_cifar, said = readme_table.studies(tmp_path).split("\n\n")
    head, _, first, second = rows(of_mnist)
    assert head[0] == "MNIST"
    assert [row[0] for row in rows(of_cifar)] == ["CIFAR-10 (JPEG)", "---", "λ = 0"]
    assert "](docs/results/cifar10_study/results.json)." in said
    assert [cell for cell in head if cell][1:] == [
        "n",
        "parameters",
        "test accuracy",
        "noise: uniform",
        "noise, quick: uniform",
    ]
    assert first == ["", "λ = 0", "3", "12,345", "97.50 ± 1.00", "100.00 (n = 1)", "", ""][1:-1]
    assert second == ["ResNet-18", "1", "", "", "", "11.00"]


def test_every_row_has_every_cell_and_names_its_file():
    head, _, *body = rows(readme_table.table())
    for row in body:
        assert len(row) == len(head)
        assert row[-1].partition("](")[2].rstrip(")").startswith("results/")


def test_a_search_step_is_shown_as_its_file_has_it(tmp_path):
    (tmp_path / "search_step_cuda_bf16.json").write_text(json.dumps(SEARCH_STEP))
    _, _, time, memory, launches, aware = rows(readme_table.table(tmp_path))
    sizes = "GPU, bf16, 1 thread, 16 channels, 8 cells, batch 16; n = 3"
    assert time[1:5] == [sizes, "4.2 s", "1.6 s", "2.62 × as fast"]
    assert memory[2:5] == ["2,000 MiB", "860 MiB", "0.43 ×"]
    assert launches[2:5] == ["12,352", "2,057", "0.17 ×"]
    assert aware[1:5] == [sizes, "1.6 s", "3 s", "1.9 × the time"]


def test_a_file_that_is_not_there_has_no_row(tmp_path):
    assert len(rows(readme_table.table(tmp_path))) == 2
    shutil.copy(readme_table.RESULTS / "startup.json", tmp_path)
    assert len(rows(readme_table.table(tmp_path))) == 5


def test_a_file_that_lacks_a_figure_is_named(tmp_path):
    (tmp_path / "growth_cpu.json").write_text("{}")
    with pytest.raises(ValueError, match=r"growth_cpu\.json: there is no 'setting' in it"):
        readme_table.table(tmp_path)


def test_a_text_without_the_comments_is_refused():
    with pytest.raises(ValueError, match="once each"):
        readme_table.filled("text", "rows")


def test_the_figures_are_written_as_the_examples_say():
    assert doctest.testmod(readme_table).failed == 0
