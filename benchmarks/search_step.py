"""Compare a search step of the shared and the textbook supernet: time, memory, launches, floor.

    python -m benchmarks.search_step
    python -m benchmarks.search_step --device cuda --batch 64 --precision bf16
    python -m benchmarks.search_step --stem imagenet --channels 48 --cells 14 --batch 8 --repeats 2

A plain step is the first-order pass of α on a validation batch and the pass of w on a training
batch, each with its optimiser's update. The noise-aware step adds one pass of the twin for both α
and v. The steps take turns in one process. A separate process measures the peak memory of each
step, minus the memory before the first step. Launches are the tensor operations of a forward and
backward pass, without views. The floor is a lower bound of the time. It is the arithmetic at the
speed of a large matrix product, plus one write and one read of the tensors saved for the backward
pass at the speed of a copy. The command writes
``docs/results/search_step_<device>_<precision>[_imagenet][_<threads>_threads].json``.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import darts_noise as dn
from benchmarks.commands import store, surroundings
from darts_noise.search.gradients import assign, first_order_gradient, noise_pass, weights_pass

SIDES = ("textbook", "shared", "shared, noise-aware")
CLASSES_AND_SIDE = {"cifar": (10, 32), "imagenet": (1000, 224)}
"""Stem → number of classes, and height and width of an image in pixels."""
Batch = tuple[Tensor, Tensor]


class Step:
    """The networks, optimisers and batches of one side."""

    def __init__(self, side: str, args: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.autocast = args.precision == "bf16"
        self.device = args.device
        self.arch = dn.Architecture("darts").to(args.device)
        implementation, *noise = side.split(", ")
        self.num_classes, self.side = CLASSES_AND_SIDE[args.stem]
        form = {
            "num_classes": self.num_classes,
            "channels": args.channels,
            "num_cells": args.cells,
            "stem": args.stem,
        }
        nets = [
            dn.SuperNet("darts", **form, implementation=implementation).to(args.device)
            for _ in range(1 + len(noise))
        ]
        self.net, *twins = nets
        self.twin = twins[0] if twins else None
        self.of_alpha = Adam(self.arch.parameters(), 3e-4, (0.5, 0.999), weight_decay=1e-3)
        self.of_weights = [SGD(n.parameters(), 0.025, 0.9, weight_decay=3e-4) for n in nets]
        self.train, self.validation, self.noise = (self._batch(args.batch) for _ in range(3))

    def _batch(self, size: int) -> Batch:
        images = torch.randn(size, 3, self.side, self.side, device=self.device)
        return images, torch.randint(self.num_classes, (size,), device=self.device)

    def precision(self) -> AbstractContextManager[object]:
        if self.autocast:
            return torch.autocast(self.device, torch.bfloat16)
        return nullcontext()

    def run(self) -> float:
        """Make one step and return its seconds."""
        started = time.perf_counter()
        with self.precision():
            found = first_order_gradient(self.net, self.arch, self.validation).gradients
            of_twin = None
            if self.twin is not None:
                noise, of_twin = noise_pass(
                    self.twin, self.arch, self.noise, self.num_classes, dn.noise_fit_penalty
                )
                found = [f + n for f, n in zip(found, noise.gradients, strict=True)]
            self._update(self.of_alpha, list(self.arch.parameters()), found)
            relaxed = {k: w.detach() for k, w in self.arch().items()}
            done = weights_pass(self.net, relaxed, self.train)
        self._update(self.of_weights[0], list(self.net.parameters()), done.gradients)
        if self.twin is not None and of_twin is not None:
            self._update(self.of_weights[1], list(self.twin.parameters()), of_twin.gradients)
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    @staticmethod
    def _update(optimiser: Any, parameters: list[Any], values: list[Tensor]) -> None:
        assign(parameters, values, clip=5.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


class Launches(TorchDispatchMode):
    """A counter of tensor operations other than views."""

    VIEWS = ("aten::detach", "aten::_unsafe_view", "aten::empty")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func.overloadpacket._qualified_op_name not in self.VIEWS:
            self.count += 1
        return func(*args, **(kwargs or {}))


def launches(implementation: str, args: argparse.Namespace) -> int:
    """Return the number of launches of a forward and backward pass for α and w on a GPU."""
    step = Step(implementation, argparse.Namespace(**{**vars(args), "device": "meta"}))
    relaxed = step.arch()
    with Launches() as counted:
        loss = torch.nn.functional.cross_entropy(step.net(step.train[0], relaxed), step.train[1])
        torch.autograd.grad(loss, [*step.arch.parameters(), *step.net.parameters()])
    return counted.count


def peak(side: str, args: argparse.Namespace) -> int:
    """Return the peak memory in MiB of two steps, minus the memory before them."""
    torch.set_num_threads(args.threads)
    step = Step(side, args)
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        step.run()
        step.run()
        return (torch.cuda.max_memory_allocated() - held) >> 20
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step.run()
    step.run()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) // 1024


def timed(function: Callable[[], object], device: str, repeats: int = 7) -> float:
    function()
    values = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        values.append(time.perf_counter() - started)
    return min(values)


def floor(args: argparse.Namespace) -> dict[str, float]:
    """Return the floor: the seconds of a plain step at the speed of matrix products and copies."""
    step = Step("textbook", args)
    with FlopCounterMode(display=False) as counter:
        step.run()
    kept: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    shared = Step("shared", args)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t), step.precision():
        loss = shared.net(shared.train[0], shared.arch()).sum()
    del loss
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    a = torch.randn(2048, 2048, device=args.device, dtype=dtype)
    b = torch.randn(2**25, device=args.device)
    c = torch.empty_like(b)
    rate = 2 * 2048**3 / timed(lambda: a @ a, args.device)
    copy = 2 * b.nbytes / timed(lambda: c.copy_(b), args.device)
    flops, moved = counter.get_total_flops(), 2 * 2 * sum(kept.values())
    return {
        "gflop": round(flops / 1e9, 1),
        "matmul_gflop_per_s": round(rate / 1e9, 1),
        "copy_gb_per_s": round(copy / 1e9, 2),
        "kept_mib_per_pass": round(sum(kept.values()) / 2**20),
        "arithmetic_s": round(flops / rate, 3),
        "memory_s": round(moved / copy, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--stem", default="cifar", choices=CLASSES_AND_SIDE)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    memory = {}
    for side in SIDES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            memory[side] = pool.apply(peak, (side, args))
    steps = {side: Step(side, args) for side in SIDES}
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for repeat in range(args.repeats + 1):
        for side, step in steps.items():
            seconds = step.run()
            if repeat:  # the first is a warm-up
                times[side].append(seconds)
    lowest = floor(args)
    table = {
        side: {
            "seconds": [round(t, 3) for t in times[side]],
            "median_s": round(median(times[side]), 3),
            "peak_mib": memory[side],
            "of_floor": round(
                (lowest["arithmetic_s"] + lowest["memory_s"]) / median(times[side]), 2
            ),
        }
        for side in SIDES
    }

    def ratio(slow: str, fast: str) -> float:
        pairs = zip(times[slow], times[fast], strict=True)
        return round(median(s / f for s, f in pairs), 2)

    counts = {name: launches(name, args) for name in SIDES[:2]}
    result = {
        "command": (
            f"python -m benchmarks.search_step --device {args.device} --precision {args.precision} "
            f"--stem {args.stem} --channels {args.channels} --cells {args.cells} "
            f"--batch {args.batch} --threads {args.threads} --repeats {args.repeats}"
        ),
        "setting": {k: getattr(args, k) for k in ("stem", "channels", "cells", "batch", "threads")},
        **surroundings(args.device),
        "sides": table,
        "textbook_over_shared": ratio("textbook", "shared"),
        "noise_aware_over_plain": ratio("shared, noise-aware", "shared"),
        "memory_shared_over_textbook": round(memory["shared"] / memory["textbook"], 2),
        "launches": counts,
        "floor": lowest,
    }
    threads = f"_{args.threads}_threads" if args.device == "cpu" else ""
    of_stem = "" if args.stem == "cifar" else f"_{args.stem}"
    store(f"search_step_{args.device}_{args.precision}{of_stem}{threads}", result)
    for side, row in table.items():
        print(f"{side:20} {row['median_s']:7.3f} s  {row['peak_mib']:6} MiB")
    for key in ("textbook_over_shared", "noise_aware_over_plain", "memory_shared_over_textbook"):
        print(f"{key:28} {result[key]}")
    print("launches", counts, "floor", lowest)


if __name__ == "__main__":
    main()
