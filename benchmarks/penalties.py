"""Measure the time of a search step with each penalty, as a multiple of a step with λ = 0.

    python -m benchmarks.penalties

The searches (DARTS space, digits, one thread, float32) take turns in one process. The benchmark
measures CPU time, which other programs disturb little. The command writes
``docs/results/penalties.json``.
"""

import argparse
import time
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch

import darts_noise as dn
from benchmarks.commands import store, surroundings
from darts_noise.train.progress import quiet_lightning

PLAIN = "none"
STEPS = 5
"""Steps of a search. The first step is a warm-up and not counted."""


class Timer(pl.Callback):
    """The CPU seconds of each step except the first."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.started = time.process_time()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx:
            self.seconds.append(round(time.process_time() - self.started, 4))


def steps(penalty: str, data: dn.ImageDataModule, form: dict[str, Any]) -> list[float]:
    """Make a short search and return the CPU seconds of its steps."""
    torch.manual_seed(0)
    how = {"noise_weight": 0.0} if penalty == PLAIN else {"penalty": penalty}
    module, timer = dn.SearchModule("darts", stem="small", **form, **how), Timer()
    pl.Trainer(
        max_epochs=1,
        limit_train_batches=STEPS,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[timer],
    ).fit(module, datamodule=data)
    return timer.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--cells", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = dn.ImageDataModule("digits", batch_size=args.batch)
    data.setup()
    form = {"channels": args.channels, "num_cells": args.cells, "nodes": args.nodes}
    found: dict[str, list[float]] = {name: [] for name in (PLAIN, *dn.list_penalties())}
    for _ in range(args.rounds):
        for name, seconds in found.items():
            with quiet_lightning():
                seconds += steps(name, data, form)
    plain = median(found[PLAIN])
    result = {
        "command": "python -m benchmarks.penalties",
        "setting": {
            **{k: getattr(args, k) for k in ("channels", "cells", "nodes", "batch")},
            "threads": 1,
        },
        **surroundings(),
        "penalties": {
            name: {
                "seconds": seconds,
                "median_s": round(median(seconds), 4),
                "time_ratio": round(median(seconds) / plain, 2),
            }
            for name, seconds in found.items()
        },
    }
    store("penalties", result)
    for name, of in result["penalties"].items():
        print(f"{name:12} {of['median_s']:8.3f} s  ×{of['time_ratio']}")


if __name__ == "__main__":
    main()
