"""The correlations of the digits' cells: ρ, its interval, pruned copies, and what is kept."""

import doctest
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from test_exhaustive_digits import TINY

from benchmarks import commands
from benchmarks import correlations as benchmark
from benchmarks.exhaustive_digits import every_cell
from benchmarks.noise_fit_by_choice import Measurement
from darts_noise.data.seeds import drawing
from darts_noise.search.table import CellTable, MeasuredCell


def test_rho_is_that_of_scipy_and_lies_in_its_interval() -> None:
    values = np.random.default_rng(0).integers(0, 5, (40, 3)).astype(float)
    values[:, 2] += values[:, 0]
    rho, low, high = benchmark.with_interval(values, draws=200)
    assert rho == pytest.approx(spearmanr(values).statistic)
    assert (low[~np.eye(3, dtype=bool)] < rho[~np.eye(3, dtype=bool)]).all()
    assert (high - low)[0, 1] > 2 * (high - low)[0, 2] > 0  # a strong correlation is sure


def test_the_norm_alone_makes_no_correlation_within_a_norm() -> None:
    chance = np.random.default_rng(0)
    rows = [
        {"cell": "", "normalisation": norm, "a": shift + x, "b": shift + y}
        for norm, shift in (("batch", 10.0), ("none", 0.0))
        for x, y in chance.random((30, 2))
    ]
    found = benchmark.correlations(rows)
    assert [of["n"] for of in found.values()] == [60, 30, 30]
    everything, *within = (of["rho"]["a, b"] for of in found.values())
    assert everything[1] > 0.5
    assert all(low < 0 < high for _, low, high in within)


def test_a_correlation_through_accuracy_and_size_alone_is_none_given_both() -> None:
    chance = np.random.default_rng(0)
    rows = [
        {
            "cell": "",
            "normalisation": "none",
            "test": t,
            "parameters": p,
            "a": t + p + 0.5 * x,
            "b": t + p + 0.5 * y,
        }
        for t, p, x, y in chance.random((300, 4))
    ]
    others = [{**row, "normalisation": "batch"} for row in rows[:9]]
    found = benchmark.correlations([*rows, *others])["none"]
    assert found["rho"]["a, b"][1] > 0.6
    assert list(found["partial"]) == ["a, b"]
    assert abs(found["partial"]["a, b"][0]) < 0.15


def test_a_pruned_copy_lacks_the_smallest_weights_and_the_network_does_not_change() -> None:
    measurement = Measurement(TINY)
    with drawing(0):
        net = measurement.network(next(every_cell()))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    data = measurement.data
    pruned = benchmark.pruned_copy(net, 0.75, data.train, data.normalisation)
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
    dense = [weight for weight in pruned.parameters() if weight.ndim in (2, 4)]
    zeros = sum(int((weight == 0).sum()) for weight in dense)
    assert zeros == round(0.75 * sum(weight.numel() for weight in dense))
    means = [v for name, v in pruned.named_buffers() if name.endswith("running_mean")]
    assert means
    assert any(mean.any() for mean in means)  # of the training images


def test_the_scale_of_stored_weights_has_no_effect_on_the_pruning_of_a_bounded_network() -> None:
    measurement = Measurement(TINY)
    macro = {"gain": "bounded", "reduction": "average", "logit_scale": 256.0}
    with drawing(0):
        net = measurement.network(replace(list(every_cell())[-1], macro=macro)).eval()
    data = measurement.data
    images = data.normalisation(data.test.images[:20].float())
    first = benchmark.pruned_copy(net, 0.5, data.train, data.normalisation)(images)
    with torch.no_grad():
        for power, weight in enumerate(w for w in net.parameters() if w.ndim == 4):
            weight *= 2.0**power
    second = benchmark.pruned_copy(net, 0.5, data.train, data.normalisation)(images)
    assert first.std() > 0
    torch.testing.assert_close(second, first)


def test_a_stopped_command_continues_and_joins_the_noise_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmark, "EPS", (0.1,))
    made: list[Any] = []

    def figures(*arguments: Any) -> dict[str, Any]:
        made.append(arguments[-1])
        return found(*arguments)

    found = benchmark.figures
    monkeypatch.setattr(benchmark, "figures", figures)
    cells = list(every_cell())[:2]
    benchmark.measure(TINY, cells[:1])
    rows = benchmark.measure(TINY, cells)["rows"]
    assert made == cells
    kept = json.loads((tmp_path / f"{benchmark.FILE}.json").read_text("utf-8"))["rows"]
    assert kept == rows
    for row in rows:
        accuracies = [v for k, v in row.items() if k.startswith(("test", "robust", "pru", "wrong"))]
        assert len(accuracies) == 5
        assert all(0 <= accuracy <= 1 for accuracy in accuracies)
        assert row["robust_0.1"] <= row["test"]
    monkeypatch.setattr(benchmark, "WRONG", 0.5)
    with pytest.raises(SystemExit, match="another setting"):
        benchmark.measure(TINY, cells)


def test_a_network_that_the_table_lacks_is_left_out() -> None:
    cells = list(every_cell())[:2]
    rows = [{**benchmark.key(cell), "test": 0.5} for cell in cells]
    fits = {"validation": 0.9, "test": 0.9, "uniform": 1.0, "random_labels": 0.3}
    table = CellTable([MeasuredCell(cells[1], fits, steps=7)])
    [found] = benchmark.with_noise_fit(rows, table)
    assert found == {**rows[1], "uniform": pytest.approx(0.99), "random_labels": 0.3}


def test_the_plot_shows_every_network_below_and_every_interval_above_the_diagonal() -> None:
    chance = np.random.default_rng(0)
    rows = [
        {"cell": "", "normalisation": norm, **dict(zip(benchmark.DRAWN, values, strict=True))}
        for norm, values in zip(
            ["batch", "none"] * 6, chance.random((12, len(benchmark.DRAWN))), strict=True
        )
    ]
    figure = benchmark.draw(rows, benchmark.correlations(rows))
    panels = np.array(figure.axes).reshape(len(benchmark.DRAWN), -1)
    dots = [line for line in panels[3, 1].lines if len(line.get_xdata())]
    assert sum(len(line.get_xdata()) for line in dots) == len(rows)
    assert len([line for line in panels[1, 3].lines if len(line.get_xdata()) == 1]) == 3
    assert not panels[2, 2].axison


def test_the_examples() -> None:
    assert doctest.testmod(benchmark).failed == 0
