"""The benchmark of objectives finds, trains and measures each network once."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import commands, objectives
from benchmarks.objectives import RANDOM, TERMS, Measurement, judged, measure, network, setting_of
from darts_noise.search.objectives import list_objectives
from darts_noise.study.settings import Converged


def test_every_objective_is_searched_with_and_differs_from_the_control_in_one_term() -> None:
    λ, none = TERMS["λ = 0"]
    assert (λ, none) == (0.0, {})
    changed = [{"noise fit": {"weight": λ}} if λ else of for λ, of in TERMS.values()]
    assert [len(of) for of in changed] == [0] + [1] * (len(TERMS) - 1)
    assert {name for of in changed for name in of} == {"noise fit", *list_objectives()}
    assert len({network(name).key for name in [*TERMS, *RANDOM]}) == len(TERMS) + len(RANDOM)


def test_a_measurement_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "RESULTS", tmp_path)
    monkeypatch.setattr(objectives, "ATTACKS", replace(objectives.ATTACKS, samples=20, queries=3))
    trained: list[Any] = []

    def once(training: Any) -> dict[str, Any]:
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(training)
        return judged(training)

    monkeypatch.setattr(objectives, "judged", once)
    small = Converged(20, 1, sgd_rates=(), adam_rates=(3e-3,), seeds=1)
    setting = replace(setting_of((3, 1)), converged=small)
    names = [*RANDOM]
    with pytest.raises(KeyboardInterrupt):
        measure(Measurement(setting, tmp_path / "records"), names, [0, 1], "c")
    trained.pop()
    with pytest.raises(KeyboardInterrupt):
        measure(Measurement(setting, tmp_path / "records"), names, [0, 1], "c")
    found = json.loads((tmp_path / f"{objectives.FILE}.json").read_text("utf-8"))
    assert [(run["network"], run["seed"]) for run in found["runs"]] == [(n, 0) for n in names] + [
        (names[0], 1)
    ]
    bounded, batch, other = found["runs"]
    assert bounded["genotype"]["macro"]["gain"] == other["genotype"]["macro"]["gain"] == "bounded"
    assert batch["genotype"]["macro"]["gain"] == "free"
    assert bounded["genotype"] != other["genotype"]
    assert all(0 <= run["robust_0.05"] <= run["test"] + 0.2 for run in found["runs"])
