"""A study that is killed goes on, and ends as one that was not; several workers share it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import sqlalchemy
from conftest import ROOT
from small_studies import LEAST, SMALL, count, ended_study, results, small_study, timeless, written

from darts_noise.study import command, work
from darts_noise.study.run import Study
from darts_noise.study.units import units_of
from darts_noise.train import noise_runs


class Killed(BaseException):
    """Nothing in a worker may answer this, as nothing answers SIGKILL."""


def kill(study):
    """Ends a worker, which tells nobody."""
    study.queue.storage.set_trial_state_values = lambda *a: True
    raise Killed


def killed_after_each_part(study):
    """The study, whose worker is killed as soon as it has finished a part."""
    write = study.write

    def write_and_die():
        write()
        kill(study)

    study.write = write_and_die
    return study


def let_time_pass(study):
    """As if nobody had given a sign of life for an hour."""
    with study.queue.storage.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')"
            )
        )


@pytest.fixture(scope="module")
def least(tmp_path_factory):
    return ended_study(tmp_path_factory.mktemp("least"), **LEAST)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return ended_study(tmp_path_factory.mktemp("small"))


def test_a_second_start_makes_nothing(least, monkeypatch):
    before = results(least)
    monkeypatch.setattr("darts_noise.study.run.Worker", None)
    Study(least.settings, least.folder.parents[1], None, "command").run()
    assert results(least) == before


def test_settings_are_fixed_by_the_first_part_and_not_before(tmp_path):
    small_study(tmp_path, **LEAST).write()
    changed = {**LEAST, "converged": {**SMALL["converged"], "epochs": 1}}
    small_study(tmp_path, **changed).write()
    with pytest.raises(Killed):
        killed_after_each_part(small_study(tmp_path, **changed)).run()
    with pytest.raises(ValueError, match=r"converged\.epochs: 'small' was begun with 1, got 2"):
        small_study(tmp_path, **LEAST)


def test_a_worker_with_other_settings_ends_before_it_makes_anything(tmp_path):
    late = small_study(tmp_path, **LEAST)
    first = small_study(tmp_path, **LEAST, converged={**SMALL["converged"], "epochs": 1})
    first.queue.settings = first.fixed
    with pytest.raises(ValueError, match=r"converged\.epochs: 'small' was begun with 1, got 2"):
        late.run()
    assert late.queue.parts() == ({}, set())


def goes_on_after_every_part(tmp_path, monkeypatch, whole, **changes):
    """Kills the worker after each part; the results and the number of trainings are the same."""
    searches, trainings = (count(monkeypatch, name) for name in ("search_cell", "train_network"))
    parts = sum(len(unit.parts) for unit in whole.units)
    for _ in range(parts):
        study = killed_after_each_part(small_study(tmp_path, **changes))
        with pytest.raises(Killed):
            study.run()
        let_time_pass(study)
    study = small_study(tmp_path, **changes)
    study.run()
    assert results(study) == results(whole)
    kinds = [part for unit in whole.units for part in unit.parts]
    assert len(trainings) == kinds.count("test")
    assert len(searches) == len(whole.settings.noise_weights)


def test_killed_after_every_part_it_ends_as_one_that_was_not(least, tmp_path, monkeypatch):
    goes_on_after_every_part(tmp_path, monkeypatch, least, **LEAST)


@pytest.mark.slow
def test_with_controls_and_families_too(small, tmp_path, monkeypatch):
    goes_on_after_every_part(tmp_path, monkeypatch, small)


def test_killed_within_a_noise_fit_it_keeps_the_finished_trainings(least, tmp_path, monkeypatch):
    study = small_study(tmp_path, **LEAST)
    train, made = noise_runs.train_from_scratch, []

    def killed_after_one(*args, **settings):
        if len(made) == 1:
            monkeypatch.setattr(noise_runs, "train_from_scratch", counted)
            kill(study)
        return counted(*args, **settings)

    def counted(*args, **settings):
        made.append(settings["optimiser"])
        return train(*args, **settings)

    monkeypatch.setattr(noise_runs, "train_from_scratch", killed_after_one)
    with pytest.raises(Killed):
        study.run()
    let_time_pass(study)
    small_study(tmp_path, **LEAST).run()
    assert results(study) == results(least)
    assert made == ["sgd", "adam"]


def test_more_seeds_keep_what_there_is(least, tmp_path, monkeypatch):
    shutil.copytree(least.folder, tmp_path / "study" / "small")
    trainings = count(monkeypatch, "train_network")
    more = small_study(tmp_path, **LEAST, seeds=2)
    more.run()
    assert len(trainings) == 1
    before, after = (results(study)["networks"][0] for study in (least, more))
    assert after["seeds"][0] == before["seeds"][0]
    assert after["test_accuracy"]["n"] == 2


@pytest.mark.slow
def test_everything_is_measured(small):
    found = results(small)
    names = [network["network"] for network in found["networks"]]
    assert names == ["lambda_1", "lambda_0", "matched_1", "alexnet"]
    figures = ("test_accuracy", "converged/uniform", "converged/gaussian", "quick/uniform")
    for network in found["networks"]:
        for figure in (*figures, "parameters"):
            assert network[figure]["n"] == 1, (network["network"], figure)
    assert (small.folder / "plane.png").stat().st_size > 1000
    assert "| λ = 1 | 1 |" in (small.folder / "table.md").read_text()
    parameters = {n["network"]: n["parameters"]["mean"] for n in found["networks"]}
    assert abs(parameters["matched_1"] / parameters["lambda_1"] - 1) <= 0.05
    record = json.loads((small.folder / "records" / "lambda_1-seed0.json").read_text())
    assert record["converged"]["uniform"]["samples"] == 20
    assert record["cell"]["genotype"]["meta"]["noise_weight"] == 1
    assert {"hardware", "versions", "settings", "positive_control"} <= found.keys()


def test_an_interrupted_study_shows_what_it_has_and_the_table_is_made_again(
    tmp_path, monkeypatch, capsys
):
    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(noise_runs, "train_from_scratch", interrupted)
    arguments = [str(written(tmp_path, **LEAST)), f"--runs={tmp_path}"]
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 130
    assert capsys.readouterr().err.strip() == "interrupted; the same command goes on"
    table = tmp_path / "study" / "small" / "table.md"
    before = table.read_text()
    assert "| λ = 1 | 1 |" in before
    table.unlink()
    command.main([*arguments, "--table"])
    assert table.read_text() == before


def test_a_unit_that_cannot_be_made_stops_only_those_that_need_it(tmp_path, monkeypatch):
    search = work.search_cell

    def refused(cli):
        if cli.model.config.noise_weight:
            raise ValueError("no such search")
        return search(cli)

    monkeypatch.setattr(work, "search_cell", refused)
    changes = {"noise_weights": [0, 1], "controls": {"matched": None}, "quick": None}
    study = small_study(tmp_path, **changes)
    with pytest.raises(ValueError, match=r"^4 of 6 units are not made: lambda_1/0: no such search"):
        study.run()
    assert [network["network"] for network in results(study)["networks"]] == ["lambda_0"]
    monkeypatch.undo()
    again = small_study(tmp_path, **changes)
    again.run()
    assert len(results(again)["networks"]) == 3


def test_proposals_are_judged_by_validation_images(tmp_path):
    study = small_study(
        tmp_path,
        noise_weights=[],
        controls={},
        quick=None,
        unseen_families=[],
        sample={
            "trials": 2,
            "settings": {
                "noise_weight": {"low": 0.1, "high": 10.0, "log": True},
                "train.model.channels": [4, 8],
            },
        },
    )
    study.run()
    proposals = results(study)["proposals"]
    assert [proposal["number"] for proposal in proposals] == [0, 1]
    parts, _ = study.queue.parts()
    for proposal in proposals:
        found = parts[f"sample/{proposal['number']}"]
        assert "test_accuracy" not in json.dumps(found)
        assert found["validation"]["train_samples"] == 90
        assert (
            found["cell"]["genotype"]["meta"]["noise_weight"]
            == (proposal["settings"]["noise_weight"])
        )
    assert any(proposal["best"] for proposal in proposals)


def start(tmp_path, **changes):
    arguments = [str(written(tmp_path, **changes)), f"--runs={tmp_path}"]
    return subprocess.Popen(
        [sys.executable, "-m", "darts_noise.study", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has its children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.slow
def test_two_workers_share_the_work(small, tmp_path):
    workers = [start(tmp_path), start(tmp_path)]
    said = [worker.communicate(timeout=500) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    lines = [[line for line in out.splitlines() if line[:1] == "["] for out, _ in said]
    assert all(lines)
    parts = sum(len(unit.parts) for unit in units_of(small.settings))
    assert len(lines[0]) + len(lines[1]) == parts
    found = json.loads((tmp_path / "study" / "small" / "results.json").read_text())
    assert timeless(found) == results(small)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_at_any_moment_ends_it_and_the_next_start_goes_on(how, status, small, tmp_path):
    folder = tmp_path / "study" / "small"
    for records in (1, 3):
        worker = start(tmp_path, heartbeat=1)
        while len(list(folder.glob("records/*"))) < records and worker.poll() is None:
            time.sleep(0.2)
        time.sleep(0.3)
        os.kill(worker.pid, how)
        out, err = worker.communicate(timeout=100)
        assert worker.returncode == status, out + err
        if how != signal.SIGKILL:
            assert err.strip() == "interrupted; the same command goes on"
    worker = start(tmp_path, heartbeat=1)
    out, err = worker.communicate(timeout=500)
    assert worker.returncode == 0, out + err
    assert timeless(json.loads((folder / "results.json").read_text())) == results(small)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_shipped_study_of_digits_runs_to_the_end(tmp_path):
    config = str(ROOT / "configs" / "study" / "digits.yaml")
    command.main([config, f"--runs={tmp_path}", "--threads=1"])
    found = json.loads((tmp_path / "study" / "digits" / "results.json").read_text())
    for network in found["networks"]:
        if network["network"] != "resnet18":
            assert network["test_accuracy"]["n"] == len(network["seeds"]) == 2
    assert all(control["reached"] for control in found["positive_control"].values())
