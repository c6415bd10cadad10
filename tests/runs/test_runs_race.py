"""``search.py --model.race``: the race before the search, its file, and the resume."""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import undrawn

import darts_noise as dn
from darts_noise.reading_record import Reading
from darts_noise.runs.search import search_module
from darts_noise.search import candidate_trainings
from darts_noise.search import race as race_module
from darts_noise.search.candidate import read_candidates
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.final_cell import of_race
from darts_noise.search.heat import read_race, standing

DATA = {"name": "digits", "train_samples": 80, "batch_size": 20}
CONFIG = dn.SearchConfig(
    "bounded",
    nodes=1,
    macro=[{"logit_scale": 64.0}, {"logit_scale": [1024.0]}],
    channels=4,
    num_cells=3,
    stem="small",
    optimiser="adam",
    noise_samples=40,
    candidates=2,
    candidate_epochs=1,
    race=2,
)
TRAINER = dn.TrainerConfig(accelerator="cpu", max_epochs=1, enable_progress_bar=False)


@pytest.fixture(autouse=True, scope="module")
def short() -> Iterator[None]:
    with undrawn(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidate_trainings, "NOISE_EPOCHS", 2)
        yield


def search_in(folder: Path, config: dn.SearchConfig = CONFIG, **run: Any) -> dn.SearchResult:
    run = {"name": "a", **run}
    return dn.search(
        dn.ImageDataModule(**DATA),
        config,
        trainer=TRAINER,
        run=dn.RunConfig(runs=str(folder), wandb="off", **run),
    )


@pytest.fixture(scope="module")
def whole(short: None, tmp_path_factory: pytest.TempPathFactory) -> dn.SearchResult:
    """An unbroken search."""
    return search_in(tmp_path_factory.mktemp("whole"))


def test_alpha_is_searched_with_the_winner_and_nothing_else_changes(
    whole: dn.SearchResult, tmp_path: Path
) -> None:
    _, heats = read_race(whole.path / "race.json")
    winner = standing(heats)[0].macro
    assert dict(whole.genotype.macro) == winner
    assert whole.card["macro"] == winner
    assert whole.card["race"] == 2
    steps = [whole.card[f"{part}_steps"] for part in ("race", "supernet", "candidates")]
    assert steps[0] == sum(heat.steps for heat in heats) > 0
    assert whole.card["gradient_steps"] == sum(steps)
    rows = json.loads((whole.path / "candidates.json").read_text())["candidates"]
    assert all(row["genotype"]["macro"] == winner for row in rows)
    assert steps[2] == sum(row["steps"] for row in rows)

    decided = {name: [value] for name, value in winner.items()}
    plain = search_in(tmp_path, replace(CONFIG, race=0, macro=decided), name="plain")
    assert all(torch.equal(whole.alpha[name], alpha) for name, alpha in plain.alpha.items())
    assert (plain.path / "metrics.csv").read_bytes() == (whole.path / "metrics.csv").read_bytes()
    assert (plain.card["race"], plain.card["candidates_steps"]) == (
        None,
        plain.card["gradient_steps"] - steps[1],
    )
    assert not (plain.path / "race.json").exists()


def test_the_cells_of_the_race_compete_as_if_they_were_measured_again(
    whole: dn.SearchResult,
) -> None:
    cells, heats = read_race(whole.path / "race.json")
    found = read_candidates(whole.path / "candidates.json")
    assert len(found) == CONFIG.candidates + len(cells)
    assert whole.genotype == found[0].genotype
    winner, data = standing(heats)[0].macro, dn.ImageDataModule(**DATA)
    module = search_module(CONFIG, data, winner)
    trainings = CandidateTrainings(module, data)
    for cell in cells:
        genotype = replace(cell, macro=winner, meta={})
        [raced] = [candidate for candidate in found if candidate.genotype == genotype]
        again = trainings.measured(genotype)
        assert again.steps > 0
        assert raced == replace(again, steps=0)

    fits = (Reading(math.inf, 0.1),) * len(cells)
    diverged = [replace(heat, noise=fits, objective=math.inf) for heat in heats]
    assert of_race(module, data, cells, diverged) == []  # an infinite loss is no low noise fit
    module = search_module(replace(CONFIG, objectives="multiply_adds"), data, winner)
    assert of_race(module, data, cells, heats) == []  # a race keeps no value of an objective


@pytest.mark.parametrize(
    ("stopped_after", "damaged"),
    [(3, False), (6, True), pytest.param(7, False, marks=pytest.mark.slow)],
)
def test_a_search_that_is_stopped_in_its_race_ends_as_the_unbroken_one(
    whole: dn.SearchResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stopped_after: int,
    damaged: bool,
) -> None:
    made, train = [], race_module._train

    def counted(*args: Any) -> Any:
        if len(made) == limit:
            raise KeyboardInterrupt
        made.append(args)
        return train(*args)

    monkeypatch.setattr(race_module, "_train", counted)
    for limit in (stopped_after, -1):
        if limit == stopped_after:
            with pytest.raises(KeyboardInterrupt):
                search_in(tmp_path)
            run = tmp_path / "search" / "a"
            assert not (run / "card.json").exists()
            if damaged:
                (run / "race.json").write_text('{"cells": [')
            made.clear()
        else:
            search_in(tmp_path, name=None, resume=str(run))
    needed = sum(len(h.noise) + len(h.validation) for h in read_race(run / "race.json")[1])
    assert len(made) == (needed if damaged else needed - stopped_after)
    for name in ("race.json", "metrics.csv", "candidates.json", "genotype.json"):
        assert (run / name).read_bytes() == (whole.path / name).read_bytes()


def test_a_finished_race_is_not_repeated(
    whole: dn.SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(whole.path, tmp_path / "search" / "a")
    (run / "card.json").unlink()
    monkeypatch.setattr(CandidateTrainings, "_train", None)  # any training fails
    again = search_in(tmp_path, name=None, resume=str(run))
    assert again.genotype == whole.genotype
    assert (run / "race.json").read_bytes() == (whole.path / "race.json").read_bytes()
    for key in ("race", "macro", "gradient_steps", "race_steps", "candidates_steps"):
        assert again.card[key] == whole.card[key]


@pytest.mark.parametrize(
    ("config", "said"),
    [(CONFIG, True), (replace(CONFIG, race=0, candidates=1, macro={"logit_scale": 64.0}), False)],
)
def test_settings_that_single_networks_do_not_follow_are_told(
    config: dn.SearchConfig,
    said: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    slow = replace(TRAINER, precision="bf16-mixed", max_time="00:01:00:00")
    monkeypatch.setattr(f"{__name__}.TRAINER", slow)
    search_in(tmp_path, config)
    line = "in float32, without trainer.precision, trainer.max_time\n"
    assert (line in capsys.readouterr().out) is said


def test_an_impossible_race_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^model\.race: expected 0, because no macro choice"):
        search_in(tmp_path, dn.SearchConfig("darts", race=4))
    assert not (tmp_path / "search").exists()


def test_a_refusal_after_the_race_keeps_what_the_race_has_measured(tmp_path: Path) -> None:
    data = dn.ImageDataModule(**DATA)
    trainer = replace(TRAINER, max_epochs=2, max_steps=1)  # a step of the warm-up
    run = dn.RunConfig(name="a", runs=str(tmp_path), wandb="off")
    with pytest.raises(dn.SettingError, match="max_steps") as refused:
        dn.search(data, replace(CONFIG, warmup_epochs=1), trainer=trainer, run=run)
    _, heats = read_race(tmp_path / "search" / "a" / "race.json")
    assert len(standing(heats)) == 2
    assert any("results so far" in note for note in refused.value.__notes__)
