"""The folder of a run, ``runs/<kind>/<name>/``; ``runs/<kind>/latest`` beside it; its lock."""

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import IO, Any

import yaml

from darts_noise.atomic import write_text
from darts_noise.errors import SettingError
from darts_noise.space.json_file import read_json
from darts_noise.space.shown import printable, shown

CONFIG = "config.yaml"
"""All settings of a run."""
PLUGINS = "plugins.json"
"""Path and SHA-256 of each plugin of a run. Only messages read it; it never makes a file run."""
FINAL = ("card.json", "card.md")
"""The files that a run writes last."""
UNFINISHED = "noise_check"
"""Key of a card that says that a training is over and its noise check is not."""


def create_run(root: str | Path, kind: str, name: str | None, dataset: str) -> Path:
    """Make the folder of a new run.

    Args:
        root: folder that holds all runs.
        kind: ``search`` or ``train``.
        name: of the run, a plain file name; None for the data set and the time of day.
        dataset: for that name.

    Raises:
        SettingError: a name that is taken, or a folder that cannot be written to. What an earlier
            run has left is never touched.
    """
    folder = Path(root) / kind
    if name is None:
        name = f"{dataset}-{datetime.now():%Y%m%d-%H%M%S}"
        stem, count = name, 1
        while (folder / name).exists():
            count += 1
            name = f"{stem}-{count}"
    run = folder / name
    try:
        run.mkdir(parents=True)
    except FileExistsError:
        raise SettingError("name", f"{run} exists already; choose another --name") from None
    except OSError as error:
        raise SettingError("runs", f"cannot write to {folder}: {error.strerror}") from None
    return run


def point_latest(run: Path) -> None:
    """Point ``latest`` beside the run at it, in one step; for a run that has its cell."""
    link = run.parent / "latest"
    new = run.parent / f".latest.{os.getpid()}"
    new.unlink(missing_ok=True)
    new.symlink_to(run.name)
    os.replace(new, link)


def newest_run(root: str | Path, kind: str) -> Path | None:
    """Return the run that ``latest`` points at; without one, the last with a ``genotype.json``."""
    folder = Path(root) / kind
    link = folder / "latest"
    if (link / "genotype.json").is_file():
        return folder / link.resolve().name if link.is_symlink() else link
    cells = [cell for cell in folder.glob("*/genotype.json") if cell.is_file()]
    return max(cells, key=lambda cell: cell.stat().st_mtime).parent if cells else None


def find_run(root: str | Path, kind: str, named: str) -> Path:
    """Return the folder of a run that is to go on.

    Args:
        root: folder that holds all runs.
        kind: ``search`` or ``train``.
        named: a name or a folder; empty for the newest.

    Raises:
        SettingError: there is no such run.
    """
    folder = Path(root) / kind
    if not named:
        configs = list(folder.glob(f"[!.]*/{CONFIG}"))
        # `latest` is a second name of one of them.
        runs = [config for config in configs if not config.parent.is_symlink()]
        if not runs:
            raise SettingError("resume", f"no run in {folder}")
        return max(runs, key=lambda config: config.stat().st_mtime).parent
    for run in (folder / named, Path(named)):
        if (run / CONFIG).is_file():
            run = run.parent / run.resolve().name if run.is_symlink() else run
            if run.resolve().parent.name != kind:
                raise SettingError("resume", f"expected a run of {kind}, got {named!r}")
            return run
    raise SettingError(
        "resume", f"expected the name or the folder of a run in {folder}, got {named!r}"
    )


def has_ended(run: Path) -> bool:
    """Return whether a run has written its card, with everything that belongs to it."""
    if not all((run / name).is_file() for name in FINAL):
        return False
    try:
        return UNFINISHED not in json.loads((run / FINAL[0]).read_text("utf-8"))
    except (ValueError, TypeError, RecursionError):
        return True


def write_config(run: Path, config: dict[str, Any]) -> None:
    """Write ``config.yaml``, from which the same command can be given again."""
    write_text(run / CONFIG, yaml.safe_dump(config, sort_keys=False))


def read_run_config(run: Path) -> dict[str, Any]:
    """Return the content of a run's ``config.yaml``.

    Raises:
        SettingError: it cannot be read, or is no mapping.
    """
    path = run / CONFIG
    try:
        config = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise SettingError(str(path), error.strerror) from None
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise SettingError(str(path), f"expected the config of a run, got {shown(config)}")
    return config


def note_plugins(run: Path, files: Iterable[str]) -> None:
    """Write down the path and the SHA-256 of the plugins of a run; nothing where there are none."""
    noted = [{"path": str(Path(file).resolve()), "sha256": _digest(file)} for file in files]
    if noted:
        write_text(run / PLUGINS, json.dumps(noted, indent=1) + "\n")


def lacking_plugins(run: Path, given: Iterable[str]) -> str | None:
    """Say which plugins a run was made with that are not among the given files.

    The record of the run may come from somebody else, so nothing here runs or opens its files.

    Args:
        run: folder of a run.
        given: the plugins of this command.

    Returns:
        One line that says what to add to the command; None where nothing is missing.
    """
    noted: list[tuple[str, str]] = []
    with suppress(ValueError, KeyError, TypeError):  # no such file, or a damaged one
        noted = [(str(each["path"]), str(each["sha256"])) for each in read_json(run / PLUGINS)]
    digests = {Path(file).name: _digest(file) for file in given}
    lacking = [(path, digest) for path, digest in noted if digest not in digests.values()]
    if not lacking:
        return None
    changed = [path for path, _ in lacking if Path(path).name in digests]
    if changed:
        return f"{run} was made with another content of {printable(', '.join(changed))}"
    options = printable(" ".join(f"--plugins {quote(path)}" for path, _ in lacking))
    return f"{run} was made with {options}: add that if you trust the file, because its code runs"


def _digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


class RunLock:
    """Held by one process of a run from `take` to `release`, and no longer than it lives.

    Two processes that go on with one run would write over each other's checkpoints. The lock is the
    system's own, on a file that every run has: a program that is killed leaves nothing behind that
    a person would have to remove. On Windows and on file systems without locks, none is taken.

    Args:
        run: folder of the run.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._held: IO[bytes] | None = None

    def take(self) -> None:
        """Take the lock, without waiting for it.

        Raises:
            SettingError: another process has it.
            OSError: the file cannot be written to.
        """
        if sys.platform == "win32":
            return
        import fcntl  # there is none on Windows

        held = (self.run / CONFIG).open("r+b")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            problem = f"another process is at work on {self.run}; stop it or wait for its end"
            raise SettingError("resume", problem) from None
        except OSError:  # a file system without locks
            held.close()
            return
        self._held = held

    def release(self) -> None:
        """Give the lock back; nothing where it is not held."""
        if self._held is not None:
            self._held.close()
            self._held = None
