"""Where a run's files go: ``runs/<kind>/<name>/``, and ``runs/<kind>/latest``."""

import os
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from darts_noise.atomic import write_text
from darts_noise.cli.parser import UserError
from darts_noise.runs.settings import PLAIN, is_plain
from darts_noise.space.shown import shown

CONFIG = "config.yaml"
"""Of a run: all its settings."""


def create_run(root: str | Path, kind: str, name: str | None, dataset: str) -> Path:
    """Makes the directory of a new run.

    Args:
        root: folder that holds all runs.
        kind: ``search`` or ``train``.
        name: of the run; data set and time of day when absent.
        dataset: for that name.

    Raises:
        UserError: a name that is no plain file name, one that is taken, or a folder that cannot be
            written to. What an earlier run has left is never touched.
    """
    folder = Path(root) / kind
    if name is None:
        name = f"{dataset}-{datetime.now():%Y%m%d-%H%M%S}"
        stem, count = name, 1
        while (folder / name).exists():
            count += 1
            name = f"{stem}-{count}"
    elif not is_plain(name) or name == "latest":
        raise UserError(f"name: expected {PLAIN} (and not 'latest'), got {shown(name)}")
    run = folder / name
    try:
        run.mkdir(parents=True)
    except FileExistsError:
        raise UserError(f"name: {run} exists already; choose another --name") from None
    except OSError as error:
        raise UserError(f"runs: cannot write to {folder}: {error.strerror}") from None
    return run


def point_latest(run: Path) -> None:
    """Makes ``latest`` beside the run point at it, in one step; for a run that has its cell."""
    link = run.parent / "latest"
    new = run.parent / f".latest.{os.getpid()}"
    new.unlink(missing_ok=True)
    new.symlink_to(run.name)
    os.replace(new, link)


def newest_run(root: str | Path, kind: str) -> Path | None:
    """The run that ``latest`` points at; without one, the last that has a ``genotype.json``."""
    folder = Path(root) / kind
    link = folder / "latest"
    if (link / "genotype.json").is_file():
        return folder / link.resolve().name if link.is_symlink() else link
    cells = [cell for cell in folder.glob("*/genotype.json") if cell.is_file()]
    return max(cells, key=lambda cell: cell.stat().st_mtime).parent if cells else None


def runs_option(root: str) -> str:
    """What a command needs after it to find runs in this folder, for a shell; nothing by default.

    >>> runs_option("runs"), runs_option("/tmp/my runs")
    ('', " --runs '/tmp/my runs'")
    """
    return "" if root == "runs" else f" --runs {shlex.quote(root)}"


def write_config(run: Path, config: dict[str, Any]) -> None:
    """Writes ``config.yaml``, from which the same command can be given again."""
    write_text(run / CONFIG, yaml.safe_dump(config, sort_keys=False))
