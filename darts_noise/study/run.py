"""A worker of a study: takes the first unit that is free, makes its parts, rewrites the results."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from optuna.trial import Trial
from rich.console import Console

from darts_noise.atomic import write_text
from darts_noise.report.card import finite
from darts_noise.report.duration import readable_duration
from darts_noise.study.fixed import fixed_settings, require_same
from darts_noise.study.queue import Parts, Queue
from darts_noise.study.results import records_of, write_results
from darts_noise.study.settings import StudySettings
from darts_noise.study.units import Part, Unit, units_of
from darts_noise.study.work import Worker

POLL = 5.0
"""Seconds between two looks for a unit that is ready, while other workers have the rest."""


class Study:
    """A study in its folder.

    Args:
        settings: of the study.
        runs: folder that holds all runs; the study's is ``study/<name>`` below it.
        root: folder of the data; None for the configs'.
        command: by which it was started.

    Raises:
        ValueError: the folder holds a study with other settings; the message names the key.
    """

    def __init__(
        self, settings: StudySettings, runs: str | Path, root: str | None, command: str
    ) -> None:
        self.settings, self.command = settings, command
        self.folder = Path(runs).resolve() / "study" / settings.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
        self.units = units_of(settings)
        self.worker = Worker(settings, self.folder, root)
        self.console = Console(soft_wrap=True, highlight=False, markup=False)
        url = settings.storage or f"sqlite:///{self.folder / 'study.db'}"
        self.queue = Queue(url, settings.name, settings.heartbeat)
        self._keep_settings()

    def _keep_settings(self) -> None:
        study = self.queue.studies["network"]
        kept, now = study.user_attrs.get("settings", {}), fixed_settings(self.settings)
        require_same(self.settings.name, kept, now)
        study.set_user_attr("settings", {**kept, **now})

    def run(self) -> None:
        """Works until every unit is finished, here or by other workers."""
        torch.set_num_threads(self.settings.threads)
        self.write()
        while True:
            self.queue.release_dead()
            parts, finished = self.queue.parts()
            left = [unit for unit in self.units if unit.key not in finished]
            if not left:
                break
            for unit in left:
                ready = unit.needs is None or "cell" in parts.get(unit.needs, {})
                if ready and (trial := self.queue.claim(unit)) is not None:
                    with self.queue.working(unit, trial):
                        self._make(unit, trial, parts)
                    break
            else:
                time.sleep(POLL)
        self.write()

    def _make(self, unit: Unit, trial: Trial, parts: dict[str, Parts]) -> None:
        """The parts of a unit that are not there yet."""
        made = dict(parts.get(unit.key, {}))
        origin = parts.get(unit.needs or "", {}).get("cell")
        for part in unit.parts:
            if part not in made:
                self._say(unit, part)
                started = time.perf_counter()
                made[part] = finite(self._part(unit, part, made, origin))
                self._said(made[part], part, time.perf_counter() - started)
            trial.set_user_attr(part, made[part])
            self.write()
        self.queue.finish(unit, trial, _values(unit, made))
        self.write()

    def _part(self, unit: Unit, part: Part, made: Parts, origin: Parts | None) -> Parts:
        network, seed = unit.network, unit.seed
        if part == "cell":
            return self.worker.cell(network, seed, origin)
        cell = origin if unit.kind == "noise" else made.get("cell")
        if part == "test":
            return self.worker.test(network, seed, cell)
        return self.worker.noise(network, seed, cell, unit.family, unit.protocol, unit.key)

    def _say(self, unit: Unit, part: Part) -> None:
        _, finished = self.queue.parts()
        total = len(self.units)
        done = sum(unit.key in finished for unit in self.units)
        place = f"[{done + 1}/{total}] {time.strftime('%H:%M')}"
        self.console.print(f"{place} {unit.describe(part)} ... ", end="")

    def _said(self, found: Parts, part: Part, seconds: float) -> None:
        key = {"cell": "validation_accuracy", "test": "test_accuracy", "noise": "accuracy"}[part]
        value = found.get(key)
        shown = "" if value is None else f"{100 * value:.2f} % in "
        self.console.print(f"{shown}{readable_duration(seconds)}")

    def write(self) -> None:
        """Rewrites the table, the plot and the files of the records from the storage."""
        write_text(self.folder / "config.json", json.dumps(self.config, indent=1) + "\n")
        parts, _ = self.queue.parts()
        records = records_of(self.units, parts)
        write_results(self.folder, self.settings, self.config, self.command, records)


def _values(unit: Unit, made: Parts) -> list[float]:
    """The objectives of a unit; where all trainings diverged, the worst that there are."""
    noise = made["noise"]["accuracy_largest"]
    noise = 1.0 if noise is None else noise
    return [made["test"]["test_accuracy"], noise] if unit.kind == "network" else [noise]
