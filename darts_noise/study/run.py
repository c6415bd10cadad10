"""Run a study from its settings to its table. Several workers may run the same study at once."""

import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from darts_noise.configured import require_kinds
from darts_noise.data.module import ImageDataModule
from darts_noise.errors import SettingError, about, within
from darts_noise.noise.datasets import root_of_others
from darts_noise.noise.families import make_noise
from darts_noise.runs.folder import write_config
from darts_noise.runs.run import Interrupted, plain
from darts_noise.runs.search import search_module
from darts_noise.runs.stops import Interrupts
from darts_noise.runs.train import Trained
from darts_noise.runs.trainer import silent_trainer
from darts_noise.search.strategies.shared import Sharing
from darts_noise.shown import readable_duration
from darts_noise.space.macro import FIXED
from darts_noise.study.kept import fixed_settings, require_same, written, written_settings
from darts_noise.study.queue import UNREACHABLE, Queue, Record, accuracy_of
from darts_noise.study.results import StudyResult, proposals_of, write_results
from darts_noise.study.settings import DECIDED, StudyConfig
from darts_noise.study.units import PROPOSAL, Unit, check_names, searched, units_of
from darts_noise.study.work import SeedRuns
from darts_noise.train.progress import quiet_lightning

POLL = 5.0
"""Seconds between two checks for a unit that is ready, while other workers have the rest."""


def study(
    config: StudyConfig,
    *,
    runs: str | Path = "runs",
    command: str = "dn.study",
    console: Console | None = None,
) -> StudyResult:
    """Do all searches, trainings and measurements of a study, and write ``runs/study/<name>``.

    A second call continues the study. Calls at the same time share its units.

    Args:
        config: the settings.
        runs: folder of all runs.
        command: the command that the results file names.
        console: where to show progress. None: standard output.

    Raises:
        SettingError: an invalid setting, or a fixed setting that differs from the start of the
            study. Its key names the setting.
        ValueError: unusable data, or units that failed.
        Interrupted: a signal stopped the study. The same call continues it.

    >>> import darts_noise as dn
    >>> found = dn.study(dn.StudyConfig(noise_weights=[0, 1], seeds=2))  # doctest: +SKIP
    """
    require_kinds(config=(config, StudyConfig))
    begun = Study(config, runs, command, console)
    try:
        with quiet_lightning(), begun.interrupts:
            with begun.interrupts.allowed():
                check_data(config)
            begun.run()
            return begun.write()
    except KeyboardInterrupt as stop:
        status = 128 + (begun.interrupts.received or signal.SIGINT)
        if isinstance(stop, Interrupted):  # a search answers the signals itself
            status = stop.status
        raise Interrupted(begun.folder, status) from None
    except UNREACHABLE as error:
        raise SettingError("storage", f"{error}; the same command continues") from None


def tabulate(
    config: StudyConfig, *, runs: str | Path = "runs", command: str = "dn.study"
) -> StudyResult:
    """Write the table, plot and results of a study from the results so far; see `study`.

    Raises:
        SettingError: as for `study`, or the study has not begun.
    """
    folder = folder_of(config, runs)
    if config.storage is None and not any((folder / file).is_file() for file in BEGUN):
        raise SettingError("name", f"expected a study that has begun, got none in {folder}")
    return Study(config, runs, command).write()


def folder_of(config: StudyConfig, runs: str | Path) -> Path:
    """Return the folder of a study."""
    return Path(runs).resolve() / "study" / (config.name or config.train.data.name)


def check_data(config: StudyConfig) -> None:
    """Raise an error before the first unit if data, noise or a Trainer cannot be used."""
    model = config.most_penalised
    with within("search"):
        silent_trainer(config.search.trainer)
        data = ImageDataModule(config.search.data)
        search_module(model, data)
        data.train_stream()
    for name, settings in config.strategies.items():
        try:
            module = search_module(replace(model, **settings), data)
            for choice in FIXED if isinstance(module.strategy, Sharing) else ():
                module.space.fixed(choice)
        except SettingError as error:
            key = error.key.removeprefix("model.")
            raise SettingError(f"strategies.{name}.{key}", error.problem) from None
    with within("train"):
        silent_trainer(config.train.trainer)
        data = ImageDataModule(config.train.data)
        data.setup()
        data.train_stream()
    root = root_of_others(data.name, data.config.root)
    for family in config.unseen_families:
        with about("unseen_families"):
            make_noise(family, config.converged.samples, data.train, 0, root)


BEGUN = ("study.db", "results.json")
"""Files of which a study that has begun has one."""


class Study:
    """One worker of a study, with the folder and the queue of the study; see `study`."""

    def __init__(
        self,
        config: StudyConfig,
        runs: str | Path,
        command: str,
        console: Console | None = None,
    ) -> None:
        check_names(config)
        self.name = config.name or config.train.data.name
        self.config, self.command = replace(config, name=self.name), command
        self.folder = folder_of(config, runs)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.units = units_of(config)
        self.console = console or Console(soft_wrap=True, highlight=False, markup=False)
        url = config.storage or f"sqlite:///{self.folder / 'study.db'}"
        try:
            self.queue = Queue(url, self.name, config.heartbeat, config.sample.seed)
        except SettingError:
            with suppress(OSError):  # it is not empty
                self.folder.rmdir()
            raise
        self.failed: dict[str, str] = {}
        self.interrupts = Interrupts()
        of_queue = self.queue.settings
        before = of_queue or written_settings(self.folder)
        self.fixed = fixed_settings(self.config)
        require_same(self.name, before, self.fixed)
        if before:
            # Records of a copied study, or of a start with more networks or families.
            known = self.queue.found()
            for key, found in written(self.folder):
                if key not in known:
                    self.queue.restore(key, found)
        if before and not of_queue:
            self.queue.settings = before
        stated = plain(self.config)
        for key in DECIDED:
            setup, group, field = key.split(".")
            del stated[setup][group][field]
        write_config(self.folder, stated)

    def run(self) -> None:
        """Work until this worker or others have finished every unit.

        Raises:
            ValueError: some units failed. All units that do not need them are finished.
        """
        torch.set_num_threads(self.config.threads)
        waiting = False
        while True:
            self.queue.release_dead()
            require_same(self.name, self.queue.settings, self.fixed)
            found = self.queue.found()
            left = [unit for unit in self.units if unit.key not in found]
            possible = _possible(left, self.failed)
            if not possible:
                break
            ready = [unit for unit in possible if unit.needs is None or unit.needs in found]
            if any(self._work_on(unit, len(self.units) - len(left)) for unit in ready):
                waiting = False
                continue
            if not waiting:
                self.console.print(f"waiting for other workers: {len(possible)} units left")
            waiting = True
            with self.interrupts.allowed():
                time.sleep(POLL)
        if left:
            self.write()
            reasons = "; ".join(f"{key}: {reason}" for key, reason in self.failed.items())
            raise ValueError(
                f"{len(left)} of {len(self.units)} units failed or need a failed one: {reasons}"
            )

    def write(self) -> StudyResult:
        """Write the table, the plot and the files of the records from the storage."""
        found = self.queue.found()
        proposals = proposals_of(self.config, found, self.queue.proposed())
        self.queue.judge(proposals)
        about = {"command": self.command, "settings": self.queue.settings}
        return write_results(self.folder, self.config, found, proposals, about)

    def _work_on(self, unit: Unit, done: int) -> bool:
        """Do a unit and return True, or return False if another worker has it."""
        try:
            is_ours = self.queue.work(unit, lambda: self._make(unit, done))
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            self.failed[unit.key] = reason
            self.console.print(f"failed: {reason}")
            return True
        if is_ours:
            self.write()
        return is_ours

    def _make(self, unit: Unit, done: int) -> Record:
        """Return the result of a unit."""
        seed_runs = self._runs_of(unit)
        needed = self.queue.found()[unit.needs] if unit.needs else None
        place = f"[{done + 1}/{len(self.units)}] {time.strftime('%H:%M')}"
        self.console.print(f"{place} {unit} ... ", end="")
        started = time.perf_counter()
        with self.interrupts.allowed():
            if unit.part == "cell":
                found = seed_runs.cell(needed)
            elif unit.family is not None:
                file = f"{unit.key.replace('/', '-')}.json"
                found = seed_runs.noise(needed, unit.family, unit.part, file)
            else:
                found = seed_runs.training(needed, Trained.test if unit.part == "test" else None)
        accuracy = accuracy_of(found)
        shown = "" if accuracy is None else f"{100 * accuracy:.2f}% in "
        self.console.print(f"{shown}{readable_duration(time.perf_counter() - started)}")
        # The first result fixes the settings. Until then, a wrong setting can be corrected.
        self.queue.settings = {**self.queue.settings, **self.fixed}
        return found

    def _runs_of(self, unit: Unit) -> SeedRuns:
        """Return the runs of a unit. For a proposal they have the proposed settings."""
        sample = self.config.sample
        if unit.network.control != PROPOSAL:
            return SeedRuns(self.config, unit.network, unit.seed, self.folder)
        proposal = self.queue.propose(unit.seed, sample.settings)
        self.console.print(", ".join(f"{key} = {value}" for key, value in proposal.items()))
        config = self.config.proposed(proposal)
        network = replace(searched(config.noise_weights[0]), key=f"{PROPOSAL}_{unit.seed}")
        return SeedRuns(config, network, sample.seed, self.folder)


def _possible(left: list[Unit], failed: Mapping[str, str]) -> list[Unit]:
    """Return the units that have not failed and need no failed unit."""
    impossible = set(failed)
    for unit in left:  # a needed unit comes first
        if unit.needs in impossible:
            impossible.add(unit.key)
    return [unit for unit in left if unit.key not in impossible]
