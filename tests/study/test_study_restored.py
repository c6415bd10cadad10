"""A study goes on from its results and records, and no start loses what another has measured."""

import json
import shutil

import pytest
from small_studies import LEAST, count, ended_study, results, small_study


@pytest.fixture(scope="module")
def least(tmp_path_factory):
    return ended_study(tmp_path_factory.mktemp("least"), **LEAST)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return ended_study(tmp_path_factory.mktemp("small"))


@pytest.fixture
def copied(least, tmp_path):
    """Results and records of the study of three parts, without its database."""
    folder = tmp_path / "study" / "small"
    shutil.copytree(least.folder, folder, ignore=shutil.ignore_patterns("study.db", "noise_runs"))
    return folder


def test_it_goes_on_from_results_and_records_alone(least, copied, tmp_path, monkeypatch):
    monkeypatch.setattr("darts_noise.study.run.Worker", None)
    small_study(tmp_path, **LEAST).run()
    assert json.loads((copied / "results.json").read_text()) | {"command": ""} == json.loads(
        (least.folder / "results.json").read_text()
    ) | {"command": ""}


def records(folder):
    return {file.name: json.loads(file.read_text()) for file in (folder / "records").iterdir()}


@pytest.mark.parametrize("lost", [["study.db"], []], ids=["without database", "with database"])
def test_a_smaller_start_keeps_what_a_larger_one_has_measured(lost, small, tmp_path, monkeypatch):
    monkeypatch.setattr("darts_noise.study.run.Worker", None)
    folder = tmp_path / "study" / "small"
    shutil.copytree(small.folder, folder, ignore=shutil.ignore_patterns(*lost))
    for _ in range(2):
        small_study(tmp_path, noise_weights=[0], unseen_families=[], controls={}).write()
        assert records(folder) == records(small.folder)
    small_study(tmp_path).run()
    assert records(folder) == records(small.folder)
    again, before = (json.loads((f / "results.json").read_text()) for f in (folder, small.folder))
    assert again["networks"] == before["networks"]


def test_records_without_results_are_refused(copied, tmp_path):
    (copied / "results.json").unlink()
    with pytest.raises(ValueError, match=r"results\.json: expected beside records/"):
        small_study(tmp_path, **LEAST)


def test_what_the_records_lack_is_made(least, copied, tmp_path, monkeypatch):
    [file] = (copied / "records").iterdir()
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "converged": {}}))
    calls = [count(monkeypatch, name) for name in ("search_cell", "train_network", "noise_fit")]
    study = small_study(tmp_path, **LEAST)
    study.run()
    assert [len(made) for made in calls] == [0, 0, 1]
    assert results(study) == results(least)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda record: "{", r"-seed0\.json: not JSON"),
        (lambda record: "[]", r"-seed0\.json: expected a record"),
        (lambda record: json.dumps({**record, "test": {}}), r"-seed0\.json: test: expected an"),
        (
            lambda record: json.dumps({**record, "cell": {"genotype": 1, "model": {}}}),
            r"-seed0\.json: cell: expected an object, got 1",
        ),
    ],
)
def test_a_damaged_record_is_named(damage, said, copied, tmp_path):
    [file] = (copied / "records").iterdir()
    file.write_text(damage(json.loads(file.read_text())))
    with pytest.raises(ValueError, match=said):
        small_study(tmp_path, **LEAST)


def test_records_of_other_settings_are_not_taken(copied, tmp_path):
    with pytest.raises(ValueError, match=r"converged\.samples: 'small' was begun with 20, got 30"):
        small_study(tmp_path, **LEAST, converged={"samples": 30})
