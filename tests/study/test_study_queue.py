"""Units are claimed once, whoever asks, and what died is taken up again."""

import time
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState
from small_studies import settings_of, written

from darts_noise.study.queue import Queue
from darts_noise.study.units import units_of


@pytest.fixture
def units(tmp_path):
    sample = {"trials": 2, "settings": {"noise_weight": {"low": 0.1, "high": 10.0}}}
    return units_of(settings_of(written(tmp_path, seeds=3, sample=sample)))


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}"


def die(queue):
    """As if the last sign of life of every worker were long past."""
    with queue.storage.engine.begin() as connection:
        rows = connection.execute(
            sqlalchemy.text(
                "UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')"
            )
        )
        assert rows.rowcount


def test_workers_that_ask_at_the_same_time_never_get_the_same_unit(units, url):
    workers = 6

    def work(_):
        queue = Queue(url, "study", 60, 0)
        taken = []
        for unit in units:
            trial = queue.claim(unit)
            if trial is not None:
                taken.append((unit.key, trial.number, unit.kind))
        return taken

    Queue(url, "study", 60, 0)
    with ThreadPoolExecutor(workers) as pool:
        taken = [claim for of_worker in pool.map(work, range(workers)) for claim in of_worker]
    assert sorted(key for key, _, _ in taken) == sorted(unit.key for unit in units)
    assert len({(number, kind) for _, number, kind in taken}) == len(units)


def test_what_another_claimed_and_ended_meanwhile_is_not_claimed(units, url, monkeypatch):
    queue, other = Queue(url, "study", 60, 0), Queue(url, "study", 60, 0)
    change = queue.storage.set_trial_state_values

    def late(number, state):
        other.finish(other.claim(units[0]), [0.9, 0.1])
        return change(number, state)

    monkeypatch.setattr(queue.storage, "set_trial_state_values", late)
    assert queue.claim(units[0]) is None


def test_a_finished_or_running_unit_is_not_given_out(units, url):
    queue, other = Queue(url, "study", 60, 0), Queue(url, "study", 60, 0)
    trial = queue.claim(units[0])
    assert other.claim(units[0]) is None
    trial.set_user_attr("cell", {"a": 1})
    queue.finish(trial, [0.9, 0.1])
    assert other.claim(units[0]) is None
    assert other.parts() == ({units[0].key: {"cell": {"a": 1}}}, {units[0].key})


def test_a_worker_that_died_leaves_its_unit_and_its_parts(units, url):
    queue, other = Queue(url, "study", 60, 0), Queue(url, "study", 60, 0)
    queue.claim(units[0]).set_user_attr("cell", {"a": 1})
    other.release_dead()
    assert other.claim(units[0]) is None
    die(queue)
    other.release_dead()
    assert other.claim(units[0]) is not None
    assert other.parts() == ({units[0].key: {"cell": {"a": 1}}}, set())


def test_a_failure_lets_go_at_once(units, url):
    queue = Queue(url, "study", 60, 0)
    trial = queue.claim(units[0])
    with pytest.raises(KeyboardInterrupt), queue.working(units[0], trial):
        raise KeyboardInterrupt
    assert queue.claim(units[0]) is not None


def test_signs_of_life_come_while_the_work_lasts(units, url):
    """One each second keeps a unit whose worker had been given up for dead otherwise."""
    queue = Queue(url, "study", 1, 0)
    trial = queue.claim(units[0])

    def last():
        with queue.storage.engine.begin() as connection:
            text = "SELECT heartbeat FROM trial_heartbeats"
            return connection.execute(sqlalchemy.text(text)).scalar_one()

    die(queue)
    before = last()
    with queue.working(units[0], trial):
        for _ in range(100):
            if last() != before:
                break
            time.sleep(0.1)
    assert last() != before


def test_what_a_worker_finds_after_it_was_given_up_is_left_out(units, url):
    queue, other = Queue(url, "study", 60, 0), Queue(url, "study", 60, 0)
    trial = queue.claim(units[0])
    die(queue)
    other.release_dead()
    with queue.working(units[0], trial):
        trial.set_user_attr("cell", {"a": 1})
        raise AssertionError("a part was added to a trial that is no more")
    assert other.claim(units[0]) is not None


def test_a_proposal_stays_when_its_worker_dies(units, url):
    """Also to a worker whose sampler would propose something else."""
    unit = units[-1]
    queue, other = Queue(url, "study", 60, 0), Queue(url, "study", 60, 1)
    proposed = queue.claim(unit).suggest_float("noise_weight", 0.1, 10.0)
    die(queue)
    other.release_dead()
    assert other.claim(unit).suggest_float("noise_weight", 0.1, 10.0) == proposed


def test_proposals_follow_from_the_seed_and_differ(units, tmp_path):
    def proposed(name, seed):
        queue = Queue(f"sqlite:///{tmp_path / name}.db", "study", 60, seed)
        found = []
        for unit in units[-2:]:
            trial = queue.claim(unit)
            found.append(trial.suggest_float("noise_weight", 0.1, 10.0))
            queue.finish(trial, [0.5, 0.5])
        return found

    first = proposed("a", 0)
    assert first == proposed("b", 0)
    assert first != proposed("c", 1)
    assert first[0] != first[1]


def test_optuna_itself_reads_the_values(units, url):
    queue = Queue(url, "study", 60, 0)
    for unit, values in zip(units[:2], ([0.9, 0.5], [0.8, 0.6]), strict=True):
        queue.finish(queue.claim(unit), values)
    study = optuna.load_study(study_name="study: network", storage=url)
    assert [trial.values for trial in study.best_trials] == [[0.9, 0.5]]
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


def test_an_unknown_database_is_one_line():
    with pytest.raises(ValueError, match=r"^storage: cannot open 'foo://x': [^\n]*$"):
        Queue("foo://x", "study", 60, 0)
