"""How Lightning writes and reads the checkpoints of a run: whole, sealed, and the one before kept.

A checkpoint takes its place in one step, when all of it is on the disk, so whatever stops the
program in between leaves ``last.ckpt`` or ``previous.ckpt`` whole.
"""

import errno
import io
import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import TorchCheckpointIO

from darts_noise.atomic import replacing
from darts_noise.checkpoints.seal import LENGTH_BYTES, read_whole, sealed_end

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


class SealedCheckpointIO(TorchCheckpointIO):
    """A plugin of the Trainer.

    Args:
        folder: of the run's checkpoints. It is never made anew: where it is gone, so is the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Writes ``path``; what ``last.ckpt`` was until now is ``previous.ckpt`` afterwards.

        Raises:
            OSError: it cannot be written; the error names it, and what it was is still there.
        """
        path = Path(path)
        ours = path.parent.resolve() == self.folder.resolve()
        if ours and not self.folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        # In memory first: torch hides the system's error when it writes to the disk itself.
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
        """Reads a checkpoint that is whole.

        Raises:
            ValueError: it is not.
        """
        whole = io.BytesIO(read_whole(Path(path)))
        checkpoint: dict[str, Any] = torch.load(whole, map_location, weights_only=weights_only)
        return checkpoint


def resumable(folder: Path) -> tuple[Path | None, str | None]:
    """The checkpoint to go on from, and what is to be said about it.

    A damaged ``last.ckpt`` is replaced by ``previous.ckpt`` or, where that is damaged too, by what
    ``best.ckpt`` holds.

    Returns:
        None where there is no checkpoint at all; no words where there is nothing to say.

    Raises:
        ValueError: there are checkpoints and none is whole.
    """
    for unfinished in folder.glob(".*.ckpt.*"):  # of a program that was killed
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
        which = {PREVIOUS: "the checkpoint before it", BEST: "that of the best epoch"}[path.name]
        return last, f"{why}; going on from {which}"
    if reasons:
        raise ValueError(f"resume: {'; '.join(reasons)}; no other checkpoint is there")
    return None, f"{folder} holds no checkpoint yet; beginning anew"
