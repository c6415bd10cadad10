"""Python files of the user, named with ``--plugins``, that register operations and the like."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from shlex import quote
from types import ModuleType

from darts_noise.errors import SettingError, names_unknown
from darts_noise.runs.folder import lacking_plugins


def plugins_option(files: Sequence[str]) -> str:
    """Return the options that name these plugins, for a shell.

    >>> plugins_option(["my own.py"]), plugins_option([])
    (" --plugins 'my own.py'", '')
    """
    return "".join(f" --plugins {quote(file)}" for file in files)


@contextmanager
def naming_plugins(given: Sequence[str], *runs: str | Path) -> Iterator[None]:
    """Name the missing plugins of the runs in an error about an unknown name inside the context.

    A name that only a plugin registers is unknown without it.

    Args:
        given: the plugins of this command.
        runs: folders of runs, or files in them.
    """
    try:
        yield
    except ValueError as error:
        folders = dict.fromkeys(p if p.is_dir() else p.parent for p in map(Path, runs))
        for run in folders if names_unknown(error) else ():
            lacking = lacking_plugins(run, given)
            if lacking is not None:
                error.add_note(lacking)
        raise


@contextmanager
def with_plugins(given: Sequence[str], *runs: str | Path) -> Iterator[None]:
    """Run the plugins of this command, then do what `naming_plugins` does."""
    with naming_plugins(given, *runs):
        run_plugins(given)
        yield


def run_plugins(files: Sequence[str]) -> None:
    """Run each of these files; see `run_plugin`."""
    for file in files:
        run_plugin(Path(file))


def require_plugin(file: Path) -> None:
    """Raise a `SettingError` if there is no such Python file."""
    if file.suffix != ".py" or not file.is_file():
        raise SettingError("plugins", f"expected a file of Python code, got {str(file)!r}")


def run_plugin(file: Path) -> ModuleType:
    """Run a Python file of the user that registers operations, spaces, noise families or penalties.

    Only the command line can name such a file. A config or a checkpoint cannot, because it may come
    from somebody else.

    Raises:
        SettingError: there is no such file, or it raised an error. The message is one line.
    """
    require_plugin(file)
    spec = spec_from_file_location(f"darts_noise_plugin_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # any error of the user's code
        raise SettingError("plugins", f"{file}: {type(error).__name__}: {error}") from error
    return module
