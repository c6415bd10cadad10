"""What the commands do before the seconds of imports, and during them."""

import gc
import os
import signal
import sys
from importlib import import_module
from types import FrameType

from darts_noise.cli.help_text import stored_help
from darts_noise.cli.program import program

HELP_OPTIONS = (["--help"], ["-h"])


def start(script: str, argv: list[str] | None = None) -> None:
    """Runs a script of the project, or prints its stored help.

    Args:
        script: ``search`` or ``train``, the module beside this one.
        argv: its arguments; those of the process by default.

    Raises:
        SystemExit: what the script ends with; 130 after a Ctrl-C that nothing else has answered.
    """
    argv = sys.argv[1:] if argv is None else argv
    text = stored_help(script, program()) if argv in HELP_OPTIONS else None
    if text is not None:
        print(text, end="")
        return
    run(f"darts_noise.cli.{script}", argv)


def run(name: str, argv: list[str] | None = None) -> None:
    """Imports a module and runs its ``main``, with the arguments of the process by default.

    Raises:
        SystemExit: what it ends with; 130 after a Ctrl-C that nothing else has answered, 1 after
            one line where another process of the same run has ended.
    """
    # Threads that wait should sleep: on a shared machine, spinning ones slow a small network
    # tenfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A Ctrl-C in the midst of an import could be taken for a failure of that import.
    waiting = signal.getsignal(signal.SIGINT)
    if waiting is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    gc.disable()  # nothing that is imported is garbage yet, and looking for it takes a second
    module = import_module(name)
    gc.enable()
    signal.signal(signal.SIGINT, waiting)
    try:
        module.main(argv)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except RuntimeError as error:
        from darts_noise.distributed.collectives import lost_process

        message = lost_process(error)
        if message is None:
            raise
        print(message, file=sys.stderr)
        raise SystemExit(1) from None


def leave(signum: int, frame: FrameType | None) -> None:
    """Ends the process at once; before the script runs there is nothing to put away."""
    os._exit(130)
