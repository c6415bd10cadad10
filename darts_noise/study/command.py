"""``darts-noise study``: the command line of a study; see docs/study.md."""

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType

from jsonargparse import Namespace

from darts_noise.cli.config_files import require_small, with_shipped
from darts_noise.cli.parser import OneLineParser, fail
from darts_noise.cli.session import quiet_lightning
from darts_noise.cli.shipped_configs import list_configs, shipped_config
from darts_noise.space.published import list_genotypes
from darts_noise.study.checks import check_settings
from darts_noise.study.settings import StudySettings

PROGRAM = "darts-noise study"
DESCRIPTION = "Searches, seeds and controls, each trained and measured alike; resumes and shares."


class StudyParser(OneLineParser):
    """The keys of a study in place of a script's."""

    hidden = (
        "print_shtab",
        "search",
        "train",
        "converged",
        "sample",
        "quick.help",
        "controls.help",
    )
    more = "Keys of search.py and train.py: see python search.py --help and python train.py --help."


def main(argv: list[str] | None = None) -> None:
    """Runs a study, or goes on with it; started on several machines they share the work.

    Args:
        argv: the arguments; those of the process by default.

    Raises:
        SystemExit: 2 after one line about what the user can put right; 130 after a Ctrl-C and 143
            after a SIGTERM.
    """
    argv = sys.argv[1:] if argv is None else argv
    quiet_lightning()
    parser = make_parser()
    given = argv if not argv or argv[0].startswith("-") else ["--config", *argv]
    try:
        given = with_shipped(given, "study")
        require_small(given)
    except ValueError as error:
        fail(error)
    config = parser.parse_args(given)
    try:
        import optuna
    except ImportError:
        fail("a study needs Optuna: pip install 'optuna>=5'")
    from darts_noise.study.run import Study
    from darts_noise.study.scripts import check_data, check_scripts

    files = [Path(file.absolute) for file in config.config or []]
    if len(files) != 1:
        fail(f"expected one config, as in {PROGRAM} digits")
    command = shlex.join(argument for argument in argv if argument != "--table")
    stopped: list[int] = []
    try:
        settings = read_settings(parser, config, files[0])
        check_scripts(settings, config.root)
        study = Study(settings, config.runs, config.root, f"{PROGRAM} {command}")
        if not config.table:
            check_data(settings, config.root)
            with interrupting(signal.SIGTERM) as stopped:
                study.run()
        study.write()
    except (OSError, ValueError) as error:
        fail(error)
    except optuna.exceptions.StorageInternalError as error:
        fail(f"storage: {error}; the same command goes on")
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        raise SystemExit(143 if stopped else 130) from None
    print(f"table: {study.folder / 'table.md'}")


@contextmanager
def interrupting(signum: int) -> Iterator[list[int]]:
    """Within it a signal does what a Ctrl-C does, and is added to the list."""
    seen: list[int] = []

    def interrupt(signum: int, frame: FrameType | None) -> None:
        seen.append(signum)
        raise KeyboardInterrupt

    before = signal.signal(signum, interrupt)
    try:
        yield seen
    finally:
        signal.signal(signum, before)


def read_settings(parser: StudyParser, config: Namespace, file: Path) -> StudySettings:
    """The settings that were parsed from a file, checked.

    Args:
        parser: that parsed them.
        config: what it found.
        file: from whose folder the configs of search.py and train.py are found, else the shipped
            ones of those names; and the files of cells, else from the present folder.

    Raises:
        ValueError: a setting that is wrong; the message names its key.
    """
    found = parser.instantiate(config)
    settings = StudySettings(**{f.name: found[f.name] for f in fields(StudySettings)})
    scripts = {}
    for key in ("search", "train"):
        script = getattr(settings, key)
        path = (file.parent / script.config).resolve()
        if not path.is_file() and script.config in list_configs(key):
            path = Path(shipped_config(script.config, key))
        if not path.is_file():
            raise ValueError(f"{key}.config: no such file: {path}")
        scripts[key] = replace(script, config=str(path))
    cells = {name: _found(cell, file.parent) for name, cell in settings.cells.items()}
    settings = replace(settings, name=settings.name or file.stem, cells=cells, **scripts)
    check_settings(settings)
    return settings


def _found(cells: str | list[str], folder: Path) -> str | list[str]:
    """The same with absolute paths in place of those that are there."""
    if not isinstance(cells, str):
        return [str(_found(cell, folder)) for cell in cells]
    for path in (folder / cells, Path(cells)):
        if cells.lower() not in list_genotypes() and path.exists():
            return str(path.resolve())
    return cells


def make_parser() -> StudyParser:
    """The parser of the command line and of the files, with a key for every setting."""
    parser = StudyParser(prog=PROGRAM, description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="the study, as the first argument")
    parser.add_argument("--runs", type=str, default="runs", help="folder that holds all runs")
    parser.add_argument("--root", type=str | None, help="folder of the data; else the configs'")
    parser.add_argument(
        "--table", action="store_true", help="rewrite table and plot from what is there, and end"
    )
    parser.add_class_arguments(StudySettings)
    return parser
