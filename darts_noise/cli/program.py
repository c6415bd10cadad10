"""The program ``darts-noise COMMAND``. ``search.py`` and ``train.py`` call it too."""

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

from darts_noise.memory import keep_freed_memory

COMMAND = "darts-noise"
COMMANDS = {
    "search": "search a cell",
    "train": "train a network of a cell, on the data and on noise",
    "ensemble": "train networks of one cell, or evaluate networks that decide together",
    "study": "compare searches, seeds and controls, with a table",
    "report": "write runs as one HTML page",
    "bundle": "write the network of a training run for dn.load_pretrained",
    "predict": "print the class of image files by a trained network",
    "attack": "measure the accuracy of a trained network under attack",
    "certify": "print how far images can change without changing their class",
    "examine": "measure what a network memorises, and how",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        argv: the command and its arguments. Default: the arguments of the process.

    Raises:
        SystemExit: 2 after one line about an error of the user, 130 after a Ctrl-C, 143 after a
            SIGTERM, 1 after one line if another process of the same run has ended.
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
    # Waiting threads should sleep: on a shared machine, spinning threads slow a small network
    # tenfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    # During an import, a Ctrl-C could look like a failed import.
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    gc.disable()  # imports make no garbage, and collecting it would take a second
    try:
        importlib.import_module("darts_noise.cli.commands").run(name, rest)
    finally:
        signal.signal(signal.SIGINT, before)


def ready() -> None:
    """Mark the end of all imports: from now on a Ctrl-C is a `KeyboardInterrupt`.

    From now on, a warning is one line.
    """
    gc.enable()
    warnings.formatwarning = _one_line  # type: ignore[assignment]
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _one_line(message: Warning | str, *_: object) -> str:
    """Return a warning as one line, without the line of code that raised it."""
    return f"warning: {' '.join(str(message).split())}\n"


def fail(message: object, program: str | None = None) -> NoReturn:
    """End the program with one line on standard error and exit status 2."""
    text = " ".join(str(message).split())
    print(f"{program or called()}: error: {text}", file=sys.stderr)
    raise SystemExit(2)


def called(command: str | None = None) -> str:
    """Return the command as the user called it, for messages.

    Args:
        command: a command that the user could call. None: the present command, as in ``search.py``
            or ``darts-noise search``.
    """
    path = Path(sys.argv[0])
    by_name = path.stem == COMMAND or path.name == "__main__.py"
    if command is not None:
        return f"{COMMAND} {command}" if by_name else f"python {command}.py"
    words = 3 if sys.argv[1:2] == ["ensemble"] else 2
    return " ".join([COMMAND, *sys.argv[1:words]]) if by_name else path.name or "darts_noise"


def usage() -> str:
    """Return the text of ``darts-noise --help``."""
    lines = [f"  {name:<8} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {COMMAND} COMMAND [--help] [ARGUMENTS ...]",
            "",
            *lines,
            "",
            "Search for cells that learn the data and cannot learn noise. Start with `search`.",
        ]
    )


def _leave(signum: int, frame: FrameType | None) -> None:
    """End the process at once: before a command runs there is nothing to close."""
    os._exit(130)
