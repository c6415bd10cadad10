"""Measure the time and memory of each hypergradient, as multiples of the first-order method.

    python -m benchmarks.hypergradient

Each method computes one gradient with respect to α of the DARTS supernet (16 channels, 8 cells,
batch 16, 32×32, float32). The methods take turns in one process. A separate process measures the
peak memory of each method. The command writes ``docs/results/hypergradient.json``.
"""

import argparse
import json
import multiprocessing
import os
import resource
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

import darts_noise as dn
from darts_noise.atomic import write_text
from darts_noise.report.measured import versions
from darts_noise.search.hypergradients import METHODS, InnerStep, hypergradient, objective

OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "hypergradient.json"


class Problem:
    """A supernet with a training and a validation batch."""

    def __init__(self, channels: int, cells: int, batch: int, implementation: str) -> None:
        torch.manual_seed(0)
        self.net = dn.SuperNet(
            "darts", channels=channels, num_cells=cells, implementation=implementation
        )
        self.arch = dn.Architecture("darts")
        self.outer, self.inner = (self._loss(batch) for _ in range(2))

    def _loss(self, batch: int) -> Any:
        x, y = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
        return objective(self.net, lambda call: F.cross_entropy(call(x, self.arch()), y))

    def run(self, method: str) -> float:
        """Compute one hypergradient and return the seconds that it took."""
        started = time.perf_counter()
        hypergradient(
            self.outer,
            self.inner,
            list(self.net.parameters()),
            list(self.arch.parameters()),
            method=method,
            step=InnerStep(0.025, 3e-4),
        )
        return time.perf_counter() - started


def peak(method: str, problem: tuple[int, int, int, str], threads: int) -> int:
    """Return the peak resident memory in MiB of a process that computes one hypergradient."""
    torch.set_num_threads(threads)
    Problem(*problem).run(method)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--implementation", default="textbook", choices=["textbook", "shared"])
    args = parser.parse_args()
    form = (args.channels, args.cells, args.batch, args.implementation)
    memory = {}
    for method in METHODS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            memory[method] = pool.apply(peak, (method, form, torch.get_num_threads()))
    problem = Problem(*form)
    times: dict[str, list[float]] = {method: [] for method in METHODS}
    for _ in range(args.repeats):
        for method in METHODS:
            times[method].append(problem.run(method))
    table = {
        method: {
            "seconds": [round(t, 3) for t in times[method]],
            "median_s": round(median(times[method]), 3),
            "time_ratio": round(
                median(t / f for t, f in zip(times[method], times["first_order"], strict=True)), 2
            ),
            "peak_mib": memory[method],
            "memory_ratio": round(memory[method] / memory["first_order"], 2),
        }
        for method in METHODS
    }
    result = {
        "command": f"python -m benchmarks.hypergradient --implementation {args.implementation}",
        "setting": {"channels": args.channels, "cells": args.cells, "batch": args.batch},
        "hardware": {"cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": versions(),
        "methods": table,
    }
    write_text(OUT, json.dumps(result, indent=1) + "\n")
    for method, row in table.items():
        print(
            f"{method:18} {row['median_s']:8.2f} s  ×{row['time_ratio']:<6} "
            f"{row['peak_mib']:6} MiB  ×{row['memory_ratio']}"
        )


if __name__ == "__main__":
    main()
