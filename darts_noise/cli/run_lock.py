"""One process at a time goes on with a run: two would write over each other's checkpoints."""

import sys
from pathlib import Path
from typing import IO

from lightning_fabric.utilities.rank_zero import rank_zero_only

from darts_noise.cli.parser import UserError


class RunLock:
    """Held by the first process of a run from `take` to `release`, and no longer than it lives.

    The system's own lock on a file that every run has: a program that is killed leaves nothing
    behind that a person would have to remove. Where the file system or Windows knows no such locks,
    none is taken.

    Args:
        file: of the run, which is not replaced while the run lasts.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._held: IO[bytes] | None = None

    def take(self) -> None:
        """Takes the lock, without waiting for it.

        Raises:
            UserError: another process has it.
            OSError: the file cannot be written to.
        """
        first = getattr(rank_zero_only, "rank", 0) == 0
        if sys.platform == "win32" or not first:
            return
        import fcntl  # there is none on Windows

        held = self.file.open("r+b")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            raise UserError(
                f"resume: another process is at work on {self.file.parent}; stop it or wait for "
                "its end"
            ) from None
        except OSError:  # a file system without locks
            held.close()
            return
        self._held = held

    def release(self) -> None:
        """Gives the lock back; nothing where it is not held."""
        if self._held is not None:
            self._held.close()
            self._held = None
