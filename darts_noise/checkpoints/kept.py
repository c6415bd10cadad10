"""Which epochs of a run are kept, also where the run's folder has moved since."""

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint

from darts_noise.checkpoints.checkpoint_io import BEST, LAST

PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


class KeptCheckpoint(ModelCheckpoint):
    """Lightning's, which forgets how good its best epoch was when its folder has another name.

    A later epoch that is worse would then take the place of the best.
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
    """``last.ckpt`` after every epoch and, where there is a figure to judge by, ``best.ckpt``.

    Two of Lightning's, because one with ``save_last`` leaves out the epochs that are not the best.
    The last comes last, since it holds which was the best.

    Args:
        folder: of the checkpoints.
        monitor: the figure, the larger the better.
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
