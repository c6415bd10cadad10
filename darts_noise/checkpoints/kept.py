"""Keep the checkpoints of the last and the best epoch, also if the run's folder has moved."""

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint

from darts_noise.checkpoints.checkpoint_io import BEST, LAST

PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


class KeptCheckpoint(ModelCheckpoint):
    """A `ModelCheckpoint` that remembers the best epoch after the folder was renamed.

    Lightning's class forgets the best figure in this case. A worse epoch would then replace the
    best.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self.dirpath is not None
        folder = Path(self.dirpath)

        def here(path: str) -> str:
            return str(folder / Path(path).name) if path else path

        moved = {
            **state_dict,
            **{key: here(state_dict[key]) for key in PATHS},
            "best_k_models": {here(path): s for path, s in state_dict["best_k_models"].items()},
            "dirpath": self.dirpath,
        }
        super().load_state_dict(moved)


def keep_checkpoints(folder: Path, monitor: str | None = None) -> list[KeptCheckpoint]:
    """Make the callbacks that write ``last.ckpt`` after every epoch and ``best.ckpt``.

    There are two callbacks, because one callback with ``save_last`` skips epochs that are not the
    best. The callback for ``last.ckpt`` runs last, because its file records the best epoch.

    Args:
        folder: folder of the checkpoints.
        monitor: the figure that decides the best epoch; larger is better. None (default): do not
            write ``best.ckpt``.
    """

    def keep(name: str, figure: str | None) -> KeptCheckpoint:
        return KeptCheckpoint(
            dirpath=folder,
            filename=Path(name).stem,
            monitor=figure,
            mode="max",
            save_top_k=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    return ([keep(BEST, monitor)] if monitor else []) + [keep(LAST, None)]
