"""The file of the finished trainings of a measurement. A later call continues from it."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from darts_noise.atomic import write_text
from darts_noise.errors import SettingError
from darts_noise.shown import shown
from darts_noise.train.noise_record import NoiseRun, read_run

FORMAT = "darts_noise.noise_runs/1"
MAX_BYTES = 16 << 20
"""Largest size of a file, enough for about 50,000 trainings."""


class RunFile:
    """The runs of one measurement, in a file that is rewritten after each run.

    Args:
        path: the JSON file. None: no file. Only one process at a time may use the file.
        about: the description of the measurement. An existing file must have the same description.
            It excludes optimisers, rates, seeds and controls, so that a later call can add runs.

    Attributes:
        runs: the finished runs by their keys.

    Raises:
        ValueError: the file is no such file or belongs to another measurement. The message names
            the file and the difference.
    """

    def __init__(self, path: str | Path | None, about: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.about: dict[str, Any] = json.loads(json.dumps(about))
        self.runs: dict[str, NoiseRun] = {}
        if self.path is not None and self.path.exists():
            self._read(self.path)

    def add(self, run: NoiseRun) -> None:
        """Add a finished run and write the file."""
        self.runs[run.key] = run
        if self.path is not None:
            content = {
                "format": FORMAT,
                "about": self.about,
                "runs": [run.to_dict() for run in self.runs.values()],
            }
            write_text(self.path, json.dumps(content, indent=1) + "\n")

    def _read(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                text = file.read(MAX_BYTES + 1)  # not path.stat(): a device has no size
            if len(text) > MAX_BYTES:
                raise ValueError
            content = json.loads(text.decode("utf-8"))
            if content["format"] != FORMAT:
                raise ValueError
            about = dict(content["about"])
            runs = [read_run(run) for run in content["runs"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            names = ", ".join(field.name for field in fields(NoiseRun))
            raise SettingError(
                "path",
                f"expected runs of a noise fit ({FORMAT}: {names}) in {path}; "
                "choose another path or delete the file",
            ) from None
        for key, value in self.about.items():
            if key in about and about[key] != value:
                raise SettingError(
                    "path",
                    f"{path} holds another measurement, whose {key} is {shown(about[key])}, "
                    f"not {shown(value)}; choose another path or delete the file",
                )
        self.about = about | self.about
        self.runs = {run.key: run for run in runs}
