"""A study continues from its results and records, and no start loses earlier results."""

import json
import shutil
from dataclasses import replace

import pytest
from conftest import ROOT
from studies import FIT, LEAST, SEARCH, TRAIN, made_up, results, small

import darts_noise as dn
from darts_noise.space.spaces import get_space
from darts_noise.study.cells import random_cell
from darts_noise.study.kept import written_settings
from darts_noise.study.run import Study
from darts_noise.study.settings import Converged

CELLS = [random_cell(get_space("noise", 1), seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the whole small study, at its end."""
    with pytest.MonkeyPatch.context() as patched:
        made_up(patched)
        begun = Study(small(), tmp_path_factory.mktemp("whole"), "command")
        begun.run()
        begun.write()
    return begun.folder


@pytest.fixture
def study(tmp_path, monkeypatch):
    """(changes) → a study in one folder, which makes up what it finds; ``made`` is what."""
    made = made_up(monkeypatch)

    def begin(**changes):
        begun = Study(small(**changes), tmp_path, "command")
        begun.made = made
        return begun

    return begin


@pytest.fixture
def ended(whole, study, tmp_path):
    """The whole small study, at its end, in the folder of `study`."""
    shutil.copytree(whole, tmp_path / "study" / "small")
    return study()


def without_database(begun):
    (begun.folder / "study.db").unlink()


def records(begun):
    return {
        file.name: json.loads(file.read_text()) for file in (begun.folder / "records").iterdir()
    }


def test_a_second_start_makes_nothing(ended, study):
    before = results(ended)
    again = study()
    again.run()
    again.write()
    assert not again.made
    assert results(again) == before


def test_it_goes_on_from_results_and_records_alone(ended, study):
    before = results(ended)
    without_database(ended)
    again = study()
    again.run()
    again.write()
    assert not again.made
    assert results(again) == before


@pytest.mark.parametrize("has_database", [True, False])
def test_a_smaller_start_keeps_what_a_larger_one_has_measured(has_database, ended, study):
    before, kept = results(ended), records(ended)
    if not has_database:
        without_database(ended)
    for _ in range(2):
        study(noise_weights=[0], unseen_families=[], controls={}).write()
        assert records(ended) == kept
    again = study()
    again.run()
    again.write()
    assert not again.made
    assert records(again) == kept
    assert results(again)["networks"] == before["networks"]


def test_what_the_records_lack_is_made(ended, study):
    before = results(ended)
    without_database(ended)
    file = ended.folder / "records" / "lambda_1-seed0.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "converged": {}}))
    again = study()
    again.run()
    assert again.made == ["lambda_1/0/converged/uniform", "lambda_1/0/converged/gaussian"]
    assert results(again) == before


def test_more_seeds_keep_what_there_is(ended, study):
    before = results(ended)["networks"][0]
    more = study(seeds=2)
    more.run()
    assert more.made
    assert not any("/0/" in key for key in more.made)
    after = results(more)["networks"][0]
    assert after["seeds"][0] == before["seeds"][0]
    assert after["test_accuracy"]["n"] == 2


def test_strategies_may_be_added_but_not_changed(study):
    search = replace(SEARCH, model=replace(SEARCH.model, candidates=2))
    least = {**LEAST, "search": search}
    begun = study(**least)
    begun.run()
    begun.write()
    begun.made.clear()
    without_database(begun)
    more = study(**least, strategies={"random": None})
    more.run()
    more.write()
    assert {made.split("/")[0] for made in begun.made} == {"strategy_random_1"}
    assert {*results(more)["hypervolume"]} == {"darts", "random"}
    with pytest.raises(dn.SettingError, match=r"^strategies\.random\.nodes: 'small' was started"):
        study(**least, strategies={"random": {"nodes": 2}})


def test_records_without_results_are_refused(ended, study):
    without_database(ended)
    (ended.folder / "results.json").unlink()
    with pytest.raises(ValueError, match=r"results\.json: expected beside records/"):
        study()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda record: "{", r"-seed0\.json: not JSON"),
        (lambda record: "[]", r"-seed0\.json: expected a record"),
        (lambda record: json.dumps({**record, "test": {}}), r"-seed0\.json: test: expected an"),
        (
            lambda record: json.dumps({**record, "quick": {"uniform": 1}}),
            r"json: quick/uniform: expected",
        ),
        (
            lambda record: json.dumps({**record, "cell": {"genotype": 1, "model": {}}}),
            r"-seed0\.json: cell: expected an object, got 1",
        ),
    ],
)
def test_a_damaged_record_is_named(damage, said, ended, study):
    without_database(ended)
    file = ended.folder / "records" / "lambda_1-seed0.json"
    file.write_text(damage(json.loads(file.read_text())))
    with pytest.raises(ValueError, match=said):
        study()


# ------------------------------------------------------------------------------ what is fixed


@pytest.mark.parametrize("has_database", [True, False])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"converged": Converged(30, 2, 64, (0.01,), (0.01,), 1)}, "converged.samples: 'small' wa"),
        (
            {"train": replace(TRAIN, trainer=replace(TRAIN.trainer, max_epochs=2))},
            "train.trainer.max_epochs: 'small' was started with 1, got 2; use another name",
        ),
        (
            {"controls": {"alexnet": {"model": {"learning_rate": 0.5}}}},
            "controls.alexnet.model.learning_rate: 'small' was started with 0.03, got 0.5",
        ),
        (
            {"controls": {"alexnet": {"model": {"drop_path": 0.5}}}},
            "controls.alexnet.model.drop_path: 'small' was started with the default, got 0.5",
        ),
    ],
)
def test_what_decides_a_result_stays_as_it_is(changes, said, has_database, ended, study):
    if not has_database:
        without_database(ended)
    with pytest.raises(dn.SettingError) as error:
        study(**changes)
    assert str(error.value).startswith(said)
    study(seeds=2, noise_weights=[0, 1, 2], controls={"all_skip": None}, heartbeat=5)
    study(train=replace(TRAIN, data=replace(TRAIN.data, root="elsewhere")))


def test_settings_are_fixed_by_the_first_part_and_not_before(study):
    study(**LEAST).write()
    changed = {**LEAST, "converged": replace(FIT, epochs=1)}
    late = study(**LEAST)
    begun = study(**changed)
    begun.write()
    assert begun.queue.work(begun.units[0], lambda: begun._make(begun.units[0], 0))
    with pytest.raises(
        dn.SettingError, match=r"converged\.epochs: 'small' was started with 1, got 2"
    ):
        study(**LEAST)
    before = list(begun.made)
    with pytest.raises(
        dn.SettingError, match=r"converged\.epochs: 'small' was started with 1, got 2"
    ):
        late.run()
    assert begun.made == before


def test_proposals_without_their_database_are_not_lost(ended):
    file = ended.folder / "results.json"
    content = json.loads(file.read_text())
    without_database(ended)
    file.write_text(json.dumps({**content, "proposals": [{"number": 0}]}))
    with pytest.raises(ValueError, match=r"results\.json: has proposals, and only study\.db holds"):
        written_settings(ended.folder)
    assert json.loads(file.read_text())["proposals"] == [{"number": 0}]


def test_a_given_cell_stays_what_it_is(study, tmp_path):
    file = tmp_path / "cell.json"
    CELLS[0].to_json(file)
    changes = {**LEAST, "noise_weights": [], "cells": {"mine": str(file)}}
    study(**changes).run()
    study(**{**changes, "cells": {"mine": [str(file), "darts_v2"]}})
    CELLS[1].to_json(file)
    with pytest.raises(
        dn.SettingError, match=r"^cells\.mine\.0\.\w+.*: 'small' was started with \["
    ):
        study(**changes)


def test_results_of_older_versions_leave_out_what_has_its_default(study, tmp_path, monkeypatch):
    """And the results that are shipped can be gone on with."""
    from darts_noise.cli.program import main

    shipped = ROOT / "docs" / "results" / "mnist_study"
    folder = tmp_path / "study" / "mnist"
    shutil.copytree(shipped, folder)
    arguments = ["study", str(ROOT / "configs" / "study" / "mnist.yaml"), f"--runs={tmp_path}"]
    main([*arguments, "--table"])
    assert (folder / "table.md").read_text() == (shipped / "table.md").read_text()
    before, after = (json.loads((f / "results.json").read_text()) for f in (shipped, folder))
    about = ("command", "hardware", "versions")
    assert {k: v for k, v in before.items() if k not in about} == {
        k: v for k, v in after.items() if k not in about
    }
    for name in ("records", "cells"):
        for file in (shipped / name).iterdir():
            assert (folder / name / file.name).read_text() == file.read_text()
    with pytest.raises(SystemExit):
        main([*arguments, "--table", "--train.data.cutout=4"])
