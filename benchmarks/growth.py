"""Measure how the time and memory of a search step grow with the sizes of the search.

    python -m benchmarks.growth

A step is the first-order pass of α and the pass of w through the shared supernet, as in
`benchmarks.search_step`. The benchmark starts from one small setting and varies one size at a time:
images in a batch, channels, cells, nodes of a cell, pixels of an image's side, and candidates of an
edge. These candidates are copies of the 3×3 separable convolution, so they all cost the same. All
other measurements use the eight operations of DARTS.

The exponent is the slope of log(seconds), or log(MiB), over log(size). 1 means proportional. One
exponent uses all values, another the two largest. The values of a size take turns in one process. A
separate process measures the peak memory of each value, minus the memory before its first step. The
command writes ``docs/results/growth_<device>.json``, ``.png`` and ``.svg``.
"""

import argparse
import multiprocessing
import resource
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import log
from statistics import linear_regression, median
from typing import Any

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator
from torch.optim import SGD, Adam

import darts_noise as dn
from benchmarks.commands import RESULTS, store, surroundings
from benchmarks.search_step import Batch, Step
from darts_noise.report.style import OKABE_ITO, RC, save_figure
from darts_noise.space.operations import get_operation, register_operation
from darts_noise.space.spaces import Space, get_space


@dataclass(frozen=True)
class Sizes:
    """The sizes of one search step.

    Attributes:
        batch: images in each of the two batches.
        channels: channels of a state before the first reduction.
        cells: cells of the supernet.
        nodes: nodes of a cell.
        side: height and width of an image in pixels.
        candidates: candidates of an edge, all with the same cost. 0: the eight operations of DARTS.
    """

    batch: int = 8
    channels: int = 8
    cells: int = 6
    nodes: int = 4
    side: int = 32
    candidates: int = 0

    def space(self) -> Space:
        if not self.candidates:
            return get_space("darts", self.nodes)
        names = [f"growth_{i}" for i in range(self.candidates)]
        for name in set(names) - set(dn.list_operations()):
            register_operation("convolution", name=name)(get_operation("sep_conv_3x3").build)
        return Space("growth", tuple(names), self.nodes)


VARIED: dict[str, tuple[int, ...]] = {
    "batch": (4, 8, 16, 32),
    "channels": (4, 8, 16, 32),
    "cells": (3, 6, 12, 24),
    "nodes": (1, 2, 4, 8),
    "side": (8, 16, 32, 64),
    "candidates": (1, 2, 4, 8),
}
"""The values of each varied size."""
UNITS = {"batch": "images", "channels": "", "cells": "", "nodes": "", "side": "pixels"}


class SizedStep(Step):
    """A step of the shared supernet with given sizes."""

    def __init__(self, sizes: Sizes, device: str) -> None:
        torch.manual_seed(0)
        self.device, self.side = device, sizes.side
        self.autocast, self.twin = False, None
        space = sizes.space()
        self.arch = dn.Architecture(space).to(device)
        self.net = dn.SuperNet(space, channels=sizes.channels, num_cells=sizes.cells).to(device)
        self.of_alpha = Adam(self.arch.parameters(), 3e-4, (0.5, 0.999), weight_decay=1e-3)
        self.of_weights = [SGD(self.net.parameters(), 0.025, 0.9, weight_decay=3e-4)]
        self.train, self.validation = (self._batch(sizes.batch) for _ in range(2))

    def _batch(self, size: int) -> Batch:
        images = torch.randn(size, 3, self.side, self.side, device=self.device)
        return images, torch.randint(10, (size,), device=self.device)


def peak(sizes: Sizes, args: argparse.Namespace) -> float:
    """Return the peak memory in MiB of two steps, minus the memory before them."""
    torch.set_num_threads(args.threads)
    step = SizedStep(sizes, args.device)
    if args.device == "cuda":
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step.run()
        step.run()
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step.run()
    step.run()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 2**10


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of log(values) over log(sizes).

    >>> exponent([1, 2, 4], [3, 12, 48])
    2.0
    """
    return round(linear_regression([log(s) for s in sizes], [log(v) for v in values]).slope, 2)


def grown(values: Sequence[int], rounds: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return the exponents over the given sizes: the median over the rounds.

    A program that slows a whole round down does not change the exponents of that round.
    """
    return {
        "exponent": median(exponent(values, r) for r in rounds),
        "exponent_at_end": median(exponent(values[-2:], r[-2:]) for r in rounds),
    }


def measured(name: str, values: Sequence[int], args: argparse.Namespace) -> dict[str, Any]:
    """Return the measurements of one varied size."""
    settings = [replace(Sizes(), **{name: value}) for value in values]
    memory = []
    for sizes in settings:
        with multiprocessing.get_context("forkserver").Pool(1) as pool:
            memory.append(pool.apply(peak, (sizes, args)))
    steps = [SizedStep(sizes, args.device) for sizes in settings]
    rounds = [[step.run() for step in steps] for _ in range(args.repeats + 1)]
    rounds = rounds[1:]  # the first is a warm-up
    times = list(zip(*rounds, strict=True))
    medians = [median(t) for t in times]
    return {
        "values": list(values),
        "seconds": [[round(s, 4) for s in t] for t in times],
        "time_s": {"median": [round(m, 4) for m in medians], **grown(values, rounds)},
        "peak_mib": {"once": [round(m, 1) for m in memory], **grown(values, [memory])},
    }


def draw(sizes: dict[str, dict[str, Any]]) -> Figure:
    """Draw the time above and the memory below, one column per size, with logarithmic axes."""
    rows = (
        ("time_s", "median", "time of a step (s)", "blue", "o-"),
        ("peak_mib", "once", "peak memory (MiB)", "vermillion", "s--"),
    )
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(1.55 * len(sizes) + 0.5, 3.8), layout="constrained")
        panels = figure.subplots(2, len(sizes), sharex="col", sharey="row", squeeze=False)
        for (figure_of, kind, label, colour, line), row in zip(rows, panels, strict=True):
            row[0].set_ylabel(label)
            for axes, (name, found) in zip(row, sizes.items(), strict=True):
                shown = found[figure_of]
                axes.loglog(found["values"], shown[kind], line, color=OKABE_ITO[colour], ms=4)
                axes.set_title(f"∝ {name}$^{{{shown['exponent']:.2f}}}$", loc="left")
                _ticks(axes, found["values"])
        for axes, name in zip(panels[-1], sizes, strict=True):
            unit = UNITS.get(name)
            axes.set_xlabel(f"{name} ({unit})" if unit else name)
    return figure


def _ticks(axes: Axes, values: Sequence[int]) -> None:
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", color="#DDDDDD", linewidth=0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    # The processes that measure peaks then fork from a process that has only imported the package.
    multiprocessing.set_forkserver_preload(["benchmarks.search_step"])
    torch.set_num_threads(args.threads)
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.growth --device {args.device}",
        "setting": {**asdict(Sizes()), "threads": args.threads},
        **surroundings(args.device),
        "sizes": {},
    }
    for name, values in VARIED.items():
        found = result["sizes"][name] = measured(name, values, args)
        print(name, {k: v for k, v in found.items() if k != "seconds"}, flush=True)
    store(f"growth_{args.device}", result)
    save_figure(draw(result["sizes"]), RESULTS / f"growth_{args.device}")


if __name__ == "__main__":
    main()
