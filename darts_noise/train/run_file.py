"""The file of the finished trainings of a measurement. A later call continues from it."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from darts_noise.atomic import write_text
from darts_noise.errors import SettingError
from darts_noise.shown import shown
from darts_noise.train.noise_record import REAL, NoiseRun, read_run

FORMAT = "darts_noise.noise_runs/1"
MAX_BYTES = 16 << 20
"""Largest size of a file, enough for about 50,000 trainings."""
OF_NOISE = ("family", "samples", "fingerprint")
"""What the description of a measurement says of the noise alone."""


class RunFile:
    """The runs of one measurement, in a file that is rewritten after each run.

    Args:
        path: the JSON file. None: no file. Only one process at a time may use the file.
        about: the description of the measurement. An existing file must have the same description.
            It excludes optimisers, rates, seeds and controls, so that a later call can add runs.

    Attributes:
        runs: the finished runs by their keys.
        on_real: runs of other files in the folder: the same network on the same real images, with
            the same settings, for another noise family. They need not be repeated.

    Raises:
        ValueError: the file is no such file or belongs to another measurement. The message names
            the file and the difference.
    """

    def __init__(self, path: str | Path | None, about: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.about: dict[str, Any] = json.loads(json.dumps(about))
        self.runs: dict[str, NoiseRun] = {}
        self.on_real: dict[str, NoiseRun] = {}
        if self.path is not None and self.path.exists():
            found, self.runs = _read(self.path)
            for key, value in self.about.items():
                if key in found and found[key] != value:
                    raise SettingError(
                        "path",
                        f"{self.path} holds another measurement, whose {key} is "
                        f"{shown(found[key])}, not {shown(value)}; choose another path or delete "
                        "the file",
                    )
            self.about = found | self.about
        if self.path is not None:
            self._look_beside(self.path)

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

    def _look_beside(self, path: Path) -> None:
        for other in sorted(path.parent.glob("*.json")):
            if other == path or not (other.is_file() and _is_run_file(other)):
                continue
            with suppress(SettingError):  # damaged: its own measurement will say so
                found, runs = _read(other)
                same = _without_noise(found) == _without_noise(self.about)
                if same and found != self.about:
                    self.on_real |= {key: run for key, run in runs.items() if run.data == REAL}


def _is_run_file(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return FORMAT.encode() in file.read(100)
    return False


def _without_noise(about: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in about.items() if key not in OF_NOISE}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NoiseRun]]:
    """Return the description and the runs of a file."""
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
    return about, {run.key: run for run in runs}
