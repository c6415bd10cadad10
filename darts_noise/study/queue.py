"""The units of a study as Optuna trials, which several workers share.

The storage is a database, SQLite in the study's folder or any that a URL names. A trial is claimed
in one transaction, so two workers never have the same. Finished parts of a unit are attributes of
its trial: whoever takes up the unit of a worker that died finds them, on any machine.

There is an Optuna study for each kind of unit. That of ``network`` has two values (test accuracy
up, noise accuracy down), that of ``sample`` too (validation accuracy up, noise accuracy down), and
that of further ``noise`` measurements has one.
"""

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from darts_noise.data.seeds import derive_seed
from darts_noise.study.units import Kind, Unit

Parts = dict[str, Any]
Direction = Literal["maximize", "minimize"]

UNIT = "unit"
"""The attribute of a trial that says which unit it is."""
DIRECTIONS: Mapping[Kind, list[Direction]] = {
    "network": ["maximize", "minimize"],
    "noise": ["minimize"],
    "sample": ["maximize", "minimize"],
}
LOCK_TIMEOUT = 60
"""Seconds that a worker waits while others write to an SQLite file."""


class Queue:
    """Hands out units and keeps what came of them.

    Args:
        url: of the database.
        name: of the study.
        heartbeat: seconds between a worker's signs of life.
        seed: of the sampler of proposals.

    Raises:
        ValueError: a database that cannot be opened.
    """

    def __init__(self, url: str, name: str, heartbeat: int, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=ExperimentalWarning)
        self.heartbeat, self.seed = heartbeat, seed
        try:
            self.storage = _open(url, heartbeat)
            self.studies = {
                kind: optuna.create_study(
                    storage=self.storage,
                    study_name=f"{name}: {kind}",
                    directions=directions,
                    load_if_exists=True,
                )
                for kind, directions in DIRECTIONS.items()
            }
        except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"storage: cannot open {url!r}: {reason}") from None

    @property
    def settings(self) -> dict[str, Any]:
        """What the study was begun with; empty before."""
        return dict(self.studies["network"].user_attrs.get("settings", {}))

    @settings.setter
    def settings(self, settings: dict[str, Any]) -> None:
        self.studies["network"].set_user_attr("settings", settings)

    def release_dead(self) -> None:
        """Lets go of the units of workers that have given no sign of life for two heartbeats."""
        for study in self.studies.values():
            fail_stale_trials(study)

    def parts(self) -> tuple[dict[str, Parts], set[str]]:
        """The finished parts of every unit by its key, and the keys of the finished units."""
        parts: dict[str, Parts] = {}
        finished = set()
        for study in self.studies.values():
            for trial in study.get_trials(deepcopy=False):
                attributes = dict(trial.user_attrs)
                key = attributes.pop(UNIT)
                parts.setdefault(key, {}).update(attributes)
                if trial.state == TrialState.COMPLETE:
                    finished.add(key)
        return parts, finished

    def claim(self, unit: Unit) -> Trial | None:
        """The trial of a unit, for this worker alone; None where another has it or had it."""
        study = self.studies[unit.kind]
        trials = self._trials(unit)
        if not _alive(trials):
            # What was proposed to a worker that died stays proposed.
            proposed = next((trial.params for trial in trials if trial.params), {})
            study.enqueue_trial(proposed, user_attrs={UNIT: unit.key})
        # Where two workers have added one each at the same time, both see the first as the unit's.
        first = min(_alive(self._trials(unit)), key=lambda trial: trial.number)
        if first.state != TrialState.WAITING:
            return None
        try:
            if not self.storage.set_trial_state_values(first._trial_id, TrialState.RUNNING):
                return None
        except UpdateFinishedTrialError:  # claimed and ended by another since it was read
            return None
        self.storage.record_heartbeat(first._trial_id)
        # One sampler for each, so that a proposal follows from what is on file and its number.
        study.sampler = TPESampler(seed=derive_seed(self.seed, unit.seed))
        return Trial(study, first._trial_id)

    def restore(self, unit: Unit, parts: Parts, values: Sequence[float] | None) -> None:
        """Takes in parts that were made elsewhere; with values, the unit is finished."""
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        attributes = {UNIT: unit.key, **parts}
        self.studies[unit.kind].add_trial(
            optuna.trial.create_trial(state=state, values=values, user_attrs=attributes)
        )

    def _trials(self, unit: Unit) -> list[FrozenTrial]:
        trials = self.studies[unit.kind].get_trials(deepcopy=False)
        return [trial for trial in trials if trial.user_attrs[UNIT] == unit.key]

    @contextmanager
    def working(self, unit: Unit, trial: Trial) -> Iterator[None]:
        """Gives signs of life while the block lasts; one that fails lets go of the unit.

        Where the unit has been given to another worker meanwhile, what the block found is left out.
        """
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(self.heartbeat):
                # A database that is out of reach for a moment must not end the signs of life.
                with suppress(sqlalchemy.exc.SQLAlchemyError, StorageInternalError):
                    self.storage.record_heartbeat(trial._trial_id)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        except UpdateFinishedTrialError:
            pass
        except BaseException:
            with suppress(UpdateFinishedTrialError):
                self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            raise
        finally:
            stop.set()
            thread.join()

    def finish(self, trial: Trial, values: Sequence[float]) -> None:
        """Marks a unit as finished, with its values in the order of `DIRECTIONS`."""
        self.storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, list(values))


def _alive(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state != TrialState.FAIL]


def _open(url: str, heartbeat: int) -> RDBStorage:
    if not url.startswith("sqlite"):
        return RDBStorage(url, heartbeat_interval=heartbeat)
    storage = RDBStorage(
        url,
        engine_kwargs={"connect_args": {"timeout": LOCK_TIMEOUT}},
        heartbeat_interval=heartbeat,
    )
    # SQLite does not lock what a transaction reads, and so two workers that read at the same time
    # that a trial is free would both take it. A transaction that begins with the lock excludes it.
    sqlalchemy.event.listen(storage.engine, "connect", _leave_transactions_to_us)
    sqlalchemy.event.listen(storage.engine, "begin", _begin_with_lock)
    storage.engine.dispose()
    return storage


def _leave_transactions_to_us(connection: Any, record: Any) -> None:
    connection.isolation_level = None


def _begin_with_lock(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
