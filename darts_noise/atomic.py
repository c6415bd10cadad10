"""Write files in one step, so that no run leaves a partly written file.

Every file of a run is written by this module: to a temporary file in the same folder, which is
flushed to the disk and then renamed to the final name.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[IO[bytes]]:
    """Yield a binary file that replaces ``path`` when the block ends without an error.

    Args:
        path: the file.
        keep: a path in the same folder. The old file is renamed to it. None (default): the old
            file is overwritten.

    Raises:
        OSError: the folder is not writable or the disk is full. The error names ``path``, which is
            unchanged.
    """
    try:
        with _temporary(path) as (file, name):
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_UMASK)
            if keep is not None and path.exists():
                os.replace(path, keep)
            os.replace(name, path)
    except OSError as error:
        if error.errno is None:
            raise
        # The system's error names no file, or the temporary file.
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[IO[bytes], str]]:
    """Yield a new file in the folder of ``path``, and its name. Delete it after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file, name
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 in one step; see `replacing`."""
    with replacing(path) as file:
        file.write(text.encode())


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _read_umask()  # files from mkstemp are readable only for their owner
