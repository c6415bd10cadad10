"""The tables of README and docs equal the files in docs/results."""

import doctest
import json
import re

import pytest
from conftest import ROOT
from scipy.stats import ttest_rel

from benchmarks import tables
from darts_noise.examine.record import as_json
from darts_noise.examine.wrong_labels import METHODS, Found, WrongLabels


@pytest.mark.parametrize("page", tables.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_the_tables_of_the_files(page):
    text = page.read_text("utf-8")
    again = "files of docs/results have changed: run `python -m benchmarks.tables`"
    assert text == tables.filled(text), again


def test_every_table_is_on_a_page():
    shown = {
        name for page in tables.pages() for _, name, _ in tables.PLACE.findall(page.read_text())
    }
    assert shown == set(tables.TABLES)


def test_every_file_of_results_is_named_by_a_page():
    linked = {
        (page.parent / link).resolve()
        for page in tables.pages()
        for link in re.findall(r"\]\(([^)#:]+)", page.read_text("utf-8"))
    }
    files = {*tables.RESULTS.glob("*.json"), *tables.RESULTS.glob("*/results.json")}
    assert files <= linked


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_row_has_every_cell(name):
    head, _, *rows = [line.split(" | ") for line in tables.table(name).splitlines()]
    assert rows
    assert {len(row) for row in rows} == {len(head)}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    return tmp_path


def test_a_study_is_shown_as_its_file_has_it(results):
    networks = [
        {
            "title": "λ = 0",
            "seeds": [
                {"parameters": 12000, "test_accuracy": 0.98, "converged/random_pixels": 1.0},
                {"parameters": 12345, "test_accuracy": 0.96},
            ],
        },
        {"title": "ResNet-18", "seeds": [{"quick/uniform": 0.11}]},
    ]
    (results / "mnist_study").mkdir()
    (results / "mnist_study" / "results.json").write_text(json.dumps({"networks": networks}))
    assert list(tables.networks("mnist_study")) == [
        ["network", "n", "parameters", "test", "random pixels", "uniform, quick"],
        ["λ = 0", "2", "12,172", "97.00 ± 1.41", "100.0 (n = 1)", ""],
        ["ResNet-18", "1", "", "", "", "11.0"],
    ]


def test_runs_of_the_main_job_become_networks_by_their_weight(results):
    noise = {"protocol": "quick", "family": "uniform"}
    runs = [
        {"noise_weight": weight, "noise": noise, "noise_accuracy": fit, "test_accuracy": 0.9}
        for weight, fit in [(0.0, 1.0), (0.5, 0.2), (0.0, 0.9)]
    ]
    (results / "main_job_digits.json").write_text(json.dumps({"runs": runs}))
    plain, searched = tables.networks_of("main_job_digits")
    assert [network["network"] for network in (plain, searched)] == ["lambda_0", "lambda_0.5"]
    assert tables.spread(plain, "quick/uniform") == "95.0 ± 7.1"
    assert tables.spread(searched, "quick/uniform") == "20.0"


def test_a_fit_at_the_target_and_a_network_that_does_not_learn_are_shown_as_such(results):
    def row(network, operation, choice=None, value=None, fit=0.5, real=0.95):
        fits = {key: {"accuracy": fit} for key in ("uniform", "random_pixels", "random_labels")}
        of_real = {"accuracy": real, "epochs": 15}
        named = {"network": network, "operation": operation, "choice": choice, "value": value}
        return {**named, "parameters": 1234, "validation": 0.9, **fits, "real": of_real}

    rows = {
        "none/conv_1x1": row("none", "conv_1x1", real=0.4),
        "none/conv_3x3": row("none", "conv_3x3"),
        "none/width=0.5": row("none", "conv_3x3", "width", 0.5, fit=0.991),
        "none/pooling=average_2": row("none", "conv_3x3", "pooling", "average_2", fit=None),
        "batch/conv_3x3": row("batch", "conv_3x3"),
    }
    setting = {"target": 0.99, "real_target": 0.9}
    short = {"of": "uniform", "proxy": "own schedule", "epochs": 5, "rho": 0.876}
    ranks = [{**short, "n": n} for n in (4, 5)]
    found = {"setting": setting, "rows": rows, "spearman": ranks}
    (results / "noise_fit_by_choice_digits.json").write_text(json.dumps(found))
    assert list(tables.by_choice("none", "operation"))[1:] == [
        ["`conv_1x1`", "1,234", "90.0", "50.0", "50.0", "50.0", "never (40.0)"],
        ["`conv_3x3`", "1,234", "90.0", "50.0", "50.0", "50.0", "15"],
    ]
    assert list(tables.by_choice("none", "choice"))[1:] == [
        ["no change", "1,234", "90.0", "50.0", "50.0", "50.0", "15"],
        ["`width` 0.5", "1,234", "90.0", "≥ 99", "≥ 99", "≥ 99", "15"],
        ["`pooling` average_2", "1,234", "90.0", *["diverged"] * 3, "15"],
    ]
    assert list(tables.proxies())[1:] == [["uniform", "own schedule", "5", "0.88", "5"]]


def test_wrong_labels_have_a_column_for_each_share_and_the_mean_over_seeds(results):
    def run(network, method, share, test, **more):
        row = {"network": network, "method": method, "share": share, **more}
        return {**row, "test_accuracy": test}

    runs = [
        run("plain_cnn", "none", 0.2, 0.8),
        run("lambda_1", "none", 0.0, 0.98),
        run("lambda_1", "none", 0.2, 0.9, memorised=0.1),
        run("lambda_1", "none", 0.2, 0.92, memorised=0.2),
        run("lambda_1", "co_teaching", 0.2, 0.95),
    ]
    (results / "wrong_labels_digits.json").write_text(json.dumps({"runs": runs}))
    assert list(tables.wrong_labels("digits", "test_accuracy")) == [
        ["network", "trained on", "0% wrong", "20% wrong"],
        ["cell, λ = 1", "`co_teaching`", "", "95.0 (n = 1)"],
        ["cell, λ = 1", "all samples", "98.0 (n = 1)", "91.0 ± 1.4"],
        ["plain CNN", "all samples", "", "80.0 (n = 1)"],
    ]
    assert list(tables.wrong_labels("digits", "memorised"))[1:] == [
        ["cell, λ = 1", "all samples", "15.0 ± 7.1"]
    ]


def test_a_gain_is_the_mean_difference_of_trainings_with_the_same_seed(results):
    """With an interval from scipy; a seed that one side lacks does not count."""

    def run(network, seed, test, share=0.4):
        row = {"network": network, "method": "none", "share": share, "seed": seed}
        return {**row, "test_accuracy": test}

    cell, other = (0.9, 0.94, 0.95), (0.8, 0.7, 0.75)
    runs = [
        *(run("lambda_1", seed, test) for seed, test in enumerate(cell)),
        *(run("plain_cnn", seed, test) for seed, test in enumerate(other)),
        run("plain_cnn", 3, 0.1),
        run("lambda_1", 0, 0.95, share=0.2),
        run("plain_cnn", 0, 0.9, share=0.2),
    ]
    (results / "wrong_labels_digits.json").write_text(json.dumps({"runs": runs}))
    head, row = tables.wrong_labels_gain("digits", "test_accuracy")
    assert head[2:] == ["20% wrong", "40% wrong"]
    low, high = ttest_rel(cell, other).confidence_interval(0.95)
    assert row == [
        "plain CNN",
        "all samples",
        "+5.0 (n = 1)",
        f"+18.0 ({100 * low:+.1f} to {100 * high:+.1f})",
    ]


def test_an_examined_pair_is_shown_side_by_side(results):
    """A data set on which the section was not measured has no rows."""

    def found(precision):
        each = (Found(m, "symmetric", 0.2, 10, 0.5, 0.5, precision) for m in METHODS)
        return as_json(WrongLabels(50, tuple(each)))

    pair = {"wrong_labels": {"bounded gain": found(0.25), "batch norm": found(0.75)}}
    for data, measured in (("digits", pair), ("mnist", {})):
        file = results / f"examine_{data}.json"
        file.write_text(json.dumps({"sections": measured}))
    head, *rows = tables.answers("wrong_labels")
    assert [row[:2] for row in rows] == [["digits", "bounded gain"], ["digits", "batch norm"]]
    assert ["25.00%" in row[2] for row in rows] == [True, False]
    head, *rows = tables.side_by_side("wrong_labels", 1, "Average precision", "Flagged")
    assert head[2:4] == ["bounded gain: average precision", "bounded gain: flagged"]
    assert rows[0] == ["digits", "20% symmetric, loss", "25.00%", "10", "75.00%", "10"]
    assert len(rows) == len(METHODS)


def test_a_file_that_lacks_a_figure_is_named_by_its_table(results):
    (results / "growth_cpu.json").write_text("{}")
    with pytest.raises(ValueError, match="table 'growth': its file lacks 'sizes'"):
        tables.table("growth")


def test_a_table_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no table 'mnits'; expected one of summary"):
        tables.filled("<!-- table: mnits -->\n<!-- end of table -->")


def test_the_figures_are_written_as_the_examples_say():
    assert doctest.testmod(tables).failed == 0
