"""``--plugins FILE.py``: code of the user's that runs before the settings are read.

It registers operations, spaces, noise families or penalties, which the settings may then name. Only
the command line can name such a file: a config or a checkpoint, which may be another's, cannot.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from darts_noise.cli.parser import UserError

OPTION = "--plugins"


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
    return others


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
