"""The queue of a study: its units are Optuna trials that several workers share.

The storage is a database: SQLite in the study's folder, or the database of a URL. Optuna gives each
trial to one worker. If a worker sends no heartbeat, Optuna marks its trials as failed. The result
of a unit is an attribute of its trial. A second Optuna study holds the proposals of its sampler.
"""

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from darts_noise.data.seeds import derive_seed
from darts_noise.errors import SettingError
from darts_noise.study.settings import NEEDS_OPTUNA, WEIGHT
from darts_noise.study.units import Unit

try:
    import optuna
    import sqlalchemy
    from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
    from optuna.storages import RDBStorage, fail_stale_trials
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError as error:
    raise ImportError(NEEDS_OPTUNA) from error

Record = dict[str, Any]
UNIT, FOUND, NUMBER, PROPOSED = "unit", "found", "number", "proposal"
"""Attributes of a trial."""
ACCURACIES = ("test_accuracy", "accuracy", "validation_accuracy")
"""Keys of the accuracy that is shown for a unit, in its record."""
JUDGED = ("validation_accuracy", "noise_accuracy")
"""The figures that judge a proposal: the sampler maximises the first and minimises the second."""
LOCK_TIMEOUT = 60
"""Seconds that a worker waits while others write to an SQLite file."""
UNREACHABLE = (sqlalchemy.exc.SQLAlchemyError, StorageInternalError)


class _LetGoError(Exception):
    """The end of a trial whose unit is not finished, so that it is released."""


class Queue:
    """A queue that gives units to workers and keeps their results.

    Args:
        url: URL of the database.
        name: name of the study.
        heartbeat: seconds between two heartbeats of a worker.
        seed: seed of the sampler of proposals.
    """

    def __init__(self, url: str, name: str, heartbeat: int, seed: int) -> None:
        self.seed = seed
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used with")
        try:
            self.storage = _open(url, heartbeat)
            begin = partial(optuna.create_study, storage=self.storage, load_if_exists=True)
            self.units = begin(study_name=f"{name}: units", direction="maximize")
            self.proposals = begin(
                study_name=f"{name}: proposals", directions=["maximize", "minimize"]
            )
        except (*UNREACHABLE, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise SettingError("storage", f"cannot open {url!r}: {reason}") from None

    @property
    def settings(self) -> dict[str, Any]:
        """The fixed settings of the study. Empty before the first result."""
        return dict(self.units.user_attrs.get("settings", {}))

    @settings.setter
    def settings(self, settings: Mapping[str, Any]) -> None:
        self.units.set_user_attr("settings", dict(settings))

    def release_dead(self) -> None:
        """Release the units of workers that have sent no heartbeat for two intervals."""
        fail_stale_trials(self.units)

    def found(self) -> dict[str, Record]:
        """Return the results of the finished units, by the keys of the units."""
        attributes = [trial.user_attrs for trial in self.units.get_trials(deepcopy=False)]
        return {found[UNIT]: found[FOUND] for found in attributes if FOUND in found}

    def work(self, unit: Unit, make: Callable[[], Record]) -> bool:
        """Do a unit, unless another worker has it or has finished it.

        Args:
            unit: the unit.
            make: does the unit and returns the result. If it raises an error, the unit is released.

        Returns:
            Whether this worker had the unit. The result is dropped if the unit was given to another
            worker in the meantime.
        """
        ours: list[int] = []
        failed: list[ValueError | RuntimeError] = []

        def objective(trial: Trial) -> float:
            # Two workers may have added a trial each; only the first one counts. Or the waiting
            # trial belongs to another unit, and the worker of that unit will add it again.
            first = self._first(unit)
            if first is None or first.number != trial.number:
                raise _LetGoError
            ours.append(trial.number)
            try:
                found = make()
            except (ValueError, RuntimeError) as error:  # RuntimeError: as with too little memory
                failed.append(error)
                raise _LetGoError from None
            trial.set_user_attr(FOUND, found)
            return accuracy_of(found) or 0.0

        while not ours:
            first = self._first(unit)
            if first is None:
                self.units.enqueue_trial({}, user_attrs={UNIT: unit.key})
            elif first.state != TrialState.WAITING:
                return False
            try:
                self.units.optimize(objective, n_trials=1, catch=(_LetGoError,))
            except (ValueError, UpdateFinishedTrialError):  # failed meanwhile
                if not ours or self.units.trials[ours[0]].state != TrialState.FAIL:
                    raise
        if failed:
            raise failed[0]
        return True

    def _first(self, unit: Unit) -> FrozenTrial | None:
        """Return the trial of a unit: the first one that has not failed, or None."""
        for trial in self.units.get_trials(deepcopy=False):
            if trial.user_attrs.get(UNIT) == unit.key and trial.state != TrialState.FAIL:
                return trial
        return None

    def restore(self, unit: str, found: Record) -> None:
        """Add a finished unit from a file."""
        trial = optuna.trial.create_trial(
            value=accuracy_of(found) or 0.0, user_attrs={UNIT: unit, FOUND: found}
        )
        self.units.add_trial(trial)

    def proposed(self) -> dict[int, dict[str, Any]]:
        """Return all proposals by their numbers."""
        attributes = [trial.user_attrs for trial in self.proposals.trials]
        return {found[NUMBER]: found[PROPOSED] for found in attributes if PROPOSED in found}

    def propose(self, number: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the proposal with this number: the values of `Sample.settings` by key."""
        if known := self.proposed().get(number):
            return known
        # A new sampler for each proposal, so that it depends only on its number and the results so
        # far.
        self.proposals.sampler = optuna.samplers.TPESampler(seed=derive_seed(self.seed, number))
        trial = self.proposals.ask()
        proposal = {key: _suggest(trial, key, values) for key, values in settings.items()}
        trial.set_user_attr(NUMBER, number)
        trial.set_user_attr(PROPOSED, proposal)
        return proposal

    def judge(self, proposals: list[Record]) -> None:
        """Report the figures of proposals to the sampler, and mark the Pareto-optimal proposals."""
        for trial in self.proposals.trials:
            for proposal in proposals:
                if trial.user_attrs.get(NUMBER) == proposal["number"]:
                    accuracy, noise = (proposal[key] for key in JUDGED)
                    # A training that diverged counts as the worst value.
                    values = [accuracy or 0.0, 1.0 if noise is None else noise]
                    self.proposals.tell(trial.number, values, skip_if_finished=True)
        best = {trial.user_attrs[NUMBER] for trial in self.proposals.best_trials}
        for proposal in proposals:
            is_whole = None not in (proposal[key] for key in JUDGED)
            proposal["best"] = is_whole and proposal["number"] in best


def accuracy_of(found: Record) -> float | None:
    """Return the accuracy that is shown for a unit, or None."""
    return next((found[key] for key in ACCURACIES if found.get(key) is not None), None)


def _suggest(trial: Trial, key: str, values: list[Any] | Mapping[str, Any]) -> Any:
    if not isinstance(values, Mapping):
        return trial.suggest_categorical(key, values)
    low, high, log = values["low"], values["high"], bool(values.get("log"))
    if isinstance(low, int) and isinstance(high, int) and key != WEIGHT:
        return trial.suggest_int(key, low, high, log=log)
    return trial.suggest_float(key, low, high, log=log)


class _Storage(RDBStorage):
    """A database whose short outages do not stop the heartbeats."""

    def record_heartbeat(self, trial_id: int) -> None:
        with suppress(*UNREACHABLE):
            super().record_heartbeat(trial_id)


def _open(url: str, heartbeat: int) -> RDBStorage:
    if not url.startswith("sqlite"):
        return _Storage(url, {"pool_pre_ping": True}, heartbeat_interval=heartbeat)
    connect = {"connect_args": {"timeout": LOCK_TIMEOUT}}
    storage = _Storage(url, connect, heartbeat_interval=heartbeat)
    # SQLite does not lock the rows that a transaction reads. Two workers that read a waiting trial
    # at the same time would both take it. So each transaction begins by taking the lock.
    sqlalchemy.event.listen(storage.engine, "connect", _leave_transactions_to_us)
    sqlalchemy.event.listen(storage.engine, "begin", _begin_with_lock)
    storage.engine.dispose()
    return storage


def _leave_transactions_to_us(connection: Any, record: Any) -> None:
    connection.isolation_level = None


def _begin_with_lock(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
