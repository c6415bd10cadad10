"""Which epochs of a run are kept, also where the run's folder has moved since."""

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint

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
