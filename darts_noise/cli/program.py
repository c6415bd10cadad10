"""How the program was called: ``search.py``, ``darts-noise search``, ``darts_noise.study``."""

import sys
from pathlib import Path

COMMAND = "darts-noise"


def program() -> str:
    """The name with which messages begin, from the arguments of the process."""
    path = Path(sys.argv[0])
    module = path.name == "__main__.py" and path.parent.name == "darts_noise"
    if path.stem == COMMAND or module:
        return " ".join([COMMAND, *sys.argv[1:2]])
    return path.name or "darts_noise"


def called(script: str) -> str:
    """How the user, who called this program, calls a script.

    Args:
        script: ``search`` or ``train``.
    """
    return f"{COMMAND} {script}" if program().startswith(COMMAND) else f"python {script}.py"
