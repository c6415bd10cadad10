"""``--plugins FILE.py``: code of the user's that runs before the settings are read.

It registers operations, spaces, noise families or penalties, which the settings may then name. Only
the command line can name such a file: a config or a checkpoint, which may be another's, cannot.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from shlex import quote

from darts_noise.cli.parser import UserError

OPTION = "--plugins"
_IMPORTED: list[Path] = []


def import_plugins(argv: list[str]) -> list[str]:
    """Runs the files that the command line names, in their order, once each.

    Returns:
        The other arguments.

    Raises:
        UserError: no such file, or what it raises, in one line.
    """
    others: list[str] = []
    given = iter(argv)
    for argument in given:
        option, equals, value = argument.partition("=")
        if option != OPTION:
            others.append(argument)
            continue
        named = value if equals else next(given, "")
        _run(Path(named))
        _IMPORTED.append(Path(named))
    return others


def plugin_options() -> str:
    """The options with which another command has the same plugins; empty without any."""
    return "".join(f" {OPTION} {quote(str(file))}" for file in dict.fromkeys(_IMPORTED))


def _run(file: Path) -> None:
    if file.suffix != ".py" or not file.is_file():
        raise UserError(f"plugins: expected a file of Python code, got {str(file)!r}")
    spec = spec_from_file_location(f"darts_noise_plugin_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    try:
        spec.loader.exec_module(module_from_spec(spec))
    except Exception as error:  # whatever the user's code raises
        raise UserError(f"plugins: {file}: {type(error).__name__}: {error}") from error
