"""A stopped study continues and equals an unbroken one; several workers share it."""

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import optuna
import pytest
import sqlalchemy
import torch
from conftest import ROOT, undrawn
from rich.console import Console
from studies import LEAST, SMALL, MadeUp, made_up, results, small, timeless, written

import darts_noise as dn
from darts_noise.cli.program import main
from darts_noise.errors import SettingError
from darts_noise.runs import search as searching
from darts_noise.runs.run import Interrupted
from darts_noise.search.module import SearchModule
from darts_noise.study import queue, run
from darts_noise.study.run import Study, tabulate
from darts_noise.study.settings import Sample
from darts_noise.study.work import SeedRuns

FEW = {**LEAST, "unseen_families": ["gaussian"], "quick": {"samples": 5}}
"""Changes to the small study that leave five units."""


class Killed(BaseException):
    """Nothing in a worker answers this, as nothing answers SIGKILL."""


def let_time_pass(study):
    """As if nobody had given a sign of life for an hour."""
    with study.queue.storage.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')"
            )
        )


@pytest.mark.parametrize("when", ["in the midst of a unit", "once it is found", "before the table"])
def test_killed_at_every_unit_it_ends_as_one_that_was_not(when, tmp_path, monkeypatch):
    made = made_up(monkeypatch)
    whole = Study(small(**FEW), tmp_path / "whole", "command")
    whole.run()
    whole.write()
    units = len(whole.units)
    assert len(made) == units == 5
    made.clear()

    def killed(*args):
        if len(made) % 2 == 0 or when != "in the midst of a unit":
            raise Killed

    kills = 0
    while True:
        study = Study(small(**FEW), tmp_path / "killed", "command")
        with monkeypatch.context() as patched:
            if when == "before the table":
                patched.setattr(study, "write", killed)
            elif when == "once it is found":
                patched.setattr(queue, "accuracy_of", killed)
            else:
                figure = MadeUp._figure
                patched.setattr(MadeUp, "_figure", lambda *a, f=figure: (f(*a), killed())[0])
            try:
                study.run()
            except Killed:
                kills += 1
                let_time_pass(study)
                continue
        study.write()
        break
    again = units - 1 if when == "in the midst of a unit" else 0
    assert kills == (again or units)
    assert len(made) == units + again
    assert results(study) == results(whole)


def test_an_interrupted_study_shows_what_it_has_and_goes_on(tmp_path, monkeypatch):
    made_up(monkeypatch)
    with monkeypatch.context() as patched:
        # Tests that a shell runs in the background ignore SIGINT.
        patched.setattr(MadeUp, "noise", lambda *a: signal.default_int_handler(2, None))
        with pytest.raises(Interrupted) as stop:
            dn.study(small(**LEAST), runs=tmp_path)
        assert (stop.value.run, stop.value.status) == (tmp_path / "study" / "small", 130)
        patched.setattr(MadeUp, "noise", lambda *a: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted) as stop:
            dn.study(small(**LEAST), runs=tmp_path)
        assert stop.value.status == 143
    file = tmp_path / "study" / "small" / "table.md"
    before = file.read_text()
    assert "| λ = 1 | 1 | 100 | " in before
    file.unlink()
    assert tabulate(small(**LEAST), runs=tmp_path).table == file.read_text() == before
    found = dn.study(small(**LEAST), runs=tmp_path)
    assert found.networks[0]["converged/uniform"]["n"] == 1


def test_a_search_answers_the_signals_itself(tmp_path, monkeypatch, no_drawings):
    class Searching(MadeUp):
        def __init__(self, *args):
            super().__init__(*args)
            self.cell = SeedRuns(*args).cell  # not made up

    made_up(monkeypatch)
    monkeypatch.setattr(run, "SeedRuns", Searching)
    console = Console(file=io.StringIO(), width=1000)
    study = partial(dn.study, small(**LEAST), runs=tmp_path, console=console)
    folder = tmp_path / "study" / "small"
    search = folder / "search" / "lambda_1-seed0"

    def signalled(does):
        return lambda *args: os.kill(os.getpid(), signal.SIGTERM) or does(*args)

    for owner, name in ((SearchModule, "_step_alpha"), (searching, "search_card")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, signalled(getattr(owner, name)))
            with pytest.raises(Interrupted) as stop:
                study()
        assert (stop.value.run, stop.value.status) == (folder, 143)
        assert (search / "checkpoints" / "last.ckpt").exists()
    console.file.truncate(0)
    assert len(study().networks) == 1
    assert (search / "card.json").exists()
    assert len(console.file.getvalue().splitlines()) == 3  # one for each unit


def test_a_signal_waits_where_optuna_is_at_work(tmp_path, monkeypatch):
    """Else its thread of heartbeats would go on, and the program would never end."""
    made = made_up(monkeypatch)
    enqueue = optuna.Study.enqueue_trial
    asked = []

    def enqueue_late(study, *args, **settings):
        os.kill(os.getpid(), signal.SIGTERM)
        enqueue(study, *args, **settings)
        asked.append(args)

    with monkeypatch.context() as patched:
        patched.setattr(optuna.Study, "enqueue_trial", enqueue_late)
        with pytest.raises(Interrupted) as stop:
            dn.study(small(**LEAST), runs=tmp_path)
    assert stop.value.status == 143
    assert len(asked) == 1
    assert not made
    assert len(dn.study(small(**LEAST), runs=tmp_path).networks) == 1


def test_the_command_says_how_a_stopped_study_goes_on(tmp_path, monkeypatch, capsys):
    made_up(monkeypatch)
    arguments = ["study", str(written(tmp_path, **LEAST)), f"--runs={tmp_path}"]
    with monkeypatch.context() as patched:
        patched.setattr(MadeUp, "noise", lambda *a: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit) as stop:
            main(arguments)
    assert stop.value.code == 143
    said = capsys.readouterr().out
    assert "interrupted; the results so far are in" in said
    assert "to resume: the same command" in said
    for option in ([], ["--table"]):
        main([*arguments, *option])
        out = capsys.readouterr().out
        assert out.splitlines()[-1] == f"table: {tmp_path / 'study' / 'small' / 'table.md'}"
    found = json.loads((tmp_path / "study" / "small" / "results.json").read_text())
    assert found["command"] == f"darts-noise study {' '.join(arguments[1:])}"
    assert found["networks"][0]["converged/uniform"]["n"] == 1


def test_the_config_that_a_study_leaves_repeats_it(tmp_path, monkeypatch, capsys):
    made_up(monkeypatch)
    config = small(**LEAST, cells={"v2": "darts_v2"})
    dn.study(config, runs=tmp_path)
    folder = tmp_path / "study" / "small"
    before = json.loads((folder / "results.json").read_text())
    MadeUp.made.clear()
    main(["study", str(folder / "config.yaml"), f"--runs={tmp_path}"])
    after = json.loads((folder / "results.json").read_text())
    assert not MadeUp.made
    assert {**after, "command": ""} == {**before, "command": ""}


@pytest.mark.parametrize("error", [ValueError, torch.OutOfMemoryError])
def test_a_unit_that_cannot_be_made_stops_only_those_that_need_it(tmp_path, monkeypatch, error):
    made_up(monkeypatch)
    changes = {**LEAST, "noise_weights": [0, 1], "controls": {"matched": None}}
    cell = MadeUp.cell

    def refused(self, origin):
        if self.name == "lambda_1/0":
            raise error("no such\nsearch")
        return cell(self, origin)

    with monkeypatch.context() as patched:
        patched.setattr(MadeUp, "cell", refused)
        said = r"^6 of 9 units failed or need a failed one: lambda_1/0/cell: no such search$"
        with pytest.raises(ValueError, match=said):
            dn.study(small(**changes), runs=tmp_path)
    file = tmp_path / "study" / "small" / "results.json"
    found = json.loads(file.read_text())["networks"]
    assert [network["network"] for network in found] == ["lambda_0"]
    assert len(dn.study(small(**changes), runs=tmp_path).networks) == 3


def test_a_table_needs_a_study_that_has_begun(tmp_path):
    with pytest.raises(SettingError, match="name: expected a study that has begun"):
        tabulate(small(), runs=tmp_path)
    with pytest.raises(SettingError, match="storage: cannot open 'nowhere'"):
        dn.study(small(storage="nowhere"), runs=tmp_path)
    assert not list((tmp_path / "study").iterdir())


def test_a_proposal_is_made_with_its_own_settings(tmp_path, monkeypatch):
    seen = []

    class Seen(MadeUp):
        def __init__(self, config, network, seed, folder):
            super().__init__(config, network, seed, folder)
            seen.append((network.noise_weight, config.train.model.channels, seed))

    made_up(monkeypatch)
    monkeypatch.setattr(run, "SeedRuns", Seen)
    proposals = {"noise_weight": {"low": 0.1, "high": 10.0}, "train.model.channels": [4, 8]}
    sample = Sample(2, proposals, seed=3)
    found = dn.study(small(**{**LEAST, "noise_weights": []}, sample=sample), runs=tmp_path)
    assert [proposal["number"] for proposal in found.proposals] == [0, 1]
    for i, proposal in enumerate(found.proposals):
        own = (
            proposal["settings"]["noise_weight"],
            proposal["settings"]["train.model.channels"],
            3,
        )
        assert seen[3 * i : 3 * i + 3] == [own] * 3
    assert any(proposal["best"] for proposal in found.proposals)
    assert "## Proposals" in found.table


def test_a_folder_that_cannot_be_made_and_missing_data_are_one_line(tmp_path, capsys):
    taken, images = tmp_path / "taken", tmp_path / "images"
    taken.touch()
    images.mkdir()
    for options, named in (
        ([f"--runs={taken}"], taken),
        ([f"--runs={tmp_path}", f"--train.data.name={images}"], images),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["study", str(written(tmp_path)), *options])
        assert stop.value.code == 2
        said = capsys.readouterr().err.strip()
        assert str(named) in said
        assert "\n" not in said


@pytest.mark.parametrize("changes", [{"race": 2}, {"strategy": "random"}], ids=["race", "strategy"])
def test_a_search_may_choose_what_a_supernet_cannot_mix(changes):
    gain = replace(small().search.model, macro={"gain": ["free", "bounded"]})
    for model, accepted in ((replace(gain, **changes), True), (gain, False)):
        config = small()
        config = replace(config, search=replace(config.search, model=model))
        with nullcontext() if accepted else pytest.raises(dn.SettingError, match=r"macro\.gain"):
            run.check_data(config)


@pytest.mark.parametrize(
    ("argument", "status", "said"),
    [("--help", 0, "usage: "), ("digits", 2, "a study needs Optuna: pip install")],
)
def test_without_optuna_it_says_what_to_install(argument, status, said):
    code = "import sys; sys.modules['optuna'] = None; from darts_noise.cli.program import main; "
    found = subprocess.run(
        [sys.executable, "-c", f"{code}main(['study', {argument!r}])"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert found.returncode == status
    assert said in found.stdout + found.stderr
    assert "Traceback" not in found.stderr


# ------------------------------------------------------------------------------ nothing made up

SHORT = {"converged": {**SMALL["converged"], "sgd_rates": []}}
"""Changes that halve the measurements, which a residual network makes long."""


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A small study, at its end."""
    folder = tmp_path_factory.mktemp("real")
    with undrawn():
        main(["study", str(written(folder, **SHORT)), f"--runs={folder}"])
    return folder / "study" / "small"


def test_everything_is_measured(real):
    found = json.loads((real / "results.json").read_text())
    names = [network["network"] for network in found["networks"]]
    assert names == ["lambda_1", "lambda_0", "matched_1", "alexnet"]
    figures = ("test_accuracy", "converged/uniform", "converged/gaussian", "quick/uniform")
    for network in found["networks"]:
        for figure in (*figures, "parameters"):
            assert network[figure]["n"] == 1, (network["network"], figure)
    assert (real / "plane.png").stat().st_size > 1000
    assert "| λ = 1 | 1 |" in (real / "table.md").read_text()
    parameters = {n["network"]: n["parameters"]["mean"] for n in found["networks"]}
    assert abs(parameters["matched_1"] / parameters["lambda_1"] - 1) <= 0.05
    record = json.loads((real / "records" / "lambda_1-seed0.json").read_text())
    assert record["converged"]["uniform"]["samples"] == 20
    assert record["cell"]["genotype"]["meta"]["noise_weight"] == 1
    assert dn.load_genotype(real / "cells" / "lambda_1-seed0.json").meta["noise_weight"] == 1
    assert {"hardware", "versions", "settings", "positive_control"} <= found.keys()


def start(tmp_path):
    arguments = [str(written(tmp_path, heartbeat=1, **SHORT)), f"--runs={tmp_path}"]
    return subprocess.Popen(
        [sys.executable, "-m", "darts_noise", "study", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has its children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.slow
def test_signals_stop_a_worker_and_two_others_share_what_is_left(real, tmp_path):
    folder = tmp_path / "study" / "small"
    for how, status in ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)):
        worker = start(tmp_path)
        assert worker.stdout.readline().startswith("[")  # one unit is made, the next one begun
        os.kill(worker.pid, how)
        said = worker.communicate(timeout=100)
        assert worker.returncode == status, said
        assert "Traceback" not in said[1]
    workers = [start(tmp_path), start(tmp_path)]
    said = [worker.communicate(timeout=500) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    found = timeless(json.loads((folder / "results.json").read_text()))
    assert found == timeless(json.loads((real / "results.json").read_text()))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_shipped_study_of_digits_runs_to_the_end(tmp_path):
    main(["study", "digits", f"--runs={tmp_path}"])
    found = json.loads((tmp_path / "study" / "digits" / "results.json").read_text())
    for network in found["networks"]:
        if network["network"] != "resnet18":
            assert network["test_accuracy"]["n"] == len(network["seeds"]) == 2
    assert all(control["reached"] for control in found["positive_control"].values())
