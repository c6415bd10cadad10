"""The units of a study as Optuna trials, which several workers share.

The storage is a database: SQLite in the study's folder, or any that a URL names. Optuna gives each
trial to one worker and fails the trials of a worker that gives no sign of life. The finished parts
of a unit are attributes of its trial, so the next worker goes on from them, on any machine.

There is an Optuna study for each kind of unit. ``network`` has two values (test accuracy up, noise
accuracy down), ``sample`` too (validation accuracy up, noise accuracy down), ``noise`` has one.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

try:
    import optuna
    import sqlalchemy
except ImportError as error:
    raise ImportError("a study needs Optuna: pip install 'darts_noise[study]'") from error
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from darts_noise.data.seeds import derive_seed
from darts_noise.errors import SettingError
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
UNREACHABLE = (sqlalchemy.exc.SQLAlchemyError, StorageInternalError)


class _LetGoError(Exception):
    """Lets go of a trial."""


class Queue:
    """Hands out units and keeps what came of them.

    Args:
        url: of the database.
        name: of the study.
        heartbeat: seconds between a worker's signs of life.
        seed: of the sampler of proposals.

    Raises:
        SettingError: a database that cannot be opened.
    """

    def __init__(self, url: str, name: str, heartbeat: int, seed: int) -> None:
        self.seed = seed
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=ExperimentalWarning)
        try:
            storage = _open(url, heartbeat)
            self.studies = {
                kind: optuna.create_study(
                    storage=storage,
                    study_name=f"{name}: {kind}",
                    directions=directions,
                    load_if_exists=True,
                )
                for kind, directions in DIRECTIONS.items()
            }
        except (*UNREACHABLE, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise SettingError("storage", f"cannot open {url!r}: {reason}") from None

    @property
    def settings(self) -> dict[str, Any]:
        """What the study was begun with; empty before."""
        return dict(self.studies["network"].user_attrs.get("settings", {}))

    @settings.setter
    def settings(self, settings: dict[str, Any]) -> None:
        self.studies["network"].set_user_attr("settings", settings)

    def release_dead(self) -> None:
        """Let go of the units of workers that have given no sign of life for two heartbeats."""
        for study in self.studies.values():
            fail_stale_trials(study)

    def parts(self) -> tuple[dict[str, Parts], set[str]]:
        """Return the finished parts of every unit by its key, and the keys of finished units."""
        parts: dict[str, Parts] = {}
        finished = set()
        for study in self.studies.values():
            for trial in study.get_trials(deepcopy=False):
                attributes = dict(trial.user_attrs)
                if key := attributes.pop(UNIT, None):
                    parts.setdefault(key, {}).update(attributes)
                    if trial.state == TrialState.COMPLETE:
                        finished.add(key)
        return parts, finished

    def best_proposals(self) -> set[str]:
        """Return the keys of the proposals that no other one beats."""
        return {trial.user_attrs[UNIT] for trial in self.studies["sample"].best_trials}

    def work(self, unit: Unit, make: Callable[[Trial], Sequence[float]]) -> bool:
        """Make a unit, unless another worker has it or had it.

        Args:
            unit: that may be free.
            make: keeps the unit's parts as attributes of the trial and returns its values, in the
                order of `DIRECTIONS`. Whatever it raises lets go of the unit.

        Returns:
            Whether it was this worker's. What it found after the unit was given to another worker
            is left out.

        Raises:
            ValueError: of `make`.
        """
        study = self.studies[unit.kind]
        # One sampler for each, so that a proposal follows from what is on file and its number.
        study.sampler = TPESampler(seed=derive_seed(self.seed, unit.seed))
        ours: list[int] = []
        failed: list[ValueError] = []

        def objective(trial: Trial) -> Sequence[float]:
            # Two workers may have added a trial each, of which the first is the unit's. Or the one
            # that waited is of another unit, and its worker will add it again.
            first = self._first(unit)
            if trial.user_attrs.get(UNIT) != unit.key or not first or first.number < trial.number:
                raise _LetGoError
            ours.append(trial.number)
            try:
                return make(trial)
            except ValueError as error:
                failed.append(error)
                raise _LetGoError from None

        while not ours:
            first = self._first(unit)
            if first is not None and first.state != TrialState.WAITING:
                return False
            if first is None:
                # What was proposed to a worker that died stays proposed.
                proposed = next((t.params for t in self._trials(unit) if t.params), {})
                study.enqueue_trial(proposed, user_attrs={UNIT: unit.key})
            try:
                study.optimize(objective, n_trials=1, catch=(_LetGoError,))
            except (ValueError, UpdateFinishedTrialError):  # the trial was failed meanwhile
                if not ours or study.trials[ours[0]].state != TrialState.FAIL:
                    raise
        if failed:
            raise failed[0]
        return True

    def restore(self, unit: Unit, parts: Parts, values: Sequence[float] | None) -> None:
        """Take in parts that were made elsewhere; with values, the unit is finished."""
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        attributes = {UNIT: unit.key, **parts}
        self.studies[unit.kind].add_trial(
            optuna.trial.create_trial(state=state, values=values, user_attrs=attributes)
        )

    def _trials(self, unit: Unit) -> list[FrozenTrial]:
        trials = self.studies[unit.kind].get_trials(deepcopy=False)
        return [trial for trial in trials if trial.user_attrs.get(UNIT) == unit.key]

    def _first(self, unit: Unit) -> FrozenTrial | None:
        """Return the trial that is the unit's: the first that nobody has let go of."""
        alive = [trial for trial in self._trials(unit) if trial.state != TrialState.FAIL]
        return min(alive, key=lambda trial: trial.number, default=None)


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
