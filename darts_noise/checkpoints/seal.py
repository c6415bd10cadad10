"""Tells a whole checkpoint from a damaged one: its digest stands in the archive's own comment.

``torch.save`` writes a zip archive, which ends with the length of a comment (none) and the comment.
The comment here is the SHA-256 of all bytes before that length, so one file holds both and is
written in one step, and everything that reads zip archives or checkpoints still reads it.
"""

import hashlib
from pathlib import Path

MARK = b"sha256:"
LENGTH_BYTES = 2  # of a comment, little endian
COMMENT_BYTES = len(MARK) + 2 * hashlib.sha256().digest_size


def sealed_end(archive: bytes | memoryview) -> bytes:
    """What stands in place of the last two bytes of an archive without a comment."""
    comment = MARK + hashlib.sha256(archive[:-LENGTH_BYTES]).hexdigest().encode()
    return len(comment).to_bytes(LENGTH_BYTES, "little") + comment


def read_whole(path: Path) -> bytes:
    """The bytes of a sealed checkpoint.

    Raises:
        ValueError: it is empty, cut off or changed, or was never sealed; the message names it.
        OSError: it cannot be read.
    """
    sealed = path.read_bytes()
    end = LENGTH_BYTES + COMMENT_BYTES
    if sealed[-end:] != sealed_end(sealed[: len(sealed) - COMMENT_BYTES]):
        raise ValueError(f"{path} is damaged: expected a checkpoint that ends with its checksum")
    return sealed
