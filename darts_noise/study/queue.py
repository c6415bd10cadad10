"""The units of a study as Optuna trials, which several workers share.

The storage is a database: SQLite in the study's folder, or any that a URL names. Optuna gives each
trial to one worker and fails the trials of a worker that gives no sign of life. What was found is
an attribute of the trial. A second Optuna study holds the proposals, which its sampler makes.
"""

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from darts_noise.data.seeds import derive_seed
from darts_noise.errors import SettingError
from darts_noise.study.settings import WEIGHT
from darts_noise.study.units import Unit

try:
    import optuna
    import sqlalchemy
    from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
    from optuna.storages import RDBStorage, fail_stale_trials
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError as error:
    raise ImportError("a study needs Optuna: pip install 'optuna>=5,<6'") from error

Record = dict[str, Any]
UNIT, FOUND, NUMBER, PROPOSED = "unit", "found", "number", "proposal"
"""Attributes of a trial."""
ACCURACIES = ("test_accuracy", "accuracy", "validation_accuracy")
"""What a unit is told by, in a record."""
JUDGED = ("validation_accuracy", "noise_accuracy")
"""Of a proposal: what the sampler is told, the first to rise and the second to fall."""
LOCK_TIMEOUT = 60
"""Seconds that a worker waits while others write to an SQLite file."""
UNREACHABLE = (sqlalchemy.exc.SQLAlchemyError, StorageInternalError)


class _LetGoError(Exception):
    """Ends a trial whose unit is still to be made."""


class Queue:
    """Hands out units and keeps what came of them.

    Args:
        url: of the database.
        name: of the study.
        heartbeat: seconds between a worker's signs of life.
        seed: of the sampler of proposals.
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
        """What the study was begun with; empty before."""
        return dict(self.units.user_attrs.get("settings", {}))

    @settings.setter
    def settings(self, settings: Mapping[str, Any]) -> None:
        self.units.set_user_attr("settings", dict(settings))

    def release_dead(self) -> None:
        """Let go of the units of workers that have given no sign of life for two heartbeats."""
        fail_stale_trials(self.units)

    def found(self) -> dict[str, Record]:
        """Return what was found, by the keys of the units that are finished."""
        attributes = [trial.user_attrs for trial in self.units.get_trials(deepcopy=False)]
        return {found[UNIT]: found[FOUND] for found in attributes if FOUND in found}

    def work(self, unit: Unit, make: Callable[[], Record]) -> bool:
        """Make a unit, unless another worker has it or had it.

        Args:
            unit: that may be free.
            make: returns what is found. Whatever it raises lets go of the unit.

        Returns:
            Whether it was this worker's. What `make` finds after the unit was given to another
            worker is left out.
        """
        ours: list[int] = []
        failed: list[ValueError] = []

        def objective(trial: Trial) -> float:
            # Two workers may have added a trial each, of which the first is the unit's. Or the one
            # that waited is of another unit, and its worker will add it again.
            first = self._first(unit)
            if first is None or first.number != trial.number:
                raise _LetGoError
            ours.append(trial.number)
            try:
                found = make()
            except ValueError as error:
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
            except (ValueError, UpdateFinishedTrialError):  # the trial was failed meanwhile
                if not ours or self.units.trials[ours[0]].state != TrialState.FAIL:
                    raise
        if failed:
            raise failed[0]
        return True

    def _first(self, unit: Unit) -> FrozenTrial | None:
        """Return the trial that is the unit's: the first that nobody has let go of."""
        for trial in self.units.get_trials(deepcopy=False):
            if trial.user_attrs.get(UNIT) == unit.key and trial.state != TrialState.FAIL:
                return trial
        return None

    def restore(self, unit: str, found: Record) -> None:
        """Take in what was found elsewhere."""
        trial = optuna.trial.create_trial(
            value=accuracy_of(found) or 0.0, user_attrs={UNIT: unit, FOUND: found}
        )
        self.units.add_trial(trial)

    def proposed(self) -> dict[int, dict[str, Any]]:
        """Return all proposals by their numbers."""
        attributes = [trial.user_attrs for trial in self.proposals.trials]
        return {found[NUMBER]: found[PROPOSED] for found in attributes if PROPOSED in found}

    def propose(self, number: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the proposal of a number by key, the same each time; `Sample` has the settings."""
        if known := self.proposed().get(number):
            return known
        # One sampler for each, so that a proposal follows from what is on file and its number.
        self.proposals.sampler = optuna.samplers.TPESampler(seed=derive_seed(self.seed, number))
        trial = self.proposals.ask()
        proposal = {key: _suggest(trial, key, values) for key, values in settings.items()}
        trial.set_user_attr(NUMBER, number)
        trial.set_user_attr(PROPOSED, proposal)
        return proposal

    def judge(self, proposals: list[Record]) -> None:
        """Tell the sampler what came of its proposals, and mark those that no other one beats."""
        for trial in self.proposals.trials:
            for proposal in proposals:
                if trial.user_attrs.get(NUMBER) == proposal["number"]:
                    accuracy, noise = (proposal[key] for key in JUDGED)
                    # A training that diverged has the worst there is.
                    values = [accuracy or 0.0, 1.0 if noise is None else noise]
                    self.proposals.tell(trial.number, values, skip_if_finished=True)
        best = {trial.user_attrs[NUMBER] for trial in self.proposals.best_trials}
        for proposal in proposals:
            is_whole = None not in (proposal[key] for key in JUDGED)
            proposal["best"] = is_whole and proposal["number"] in best


def accuracy_of(found: Record) -> float | None:
    """Return the accuracy that a unit is told by, where it has one."""
    return next((found[key] for key in ACCURACIES if found.get(key) is not None), None)


def _suggest(trial: Trial, key: str, values: list[Any] | Mapping[str, Any]) -> Any:
    if not isinstance(values, Mapping):
        return trial.suggest_categorical(key, values)
    low, high, log = values["low"], values["high"], bool(values.get("log"))
    if isinstance(low, int) and isinstance(high, int) and key != WEIGHT:
        return trial.suggest_int(key, low, high, log=log)
    return trial.suggest_float(key, low, high, log=log)


class _Storage(RDBStorage):
    """A database that may be out of reach for a moment, which ends no signs of life."""

    def record_heartbeat(self, trial_id: int) -> None:
        with suppress(*UNREACHABLE):
            super().record_heartbeat(trial_id)


def _open(url: str, heartbeat: int) -> RDBStorage:
    if not url.startswith("sqlite"):
        return _Storage(url, {"pool_pre_ping": True}, heartbeat_interval=heartbeat)
    connect = {"connect_args": {"timeout": LOCK_TIMEOUT}}
    storage = _Storage(url, connect, heartbeat_interval=heartbeat)
    # SQLite does not lock what a transaction reads, and so two workers that read at the same time
    # that a trial waits would both take it. A transaction that begins with the lock excludes it.
    sqlalchemy.event.listen(storage.engine, "connect", _leave_transactions_to_us)
    sqlalchemy.event.listen(storage.engine, "begin", _begin_with_lock)
    storage.engine.dispose()
    return storage


def _leave_transactions_to_us(connection: Any, record: Any) -> None:
    connection.isolation_level = None


def _begin_with_lock(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
