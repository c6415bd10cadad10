"""The program ``darts-noise COMMAND``, which ``search.py`` and ``train.py`` call as well."""

import difflib
import gc
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

COMMAND = "darts-noise"
COMMANDS = {
    "search": "search a cell",
    "train": "train a network of a cell, on the data and on noise",
    "study": "searches, seeds and controls in one go, with a table",
    "report": "runs as one HTML page",
    "bundle": "the network of a training run as a folder for dn.load_pretrained",
    "predict": "the class of image files, by a trained network",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        argv: the command and its arguments; those of the process by default.

    Raises:
        SystemExit: 2 after one line about what the user can put right, 130 after a Ctrl-C, 143
            after a SIGTERM, 1 after one line where another process of the same run has ended.
    """
    name, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    if name in ("-h", "--help"):
        print(usage())
        return
    if "--version" in (name, *rest[:1]):
        from importlib.metadata import version

        print(f"{COMMAND} {version('darts_noise')}")
        return
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f": did you mean {close[0]!r}?" if close else ""
        expected = f"expected one of {', '.join(COMMANDS)}, got {name!r}{hint}"
        fail(f"{expected} (--help explains them)", COMMAND)
    # Threads that wait should sleep: on a shared machine, spinning ones slow a small network
    # tenfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A Ctrl-C during an import could be taken for a failure of that import.
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    gc.disable()  # nothing that is imported is garbage yet, and looking for it takes a second
    try:
        importlib.import_module("darts_noise.cli.commands").run(name, rest)
    finally:
        signal.signal(signal.SIGINT, before)


def ready() -> None:
    """Say that all imports are made: a Ctrl-C is a `KeyboardInterrupt` from here on.

    A warning is one line from here on.
    """
    gc.enable()
    warnings.formatwarning = _one_line  # type: ignore[assignment]
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _one_line(message: Warning | str, *_: object) -> str:
    """Format a warning for a user, who does not need the line of code that gave it."""
    return f"warning: {' '.join(str(message).split())}\n"


def fail(message: object, program: str | None = None) -> NoReturn:
    """End the program with one line on standard error and exit status 2."""
    text = " ".join(str(message).split())
    print(f"{program or called()}: error: {text}", file=sys.stderr)
    raise SystemExit(2)


def called(command: str | None = None) -> str:
    """Return how the user called the program, for its messages.

    Args:
        command: how the user would call this command; None for the present one, as messages name
            it: ``search.py`` or ``darts-noise search``.
    """
    path = Path(sys.argv[0])
    is_module, folder = path.name == "__main__.py", path.parent.name
    by_name = path.stem == COMMAND or (is_module and folder == "darts_noise")
    if command is not None:
        return f"{COMMAND} {command}" if by_name else f"python {command}.py"
    if is_module and not by_name:
        return f"python -m darts_noise.{folder}"
    return " ".join([COMMAND, *sys.argv[1:2]]) if by_name else path.name or "darts_noise"


def usage() -> str:
    """Return what ``darts-noise --help`` prints."""
    lines = [f"  {name:<8} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {COMMAND} COMMAND [--help] [ARGUMENTS ...]",
            "",
            *lines,
            "",
            "Cells that learn the data and cannot learn noise; begin with darts-noise search.",
        ]
    )


def _leave(signum: int, frame: FrameType | None) -> None:
    """End the process at once: before a command runs there is nothing to put away."""
    os._exit(130)
