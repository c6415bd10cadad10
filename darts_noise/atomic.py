"""Whole files or none: what a run leaves is never half written.

Every file that a run writes goes through here: a temporary file in the same folder, flushed to the
disk, then renamed over the old one.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` when the block ends without an error.

    Args:
        path: the file.
        keep: in the same folder; what ``path`` was until now goes by this name afterwards.

    Raises:
        OSError: the folder cannot be written to or the disk is full; it names ``path``, which is as
            it was.
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
        # The system says of a full disk only that it is full, and of others the temporary file.
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[IO[bytes], str]]:
    """A new file beside ``path`` and its name; removed if the block ends with an error."""
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
    """Writes ``text`` as UTF-8 in one step; see `replacing`."""
    with replacing(path) as file:
        file.write(text.encode())


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _read_umask()  # mkstemp makes files that only their owner may read
