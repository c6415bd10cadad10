"""The folder ``runs/<kind>/<name>/`` of a run, the link ``latest`` beside it, and its lock."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import IO, Any

import yaml

from darts_noise.atomic import write_text
from darts_noise.errors import SettingError
from darts_noise.shown import printable, shown
from darts_noise.space.json_file import read_json, shown_path

CONFIG = "config.yaml"
"""All settings of a run."""
PLUGINS = "plugins.json"
"""Path and SHA-256 of each plugin of a run. Only messages use it. It never runs a file."""
FINAL = ("card.json", "card.md")
"""The files that a run writes last."""
MEMBERS = "members"
"""Key of the number of members in the config of an ensemble."""
UNFINISHED = "noise_check"
"""Key of a card whose training has ended, but not its noise check."""


def create_run(root: str | Path, kind: str, name: str | None, dataset: str) -> Path:
    """Make the folder of a new run.

    Args:
        root: folder of all runs.
        kind: the command, such as ``search``.
        name: name of the run, a plain file name. None: the data set and the time of day.
        dataset: name of the data set.

    Raises:
        SettingError: the name is taken, or the folder cannot be written to. Files of an earlier run
            are never changed.
    """
    require_free(root, kind, name)
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
    except OSError as error:
        raise SettingError("runs", f"cannot write to {folder}: {error.strerror}") from None
    return run


def require_free(root: str | Path, kind: str, name: str | None) -> None:
    """Raise a `SettingError` if a run has this name. Call this before the images are read."""
    run = Path(root) / kind / (name or "")
    if name is not None and run.exists():
        raise SettingError("name", f"{run} exists already; use another --name")


def require_replaceable(file: Path, form: str) -> None:
    """Raise a `SettingError` if a file cannot be written, or is not a result.

    Args:
        file: the file, which may exist.
        form: what the beginning of a result has in quotation marks.
    """
    if file.is_dir():
        raise SettingError("output", f"expected a file, got the folder {shown_path(file)}")
    folder = next(parent for parent in file.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise SettingError("output", f"cannot write to {shown_path(folder)}")
    if file.exists():
        with file.open("rb") as existing:
            written = json.dumps(form).encode() in existing.read(200)
        if not written:
            raise SettingError("output", f"{shown_path(file)} is another file; name a new one")


def remove_run(run: Path) -> None:
    """Remove the folder of a run that was refused. ``latest`` points at an earlier run again."""
    shutil.rmtree(run, ignore_errors=True)
    link = run.parent / "latest"
    if link.is_symlink() and not link.exists():
        link.unlink()
        earlier = newest_run(run.parent.parent, run.parent.name)
        if earlier is not None:
            point_latest(earlier)


def point_latest(run: Path) -> None:
    """Point the link ``latest`` at a run, in one step. Call this once the run has a cell.

    If the file system has no links, or ``latest`` is a folder of the user's, it stays as it is:
    `newest_run` does without the link.
    """
    link = run.parent / "latest"
    new = run.parent / f".latest.{os.getpid()}"
    new.unlink(missing_ok=True)
    try:
        new.symlink_to(run.name)
        os.replace(new, link)
    except OSError:
        new.unlink(missing_ok=True)


def newest_run(root: str | Path, kind: str) -> Path | None:
    """Return the run that ``latest`` points at. Without it: the newest with a ``genotype.json``."""
    folder = Path(root) / kind
    link = folder / "latest"
    if link.is_symlink() and (link / "genotype.json").is_file():
        return folder / link.resolve().name
    cells = [cell for cell in folder.glob("*/genotype.json") if cell.is_file()]
    return max(cells, key=lambda cell: cell.stat().st_mtime).parent if cells else None


def newest_first(folder: Path) -> list[Path]:
    """Return the runs in a folder by the age of their configs, without the link ``latest``."""
    configs = [c for c in folder.glob(f"[!.]*/{CONFIG}") if not c.parent.is_symlink()]
    return [c.parent for c in sorted(configs, key=lambda c: -c.stat().st_mtime)]


def find_run(root: str | Path, kind: str, named: str) -> Path:
    """Return the folder of a run to resume.

    Args:
        root: folder of all runs.
        kind: the command, such as ``search``.
        named: a name or a folder. Empty: the newest run.

    Raises:
        SettingError: there is no such run.
    """
    folder = Path(root) / kind
    if not named:
        for run in newest_first(folder):
            return run
        raise SettingError("resume", f"no run in {folder}")
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
    """Return whether a run has written its card and all other files."""
    if not all((run / name).is_file() for name in FINAL):
        return False
    try:
        return UNFINISHED not in json.loads((run / FINAL[0]).read_text("utf-8"))
    except (ValueError, TypeError, RecursionError):
        return True


def members_of(sources: Sequence[str | Path]) -> list[str | Path]:
    """Return the networks. Each ensemble is replaced by its members.

    Raises:
        SettingError: an ensemble has members that are not trained yet, or there are fewer than 2
            networks.
    """
    found: list[str | Path] = []
    for source in sources:
        config = read_run_config(Path(source)) if (Path(source) / CONFIG).is_file() else {}
        if not isinstance(config.get(MEMBERS), int):
            found.append(source)
            continue
        folders = [Path(source) / "train" / str(number) for number in range(config[MEMBERS])]
        ended = [folder for folder in folders if has_ended(folder)]
        if len(ended) < len(folders):
            raise SettingError(
                MEMBERS,
                f"{shown_path(Path(source))}: {len(ended)} of {len(folders)} are trained; resume "
                f"it with darts-noise ensemble train --resume {shown_path(Path(source))}",
            )
        found += ended
    if len(found) < 2:
        raise SettingError(MEMBERS, f"expected 2 networks or more, got {len(found)}")
    return found


def write_config(run: Path, config: dict[str, Any]) -> None:
    """Write ``config.yaml``, with which the same command can be repeated."""
    write_text(run / CONFIG, yaml.safe_dump(config, sort_keys=False))


def read_run_config(run: Path) -> dict[str, Any]:
    """Return the content of a run's ``config.yaml``.

    Raises:
        SettingError: the file cannot be read, or is not a mapping.
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
    """Record the path and the SHA-256 of each plugin of a run. Without plugins, write no file."""
    noted = [{"path": str(Path(file).resolve()), "sha256": _digest(file)} for file in files]
    if noted:
        write_text(run / PLUGINS, json.dumps(noted, indent=1) + "\n")


def lacking_plugins(run: Path, given: Iterable[str]) -> str | None:
    """Return a message about plugins of a run that are not among the given files.

    The record may come from somebody else, so this function neither runs nor opens its files.

    Args:
        run: folder of a run.
        given: the plugins of this command.

    Returns:
        One line that says what to add to the command. None: no plugin is missing.
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
    """A lock that one process of a run holds from `take` to `release`, or until it ends.

    Two processes that resume the same run would overwrite each other's checkpoints. The lock is a
    lock of the operating system on a file that every run has, so a killed program leaves no lock
    behind. There is no lock on Windows and on file systems without locks.

    Args:
        run: folder of the run.
        setting: the setting that chose the folder, for the error.
    """

    def __init__(self, run: Path, setting: str = "resume") -> None:
        self.run, self.setting = run, setting
        self._held: IO[bytes] | None = None

    def take(self) -> None:
        """Take the lock without waiting.

        Raises:
            SettingError: another process has it.
            OSError: the file cannot be written to.
        """
        if sys.platform == "win32":
            return
        import fcntl  # not on Windows

        held = (self.run / CONFIG).open("r+b")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            problem = f"another process is working on {self.run}; stop it or wait until it ends"
            raise SettingError(self.setting, problem) from None
        except OSError:  # a file system without locks
            held.close()
            return
        self._held = held

    def release(self) -> None:
        """Release the lock. Do nothing if it is not held."""
        if self._held is not None:
            self._held.close()
            self._held = None
