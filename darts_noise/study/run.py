"""A study from its settings to its table: `study`, which any number of workers may run at once."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from optuna.trial import Trial
from rich.console import Console

from darts_noise.data.module import ImageDataModule
from darts_noise.errors import SettingError
from darts_noise.noise.datasets import root_of_others
from darts_noise.noise.families import describe_noise, make_noise, require_noise
from darts_noise.report.duration import readable_duration
from darts_noise.runs.folder import write_config
from darts_noise.runs.run import Interrupted, plain, quiet_lightning
from darts_noise.search.module import SearchModule
from darts_noise.space.published import load_genotype
from darts_noise.study.kept import fixed_settings, require_same, written_parts, written_settings
from darts_noise.study.queue import UNREACHABLE, Parts, Queue
from darts_noise.study.results import StudyResult, write_results
from darts_noise.study.settings import DECIDED, WEIGHT, StudyConfig
from darts_noise.study.units import Compared, Part, Unit, searched, units_of
from darts_noise.study.work import Worker

Maker = Callable[[Part, Parts | None, Parts | None], Parts]

POLL = 5.0
"""Seconds between two looks for a unit that is ready, while other workers have the rest."""


def study(
    config: StudyConfig,
    *,
    runs: str | Path = "runs",
    command: str = "dn.study",
    console: Console | None = None,
) -> StudyResult:
    """Search, train and measure all that a study compares, and leave it in ``runs/study/<name>``.

    Begun again, it goes on; begun several times at once, the workers share its units.

    Args:
        config: what is compared, and how.
        runs: folder that holds all runs.
        command: by which the results say that they were made.
        console: where progress is shown; None for standard output.

    Raises:
        SettingError: a setting that cannot be, or that is not as the study was begun with; its key
            says which.
        ValueError: data that cannot be used, or units that could not be made.
        Interrupted: a signal; the same call goes on.

    >>> import darts_noise as dn
    >>> found = dn.study(dn.StudyConfig(noise_weights=[0, 1], seeds=2))  # doctest: +SKIP
    """
    with quiet_lightning():
        begun = Study(config, runs, command, console)
        check_data(config)
        stops: list[int] = []
        try:
            with _sigterm_like_ctrl_c() as stops:
                begun.run()
                return begun.write()
        except KeyboardInterrupt:
            raise Interrupted(begun.folder, 143 if stops else 130) from None
        except UNREACHABLE as error:
            raise SettingError("storage", f"{error}; the same command goes on") from None


def tabulate(
    config: StudyConfig, *, runs: str | Path = "runs", command: str = "dn.study"
) -> StudyResult:
    """Write table, plot and results of a study from what is there; see `study`."""
    return Study(config, runs, command).write()


def check_names(config: StudyConfig) -> None:
    """Raise the error of the first noise family or cell that does not exist."""
    for key, families in (
        ("noise_family", [config.noise_family]),
        ("unseen_families", config.unseen_families),
    ):
        for family in families:
            try:
                require_noise(family)
            except SettingError as error:
                raise SettingError(key, error.problem) from None
    names = [describe_noise(family) for family in config.families]
    if len(set(names)) < len(names):
        raise SettingError(
            "unseen_families",
            f"expected distinct ones other than {names[0]}, got {', '.join(names[1:])}",
        )
    for name, cells in config.cells.items():
        for source in [cells] if isinstance(cells, str) else cells:
            try:
                load_genotype(source)
            except ValueError as error:
                raise SettingError(f"cells.{name}", error) from None


def check_data(config: StudyConfig) -> None:
    """Raise the error of data that cannot be read or are too few, and of noise that cannot be made
    of them, before the first unit needs them."""
    setup = config.search
    weight = max(config.noise_weights, default=1.0)
    with _told("search", "noise_family"):
        data = ImageDataModule(setup.data)
        searched = replace(setup.model, noise_weight=weight, noise_family=config.noise_family)
        module = SearchModule(searched)
        data.setup()
        module.build(data)
        data.train_stream()
    with _told("train"):
        data = ImageDataModule(config.train.data)
        data.setup()
        data.train_stream()
    root = root_of_others(data.name, data.config.root)
    for family in config.unseen_families:
        with _told("converged", "unseen_families"):
            make_noise(family, config.converged.samples, data.train, 0, root)


@contextmanager
def _told(group: str, family: str = "noise_family") -> Iterator[None]:
    """Within it an error says of which key of the study it is.

    Args:
        group: before the key.
        family: the key where a noise family is wrong.
    """
    try:
        yield
    except SettingError as error:
        if error.key in ("family", "model.noise_family"):
            raise SettingError(family, error.problem) from None
        raise error.within(group) from None
    except ValueError as error:
        raise ValueError(f"{group}: {error}") from None


@contextmanager
def _sigterm_like_ctrl_c() -> Iterator[list[int]]:
    """Within it a SIGTERM does what a Ctrl-C does, and is added to the list."""
    seen: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # which alone may ask for them
        yield seen
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGTERM, before)


class Study:
    """A study in its folder, and one of its workers.

    Args:
        config: what is compared, and how.
        runs: folder that holds all runs; the study's is ``study/<name>`` below it.
        command: by which it was started.
        console: where progress is shown; None for standard output.

    Raises:
        SettingError: the folder holds a study with other settings.
        ValueError: the study goes on from results and records, one of which is none.
    """

    def __init__(
        self,
        config: StudyConfig,
        runs: str | Path,
        command: str,
        console: Console | None = None,
    ) -> None:
        check_names(config)
        self.config, self.command = config, command
        self.name = config.name or config.train.data.name
        self.folder = Path(runs).resolve() / "study" / self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.units = units_of(config)
        self.console = console or Console(soft_wrap=True, highlight=False, markup=False)
        url = config.storage or f"sqlite:///{self.folder / 'study.db'}"
        self.queue = Queue(url, self.name, config.heartbeat, config.sample.seed)
        self.fixed = fixed_settings(config)
        self.failed: dict[str, str] = {}
        of_queue = self.queue.settings
        before = of_queue or written_settings(self.folder)
        require_same(self.name, before, self.fixed)
        if before:
            self._take_in_records()
        if before and not of_queue:
            self.queue.settings = before
        stated = plain(config)
        for key in DECIDED:
            setup, group, field = key.split(".")
            del stated[setup][group][field]
        write_config(self.folder, {**stated, "name": self.name})

    def _take_in_records(self) -> None:
        """What the records have and the storage has not: another's, or of a start that knew more
        networks or families than those since."""
        parts, _ = self.queue.parts()
        for unit, found in written_parts(self.folder, self.units):
            if found.keys() - parts.get(unit.key, {}).keys():
                whole = all(part in found for part in unit.parts)
                self.queue.restore(unit, found, _values(found) if whole else None)

    def run(self) -> None:
        """Work until every unit is finished, here or by other workers.

        Raises:
            ValueError: some units could not be made; all that did not need them are finished.
        """
        torch.set_num_threads(self.config.threads)
        waiting = False
        while True:
            self.queue.release_dead()
            require_same(self.name, self.queue.settings, self.fixed)
            parts, finished = self.queue.parts()
            left = [unit for unit in self.units if unit.key not in finished]
            possible = _possible(left, self.failed)
            if not possible:
                break
            ready = [u for u in possible if u.needs is None or "cell" in parts.get(u.needs, {})]
            if any(self._work_on(unit, len(self.units) - len(left)) for unit in ready):
                waiting = False
                continue
            if not waiting:
                self.console.print(f"waiting for other workers: {len(possible)} units left")
            waiting = True
            time.sleep(POLL)
        if left:
            self.write()
            reasons = "; ".join(f"{key}: {reason}" for key, reason in self.failed.items())
            raise ValueError(f"{len(left)} of {len(self.units)} units are not made: {reasons}")

    def write(self) -> StudyResult:
        """Write the table, the plot and the files of the records from the storage."""
        parts, _ = self.queue.parts()
        return write_results(
            self.folder,
            self.name,
            self.config,
            self.command,
            self.units,
            parts,
            self.queue.best_proposals(),
            self.queue.settings,
        )

    def _work_on(self, unit: Unit, done: int) -> bool:
        """Make a unit; False where another worker has it."""
        try:
            return self.queue.work(unit, lambda trial: self._make(unit, trial, done))
        except ValueError as error:
            self.failed[unit.key] = str(error)
            self.console.print(f"failed: {error}")
            return True

    def _make(self, unit: Unit, trial: Trial, done: int) -> list[float]:
        """Make the parts of a unit that are not there yet; its values."""
        parts, _ = self.queue.parts()
        found = dict(parts.get(unit.key, {}))
        origin = parts.get(unit.needs or "", {}).get("cell")
        if unit.kind == "sample":
            make = self._propose(unit, trial)
        else:
            make = self._maker(unit, self.config, unit.network, unit.seed)
        for part in unit.parts:
            if part not in found:
                place = f"[{done + 1}/{len(self.units)}] {time.strftime('%H:%M')}"
                self.console.print(f"{place} {unit.describe(part)} ... ", end="")
                started = time.perf_counter()
                found[part] = make(part, found.get("cell"), origin)
                taken = readable_duration(time.perf_counter() - started)
                self.console.print(f"{_shown(part, found[part])}{taken}")
            # From the first part on the settings are fixed; one that was wrong can be put right.
            self.queue.settings = {**self.queue.settings, **self.fixed}
            # Also those that a worker before this one had finished: they are the trial's own now.
            trial.set_user_attr(part, found[part])
            self.write()
        return _values(found)

    def _propose(self, unit: Unit, trial: Trial) -> Maker:
        """Return what makes the parts of a search whose settings the sampler proposes."""
        sample = self.config.sample
        proposal = {key: _suggest(trial, key, values) for key, values in sample.settings.items()}
        trial.set_user_attr("proposal", proposal)
        self.console.print(", ".join(f"{key} = {value}" for key, value in proposal.items()))
        config = self.config.proposed(proposal)
        network = searched(config.noise_weights[0], seeds=1)
        return self._maker(unit, config, network, sample.seed)

    def _maker(self, unit: Unit, config: StudyConfig, network: Compared, seed: int) -> Maker:
        """(part, the unit's own cell, the cell that it needs) → what is found."""
        worker = Worker(config, self.folder / "noise_runs")

        def make(part: Part, own: Parts | None, origin: Parts | None) -> Parts:
            if part == "cell":
                return worker.cell(network, seed, origin)
            if part == "noise":
                cell = origin if unit.kind == "noise" else own
                file = unit.key.replace("/", "-")
                return worker.noise(network, seed, cell, unit.family, unit.protocol, file)
            return (worker.test if part == "test" else worker.validation)(network, seed, own)

        return make


def _suggest(trial: Trial, key: str, values: list[Any] | Mapping[str, Any]) -> Any:
    """Return a value of a proposal; the same each time that it is asked for."""
    if not isinstance(values, Mapping):
        return trial.suggest_categorical(key, values)
    low, high, log = values["low"], values["high"], bool(values.get("log"))
    if isinstance(low, int) and isinstance(high, int) and key != WEIGHT:
        return trial.suggest_int(key, low, high, log=log)
    return trial.suggest_float(key, low, high, log=log)


def _possible(left: list[Unit], failed: Mapping[str, str]) -> list[Unit]:
    """Return those units that have not failed and need none that has."""
    impossible = set(failed)
    for unit in left:  # what a unit needs comes before it
        if unit.needs in impossible:
            impossible.add(unit.key)
    return [unit for unit in left if unit.key not in impossible]


def _shown(part: Part, found: Parts) -> str:
    key = {"test": "test_accuracy", "noise": "accuracy"}.get(part, "validation_accuracy")
    value = found.get(key)
    return "" if value is None else f"{100 * value:.2f} % in "


def _values(found: Parts) -> list[float]:
    """Return the objectives of a unit; where a training diverged, the worst that there is."""
    noise = found["noise"]["accuracy_largest"]
    values = [1.0 if noise is None else noise]
    for part, key in (("test", "test_accuracy"), ("validation", "validation_accuracy")):
        if part in found:
            values.insert(0, 0.0 if found[part]["diverged"] else found[part][key])
    return values
