"""Strategies on a table: one command compares them, and the figures are those of the searches."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import darts_noise as dn
from benchmarks import strategies_on_table as benchmark

NAMES = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """64 cells, of which the last is the best."""
    lines = ["cell,validation,uniform,steps"] + [
        f"|{a}~0|+|{b}~0|{c}~1|,{0.3 + i / 100},{0.1 + i / 200},{10 + i % 3}"
        for i, (a, b, c) in enumerate(itertools.product(NAMES, repeat=3))
    ]
    path = tmp_path / "cells.csv"
    path.write_text("\n".join(lines))
    return path


def test_the_figures_are_those_of_the_searches(table: Path) -> None:
    cells = dn.CellTable.from_csv(table)
    found = benchmark.compare(cells, {"random": "random", "mine": {"evolution": {}}}, 8, 20)
    budget = 20 * np.mean([candidate.steps for candidate in cells.candidates])
    assert found["budget"] == round(budget)
    runs = dn.simulate(cells, "random", 8, steps=budget)
    of = found["strategies"]["random"]
    last = np.mean([run.regret([budget]) for run in runs])
    assert of["regret"]["1"][0] == pytest.approx(last, abs=1e-4)
    assert of["curve"]["mean"][-1] == pytest.approx(last, abs=1e-4)
    assert of["validation"][0] == pytest.approx(0.93 - last, abs=1e-4)
    assert of["found_best"] == np.mean([run.regret([budget])[0] == 0 for run in runs])
    assert all(
        low <= mean <= high
        for low, mean, high in zip(*(of["curve"][k] for k in ("low", "mean", "high")), strict=True)
    )
    assert (np.diff(of["curve"]["mean"]) <= 0).all()


def test_the_command_writes_a_file_and_a_picture(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(table.parent)
    given = [str(table), "--noise", "uniform", "--repeats", "3", "--cells", "5"]
    monkeypatch.setattr("sys.argv", ["x", *given, "--strategies", "random"])
    benchmark.main()
    result = json.loads(Path("cells_strategies.json").read_text())
    assert (result["noise"], result["repeats"], result["cells"]) == ("uniform", 3, 64)
    assert list(result["strategies"]["random"]["regret"]) == ["0.25", "0.5", "1"]  # 10%: no cell
    assert Path("cells_strategies.png").stat().st_size > 1000
    assert "random" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--strategies", "evolutoin"], "did you mean 'evolution'"),
        (["--noise", "gaussian"], "unknown figure of the table 'gaussian'"),
        (["--repeats", "0"], "expected 1 or more"),
        (["--cells", "1"], "cells: expected a budget of 12 steps"),
    ],
)
def test_bad_input_is_answered_with_one_line(
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("sys.argv", ["x", str(table), *more])
    with pytest.raises(SystemExit) as error:
        benchmark.main()
    assert error.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
