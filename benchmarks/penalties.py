"""One step of a search with each penalty, as a multiple of one with λ = 0.

    python -m benchmarks.penalties

The searches (DARTS space, digits, one thread, float32) are interleaved in one process, and the
processor's time is counted, so that what else runs on the machine matters little. Writes
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
from darts_noise.runs.run import quiet_lightning

PLAIN = "none"
STEPS = 5
"""Of a search; the first one is not counted."""


class Timer(pl.Callback):
    """Processor seconds of each step but the first."""

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
    """Seconds of the steps of a short search."""
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
