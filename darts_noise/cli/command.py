"""``darts-noise COMMAND``: the scripts, the study and the report under one name.

It is what an installed package has in place of ``search.py`` and ``train.py``; both call the same
functions. Nothing heavy is imported here, so that ``--help`` is quick.
"""

import difflib
import sys

from darts_noise.cli.program import COMMAND
from darts_noise.cli.start import run, start

COMMANDS = {
    "search": "search a cell",
    "train": "train a network of a cell, on the data and on noise",
    "study": "searches, seeds and controls in one go, with a table",
    "report": "runs as one HTML page",
    "bundle": "the network of a training run as a folder for dn.load_pretrained",
}

MODULES = {
    "study": "darts_noise.study.command",
    "report": "darts_noise.report.__main__",
    "bundle": "darts_noise.pretrained.__main__",
}
"""Of the commands that are not scripts: those have a stored help; see `start`."""


def main() -> None:
    """Runs the command that the process's arguments name.

    Raises:
        SystemExit: what the command ends with; 2 after one line where there is none of that name.
    """
    name, *argv = sys.argv[1:] or [""]
    if name in ("-h", "--help"):
        print(usage())
    elif name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f": did you mean {close[0]!r}?" if close else ""
        expected = f"expected one of {', '.join(COMMANDS)}, got {name!r}{hint}"
        print(f"{COMMAND}: error: {expected} (--help explains them)", file=sys.stderr)
        raise SystemExit(2)
    elif name in MODULES:
        run(MODULES[name], argv)
    else:
        start(name, argv)


def usage() -> str:
    """What ``darts-noise --help`` prints."""
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
