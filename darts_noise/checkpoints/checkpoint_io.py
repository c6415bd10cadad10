"""Write and read the checkpoints of a run with checksums, and keep the previous checkpoint.

A checkpoint gets its name in one step, after all its bytes are on the disk. If the program is
killed at any time, ``last.ckpt`` or ``previous.ckpt`` is complete.

``torch.save`` writes a zip archive, which ends with the length of a comment (0) and the comment.
This module writes the SHA-256 of all bytes before this length as the comment. So checkpoint and
digest are one file, and every reader of zip archives or checkpoints still reads it.
"""

import errno
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import TorchCheckpointIO

from darts_noise.atomic import replacing

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
MARK = b"sha256:"
LENGTH_BYTES = 2  # size of the comment's length, little endian
COMMENT_BYTES = len(MARK) + 2 * hashlib.sha256().digest_size


class SealedCheckpointIO(TorchCheckpointIO):
    """A plugin of Lightning's Trainer that seals checkpoints with a checksum.

    Args:
        folder: folder of the run's checkpoints. If it is missing, it is not created again, because
            the run was deleted.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write ``path``. If it is ``last.ckpt``, rename the old file to ``previous.ckpt``.

        Raises:
            OSError: the file cannot be written. The error names it, and the old file is unchanged.
        """
        path = Path(path)
        ours = path.parent.resolve() == self.folder.resolve()
        if ours and not self.folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        # First into memory: torch hides the system's error if it writes to the disk.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        archive = buffer.getbuffer()
        keep = path.with_name(PREVIOUS) if ours and path.name == LAST else None
        with replacing(path, keep) as file:
            file.write(archive[:-LENGTH_BYTES])
            file.write(sealed_end(archive))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            ValueError: the checkpoint is damaged.
        """
        whole = io.BytesIO(read_whole(Path(path)))
        checkpoint: dict[str, Any] = torch.load(whole, map_location, weights_only=weights_only)
        return checkpoint


def resumable(folder: Path) -> tuple[Path | None, str | None]:
    """Find the checkpoint to resume from.

    A damaged ``last.ckpt`` is replaced by ``previous.ckpt``. If this is damaged too, it is replaced
    by a copy of ``best.ckpt``.

    Returns:
        The checkpoint (None: there is no checkpoint yet) and a message for the user (None: no
        message).

    Raises:
        ValueError: there are checkpoints, but all of them are damaged.
    """
    for unfinished in folder.glob(".*.ckpt.*"):  # from a program that was killed
        unfinished.unlink(missing_ok=True)
    last = folder / LAST
    reasons: list[str] = []
    for path in (last, folder / PREVIOUS, folder / BEST):
        if not path.exists():
            continue
        try:
            whole = read_whole(path)
        except (ValueError, OSError) as error:
            reasons.append(str(error))
            continue
        if path == last:
            return last, None
        if path.name == PREVIOUS:
            os.replace(path, last)
        else:
            with replacing(last) as file:
                file.write(whole)
        why = "; ".join(reasons) or f"{last} is missing"
        which = {PREVIOUS: "the checkpoint before it", BEST: "the checkpoint of the best epoch"}[
            path.name
        ]
        return last, f"{why}; resuming from {which}"
    if reasons:
        raise ValueError(f"resume: {'; '.join(reasons)}; there is no other checkpoint")
    return None, f"{folder} has no checkpoint yet; starting from the beginning"


def sealed_end(archive: bytes | memoryview) -> bytes:
    """Return the bytes that replace the last two bytes of an archive without a comment."""
    comment = MARK + hashlib.sha256(archive[:-LENGTH_BYTES]).hexdigest().encode()
    return len(comment).to_bytes(LENGTH_BYTES, "little") + comment


def read_whole(path: Path) -> bytes:
    """Read the bytes of a sealed checkpoint.

    Raises:
        ValueError: the file is empty, cut off, changed or was never sealed. The message names it.
        OSError: the file cannot be read.
    """
    sealed = path.read_bytes()
    end = LENGTH_BYTES + COMMENT_BYTES
    if sealed[-end:] != sealed_end(sealed[: len(sealed) - COMMENT_BYTES]):
        raise ValueError(f"{path} is damaged: expected a checkpoint that ends with its checksum")
    return sealed
