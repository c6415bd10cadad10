"""A worker of a study: takes the first unit that is free, makes its parts, rewrites the results."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from optuna.trial import Trial
from rich.console import Console

from darts_noise.cli.run_directory import write_config
from darts_noise.study.fixed import fixed_settings, require_same
from darts_noise.study.networks import Compared, searched
from darts_noise.study.queue import Parts, Queue
from darts_noise.study.restored import written_parts, written_settings
from darts_noise.study.results import write_results
from darts_noise.study.sample import propose, proposed_settings
from darts_noise.study.settings import StudySettings
from darts_noise.study.units import Part, Unit, units_of
from darts_noise.study.work import Worker
from darts_noise.train.progress import readable_duration

Maker = Callable[[Part, Parts | None, Parts | None], Parts]

POLL = 5.0
"""Seconds between two looks for a unit that is ready, while other workers have the rest."""


class Study:
    """A study in its folder.

    Args:
        settings: of the study, checked.
        runs: folder that holds all runs; the study's is ``study/<name>`` below it.
        root: folder of the data; None for the configs'.
        command: by which it was started.

    Raises:
        ValueError: the folder holds a study with other settings; the message names the key. Or,
            where the study goes on from results and records, one that is none.
    """

    def __init__(
        self, settings: StudySettings, runs: str | Path, root: str | None, command: str
    ) -> None:
        assert settings.name is not None
        self.settings, self.root, self.command = settings, root, command
        self.name = settings.name
        self.folder = Path(runs).resolve() / "study" / self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.units = units_of(settings)
        self.console = Console(soft_wrap=True, highlight=False, markup=False)
        url = settings.storage or f"sqlite:///{self.folder / 'study.db'}"
        self.queue = Queue(url, self.name, settings.heartbeat, settings.sample.seed)
        self.fixed = fixed_settings(settings)
        of_queue = self.queue.settings
        before = of_queue or written_settings(self.folder)
        require_same(self.name, before, self.fixed)
        if before:
            self._take_in_records()
        if before and not of_queue:
            self.queue.settings = before
        write_config(self.folder, asdict(settings))

    def _take_in_records(self) -> None:
        """What the records have and the storage has not: another's, or of a start that knew more
        networks or families than those since."""
        parts, _ = self.queue.parts()
        for unit, found in written_parts(self.folder, self.units):
            if found.keys() - parts.get(unit.key, {}).keys():
                whole = all(part in found for part in unit.parts)
                self.queue.restore(unit, found, _values(found) if whole else None)

    def run(self) -> None:
        """Works until every unit is finished, here or by other workers.

        Raises:
            ValueError: some units could not be made; all that did not need them are finished.
        """
        torch.set_num_threads(self.settings.threads)
        failed: dict[str, str] = {}
        waiting = False
        while True:
            self.queue.release_dead()
            require_same(self.name, self.queue.settings, self.fixed)
            parts, finished = self.queue.parts()
            left = [unit for unit in self.units if unit.key not in finished]
            possible = _possible(left, failed)
            if not possible:
                break
            done = len(self.units) - len(left)
            if self._work_on_one(possible, parts, done, failed):
                waiting = False
                continue
            if not waiting:
                self.console.print(f"waiting for other workers: {len(possible)} units left")
            waiting = True
            time.sleep(POLL)
        self.write()
        if left:
            reasons = "; ".join(f"{key}: {reason}" for key, reason in failed.items())
            raise ValueError(f"{len(left)} of {len(self.units)} units are not made: {reasons}")

    def write(self) -> None:
        """Rewrites the table, the plot and the files of the records from the storage."""
        parts, _ = self.queue.parts()
        kept = self.queue.settings
        write_results(self.folder, self.settings, self.command, self.units, parts, kept)

    def _work_on_one(
        self, units: list[Unit], parts: dict[str, Parts], done: int, failed: dict[str, str]
    ) -> bool:
        """Makes the first unit that is ready and free; False where none is."""
        for unit in units:
            ready = unit.needs is None or "cell" in parts.get(unit.needs, {})
            if ready and (trial := self.queue.claim(unit)) is not None:
                try:
                    with self.queue.working(unit, trial):
                        self._make(unit, trial, parts, done)
                except ValueError as error:
                    failed[unit.key] = str(error)
                    self.console.print(f"failed: {error}")
                return True
        return False

    def _make(self, unit: Unit, trial: Trial, parts: dict[str, Parts], done: int) -> None:
        """The parts of a unit that are not there yet."""
        found = dict(parts.get(unit.key, {}))
        origin = parts.get(unit.needs or "", {}).get("cell")
        if unit.kind == "sample":
            make = self._propose(unit, trial)
        else:
            make = self._maker(unit, self.settings, unit.network, unit.seed)
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
        self.queue.finish(trial, _values(found))
        self.write()

    def _propose(self, unit: Unit, trial: Trial) -> Maker:
        """Makes the parts of a search of its own settings, which the sampler proposes."""
        proposal = propose(self.settings, trial)
        trial.set_user_attr("proposal", proposal)
        self.console.print(", ".join(f"{key} = {value}" for key, value in proposal.items()))
        settings = proposed_settings(self.settings, proposal)
        network = searched(settings.noise_weights[0], seeds=1)
        return self._maker(unit, settings, network, settings.sample.seed)

    def _maker(self, unit: Unit, settings: StudySettings, network: Compared, seed: int) -> Maker:
        """(part, the unit's own cell, the cell that it needs) → what is found."""
        worker = Worker(settings, self.folder / "noise_runs", self.root)

        def make(part: Part, own: Parts | None, origin: Parts | None) -> Parts:
            if part == "cell":
                return worker.cell(network, seed, origin)
            if part == "noise":
                cell = origin if unit.kind == "noise" else own
                file = unit.key.replace("/", "-")
                return worker.noise(network, seed, cell, unit.family, unit.protocol, file)
            return (worker.test if part == "test" else worker.validation)(network, seed, own)

        return make


def _possible(left: list[Unit], failed: Mapping[str, str]) -> list[Unit]:
    """Those units that have not failed and need none that has."""
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
    """The objectives of a unit; where a training diverged, the worst that there is."""
    noise = found["noise"]["accuracy_largest"]
    values = [1.0 if noise is None else noise]
    for part, key in (("test", "test_accuracy"), ("validation", "validation_accuracy")):
        if part in found:
            values.insert(0, 0.0 if found[part]["diverged"] else found[part][key])
    return values
