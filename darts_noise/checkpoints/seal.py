"""Detect damaged checkpoints by a digest in the comment of the zip archive.

``torch.save`` writes a zip archive, which ends with the length of a comment (0) and the comment.
This module writes the SHA-256 of all bytes before this length as the comment. So checkpoint and
digest are one file, written in one step, and every reader of zip archives or checkpoints still
reads it.
"""

import hashlib
from pathlib import Path

MARK = b"sha256:"
LENGTH_BYTES = 2  # size of the comment's length, little endian
COMMENT_BYTES = len(MARK) + 2 * hashlib.sha256().digest_size


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
