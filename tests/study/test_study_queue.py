"""Units are done once, by whatever worker, and units of dead workers are done again."""

import time
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
import sqlalchemy
from studies import small

from darts_noise.study.queue import Queue
from darts_noise.study.units import units_of

SETTINGS = {"noise_weight": {"low": 0.1, "high": 10.0, "log": True}, "train.model.channels": [4, 8]}
FOUND = {"test_accuracy": 0.5, "cell": [1, 2]}


@pytest.fixture
def units():
    return units_of(small(seeds=2, controls={}))


@pytest.fixture
def queue(tmp_path):
    return lambda heartbeat=60, seed=0: Queue(
        f"sqlite:///{tmp_path / 'study.db'}", "study", heartbeat, seed
    )


class Killed(BaseException):
    """Nothing in a worker answers this, as nothing answers SIGKILL."""


def killed():
    raise Killed


def let_time_pass(queue):
    """As if nobody had given a sign of life for an hour, after the first."""
    text = "UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')"
    for _ in range(1000):
        with queue.storage.engine.begin() as connection:
            if connection.execute(sqlalchemy.text(text)).rowcount:
                return
        time.sleep(0.01)
    pytest.fail("no sign of life")


def test_workers_that_ask_at_the_same_time_never_make_the_same_unit(units, queue):
    made = []

    def work(_):
        own = queue()
        while len(own.found()) < len(units):
            for unit in units:
                own.work(unit, lambda unit=unit: made.append(unit.key) or {**FOUND, "n": unit.key})

    queue()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert sorted(made) == sorted(unit.key for unit in units)
    assert queue().found() == {unit.key: {**FOUND, "n": unit.key} for unit in units}


def test_a_running_or_finished_unit_is_not_given_out(units, queue):
    first, other = queue(), queue()

    def make():
        assert not other.work(units[0], lambda: pytest.fail("made twice"))
        return FOUND

    assert first.work(units[0], make)
    assert not other.work(units[0], lambda: pytest.fail("made twice"))
    assert other.found() == {units[0].key: FOUND}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_fails_lets_go_at_once(error, units, queue):
    def fail():
        raise error("this")

    with pytest.raises(error, match="this"):
        queue().work(units[0], fail)
    assert queue().found() == {}
    assert queue().work(units[0], lambda: FOUND)


def test_a_worker_that_died_lets_go_after_two_heartbeats(units, queue):
    first, other = queue(), queue()
    with pytest.raises(Killed):
        first.work(units[0], killed)
    other.release_dead()
    assert not other.work(units[0], lambda: FOUND)
    let_time_pass(first)
    other.release_dead()
    assert other.work(units[0], lambda: FOUND)


def test_what_died_before_it_took_a_unit_keeps_none_from_the_others(units, queue):
    """Neither this one's trial that waits nor another's."""
    queue().units.enqueue_trial({}, user_attrs={"unit": units[1].key})
    queue().units.enqueue_trial({}, user_attrs={"unit": "of a worker with more units"})
    for unit in units[:2]:
        assert queue().work(unit, lambda: FOUND)
    assert set(queue().found()) == {unit.key for unit in units[:2]}


def test_what_a_worker_finds_after_it_was_given_up_is_left_out(units, queue):
    first, other = queue(), queue()

    def slow():
        let_time_pass(first)
        other.release_dead()
        assert other.work(units[0], lambda: FOUND)
        return {"test_accuracy": 0.9}

    assert first.work(units[0], slow)
    assert other.found() == {units[0].key: FOUND}


def test_signs_of_life_come_while_the_work_lasts(units, queue):
    """One each second keeps a unit whose worker would be given up for dead otherwise."""
    first = queue(heartbeat=1)

    def slow():
        before = last()
        for _ in range(100):
            if last() != before:
                return FOUND
            time.sleep(0.1)
        pytest.fail("no sign of life")

    def last():
        with first.storage.engine.begin() as connection:
            text = "SELECT heartbeat FROM trial_heartbeats"
            return connection.execute(sqlalchemy.text(text)).scalar()

    assert first.work(units[0], slow)


def test_a_database_out_of_reach_ends_no_signs_of_life(queue, monkeypatch):
    def lost(self, trial_id):
        raise sqlalchemy.exc.OperationalError("", {}, Exception("lost"))

    monkeypatch.setattr(optuna.storages.RDBStorage, "record_heartbeat", lost)
    queue().storage.record_heartbeat(0)


def test_what_was_found_elsewhere_is_taken_in(units, queue):
    queue().restore(units[0].key, FOUND)
    assert queue().found() == {units[0].key: FOUND}
    assert not queue().work(units[0], lambda: pytest.fail("made again"))


def test_a_proposal_stays_the_same_for_every_worker(queue):
    """Also for one whose sampler would propose something else."""
    proposal = queue(seed=0).propose(3, SETTINGS)
    assert queue(seed=1).propose(3, SETTINGS) == proposal
    assert queue().proposed() == {3: proposal}


def test_proposals_follow_from_the_seed_and_differ(tmp_path):
    def proposed(name, seed):
        queue = Queue(f"sqlite:///{tmp_path / name}.db", "study", 60, seed)
        found = []
        for number in range(3):
            found.append(queue.propose(number, SETTINGS))
            figures = {"validation_accuracy": 0.5, "noise_accuracy": 0.5}
            queue.judge([{"number": number, **figures}])
        return found

    first = proposed("a", 0)
    assert first == proposed("b", 0)
    assert first != proposed("c", 1)
    assert len({proposal["noise_weight"] for proposal in first}) == 3
    assert all(0.1 <= proposal["noise_weight"] <= 10 for proposal in first)
    assert {proposal["train.model.channels"] for proposal in first} <= {4, 8}


def test_the_best_proposals_are_those_that_no_other_beats(queue):
    measured = [(0.9, 0.5), (0.8, 0.3), (0.85, 0.5), (None, 0.1), (0.9, 0.5)]
    own = queue()
    for number in range(len(measured)):
        own.propose(number, SETTINGS)
    keys = ("validation_accuracy", "noise_accuracy")
    proposals = [
        {"number": number, **dict(zip(keys, figures, strict=True))}
        for number, figures in enumerate(measured)
    ]
    for _ in range(2):
        queue().judge(proposals)
        assert [proposal["best"] for proposal in proposals] == [True, True, False, False, True]


def test_an_unknown_database_is_one_line():
    with pytest.raises(ValueError, match=r"^storage: cannot open 'foo://x': [^\n]*$"):
        Queue("foo://x", "study", 60, 0)
