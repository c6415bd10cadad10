"""A search by two processes equals a search by one with the whole batch, step by step."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor
from two_processes import alone_in_a_group, in_two_processes

import darts_noise as dn
from darts_noise.data.batches import BatchStream
from darts_noise.nets.synchronised import SynchronisedNorms

STEPS = 2
EXACT: dict[str, Any] = {"precision": "64-true", "accelerator": "cpu"}


@pytest.fixture(autouse=True)
def _double_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 a search magnifies the rounding of a sum in another order."""
    batch = BatchStream.batch

    def double(stream: BatchStream, number: int) -> tuple[Tensor, Tensor]:
        images, labels = batch(stream, number)
        return images.double(), labels

    monkeypatch.setattr(BatchStream, "batch", double)


class Watched(pl.Callback):
    """Keeps α, w and v after every step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.steps.append(
            {
                name: torch.cat([p.detach().flatten() for p in parameters]).clone()
                for name, parameters in pl_module.trained().items()
            }
        )


def searched(settings: dict[str, Any], trainer: dict[str, Any]) -> dict[str, Any]:
    """Runs a small search in this process, alone or as one of its group."""
    pl.seed_everything(0, verbose=False)
    together: dict[str, Any] = {}
    if dist.is_initialized():
        together = {"devices": dist.get_world_size(), "strategy": "ddp"}
        together |= {"plugins": [SynchronisedNorms()]}
    watched = Watched()
    run = pl.Trainer(
        max_epochs=1,
        limit_train_batches=STEPS,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[watched],
        **{**together, **trainer},
    )
    module = dn.SearchModule(
        **{
            "nodes": 2,
            "channels": 4,
            "num_cells": 3,
            "stem": "small",
            "noise_samples": 50,
            "learning_rate": 0.1,
            "alpha_learning_rate": 0.01,
            **settings,
        }
    )
    run.fit(module, datamodule=dn.ImageDataModule("digits", batch_size=16))
    figures = {k: float(v) for k, v in run.callback_metrics.items()}
    return {"steps": watched.steps, "cell": module.genotype().to_dict(), "figures": figures}


CASES: dict[str, dict[str, Any]] = {
    "first order": {"penalty": {"twin": {"form": "log"}}},
    "finite difference": {"hypergradient": "finite_difference", "twin_steps": 2},
    "exact": {"hypergradient": "exact"},
    "neumann": {"hypergradient": "neumann"},
    "lookahead": {"penalty": "lookahead"},
    "shared": {"penalty": "shared"},
    "macro rows": {"space": "small", "nodes": 1},
    "objectives": {
        **{"space": "low_pass", "nodes": 1, "noise_weight": 0.0},
        "objectives": {"adversarial": {"eps": 0.02}, "prunability": {}, "multiply_adds": {}},
    },
    "textbook": {"supernet": "textbook", "noise_weight": 0.0},
    "gdas": {"variants": {"gdas": {}}},
    "oles": {"variants": {"oles": {"window": 2}}},
    "darts_pt": {"variants": {"darts_pt": {"batches": 1}}},
    "smooth": {"variants": {"smooth_darts_adversarial": {"steps": 2}}},
    "curvature": {"variants": {"robust_darts": {"window": 1}}, "noise_weight": 0.0},
}
QUICK = ("first order", "macro rows", "objectives")


@pytest.mark.usefixtures("small_space")
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES]
)
def test_two_processes_make_the_steps_of_one(case: str, tmp_path: Path) -> None:
    settings = CASES[case]
    alone = searched(settings, EXACT)
    both = in_two_processes(searched, tmp_path, settings, EXACT)
    for step in range(STEPS):
        for name, expected in alone["steps"][step].items():
            first, second = (part["steps"][step][name] for part in both)
            assert torch.equal(first, second)
            torch.testing.assert_close(first, expected, rtol=1e-6, atol=1e-6)
    assert both[0]["cell"] == both[1]["cell"] == alone["cell"]
    for name, value in alone["figures"].items():
        assert [part["figures"][name] for part in both] == pytest.approx([value] * 2, abs=1e-6)


def test_a_group_of_one_makes_the_steps_of_one_process(device: torch.device) -> None:
    trainer = {**EXACT, "accelerator": device.type, "devices": 1}
    alone = searched(CASES["first order"], trainer)
    with alone_in_a_group(device):
        grouped = searched(CASES["first order"], trainer)
    for one, other in zip(grouped["steps"], alone["steps"], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert grouped["cell"] == alone["cell"]


def test_lightnings_own_synchronised_norms_are_refused() -> None:
    module = dn.SearchModule()
    module.net = torch.nn.SyncBatchNorm(2)  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"sync_batchnorm: .*plugins=\[darts_noise.Synchronised"):
        module.on_fit_start()
