"""A run whose folder has moved keeps its best epoch."""

import warnings
from pathlib import Path

import torch

from darts_noise.checkpoints.kept import PATHS, KeptCheckpoint


def test_what_was_best_is_found_in_the_folder_of_today(tmp_path: Path) -> None:
    before, now = (
        KeptCheckpoint(tmp_path / name, monitor="val/accuracy", mode="max") for name in "ab"
    )
    best = str(tmp_path / "a" / "best.ckpt")
    before.best_k_models = {best: torch.tensor(0.75)}
    before.best_model_path = before.kth_best_model_path = best
    before.best_model_score = before.kth_value = torch.tensor(0.75)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        now.load_state_dict(before.state_dict())
    moved = str(tmp_path / "b" / "best.ckpt")
    assert [getattr(now, key) for key in PATHS] == [moved, moved, ""]
    assert now.best_k_models == {moved: 0.75}
    assert now.best_model_score == now.kth_value == 0.75
