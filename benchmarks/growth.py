"""How a search step grows with the sizes of the search: time, peak memory, exponents, a drawing.

    python -m benchmarks.growth

A step is α's first-order pass and w's pass through the shared supernet, as in
`benchmarks.search_step`. Each size is varied alone around one small setting: images in a batch,
channels, cells, nodes of a cell, pixels of an image's side, and candidates of an edge (so many
copies of the 3×3 separable convolution under names of their own, which are alike in cost; all else
has the eight of DARTS). An exponent is the slope of the logarithm of the seconds, or of the MiB,
over that of the size, through all values and between the two largest: 1 is proportional. The values
of a size take turns in one process; the peak memory of each comes from a process of its own, less
what the process held before its first step. Writes ``docs/results/growth_<device>.json``, ``.png``
and ``.svg``.
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
    """One setting.

    Attributes:
        batch: images of each of the two batches.
        channels: of a state before the first reduction.
        cells: of the supernet.
        nodes: of a cell.
        side: pixels of an image's height and width.
        candidates: of an edge, alike in cost; 0 for the eight of DARTS.
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
"""What is varied, and over which values."""
UNITS = {"batch": "images", "channels": "", "cells": "", "nodes": "", "side": "pixels"}


class SizedStep(Step):
    """The step of the shared supernet at these sizes."""

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
    """Peak memory in MiB of two steps, less what was held before them."""
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
    """The slope of the logarithm of the values over that of the sizes.

    >>> exponent([1, 2, 4], [3, 12, 48])
    2.0
    """
    return round(linear_regression([log(s) for s in sizes], [log(v) for v in values]).slope, 2)


def grown(values: Sequence[int], rounds: Sequence[Sequence[float]]) -> dict[str, float]:
    """The exponents of figures that belong to these sizes, the median of those of each round.

    What slows a whole round down, as another program does, leaves the exponents of it as they are.
    """
    return {
        "exponent": median(exponent(values, r) for r in rounds),
        "exponent_at_end": median(exponent(values[-2:], r[-2:]) for r in rounds),
    }


def measured(name: str, values: Sequence[int], args: argparse.Namespace) -> dict[str, Any]:
    """The figures of one size varied alone."""
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
    """Time above, memory below, a column for each size, both axes logarithmic."""
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
    # A process that takes a peak is then forked from one that has only imported the package.
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
