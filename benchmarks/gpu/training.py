"""Training of the DARTS_V2 network: images per second of a plain loop and of this package.

36 channels, 20 cells, batch 96, as in arXiv:1806.09055. The plain loop is that of
`benchmarks.retrain` with eight worker processes, in float32. The package's side is `TrainModule`
under Lightning's Trainer in bf16 with channels_last: first as it is, last with torch.compile. One
training step on a fixed batch, eager and as a CUDA graph, without data and metrics, shows how much
there is left to gain.
"""

import argparse
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

import darts_noise as dn
from benchmarks.gpu.task import Graphed, Task, seconds
from benchmarks.retrain import (
    CLIP,
    PlainLoop,
    Turns,
    quiet,
    random_images,
    run_package,
)
from darts_noise.nets.network import WithAuxiliary

ROUNDS, STEPS = 5, 10


def measure(task: Task) -> None:
    """Record the images per second of both sides, in turns."""
    quiet()
    sizes = (
        {"channels": 4, "cells": 3, "batch": 4}
        if task.tiny
        else {
            "channels": 36,
            "cells": 20,
            "batch": 96,
        }
    )
    steps = 2 if task.tiny else STEPS
    args = argparse.Namespace(
        **sizes,
        device=task.device,
        precision="bf16",
        compile=False,
        steps=steps,
        workers=0 if task.tiny else 8,
    )
    images = steps * sizes["batch"]
    data = random_images((ROUNDS + 1) * images + 96)
    loop = PlainLoop(args, data)
    rows: dict[str, Any] = {}
    task.note(sizes=sizes, steps_of_a_round=steps, images_per_s=rows)

    def take_turns(name: str, beside: str) -> None:
        plain: list[float] = []
        turns = Turns(steps, lambda: plain.append(loop.run(steps)))
        run_package(args, data, ROUNDS + 1, turns)
        for side, times in ((name, turns.seconds[1:]), (beside, plain[1:])):
            rows[side] = {
                "median": round(images / median(times), 1),
                "range": [round(images / max(times), 1), round(images / min(times), 1)],
                "n": len(times),
            }
        pairs = zip(plain[1:], turns.seconds[1:], strict=True)
        rows[name]["times_as_fast_as_plain"] = round(median(p / q for p, q in pairs), 2)
        task.note(summary=", ".join(f"{side} {row['median']:.0f}" for side, row in rows.items()))

    take_turns("package, bf16", "plain, float32")
    if task.device == "cuda":
        _graph(sizes, rows, task)
    args.compile = True
    if not task.tiny:  # inductor takes minutes on a CPU
        take_turns("package, bf16, compiled", "plain, float32, beside the compiled")


def _graph(sizes: dict[str, int], rows: dict[str, Any], task: Task) -> None:
    torch.manual_seed(0)
    net = dn.create_model(
        "darts_v2", channels=sizes["channels"], num_cells=sizes["cells"], auxiliary=True
    ).to("cuda", memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(net.parameters(), 0.025, 0.9, weight_decay=3e-4)
    images = torch.randn(sizes["batch"], 3, 32, 32, device="cuda")
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (sizes["batch"],), device="cuda")

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            out = net(images)
            assert isinstance(out, WithAuxiliary)
            loss = F.cross_entropy(out.logits, labels) + 0.4 * F.cross_entropy(
                out.auxiliary, labels
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimiser.step()

    step()
    eager = [seconds(step) for _ in range(STEPS)]
    graph = Graphed(step)
    replayed = [seconds(graph) for _ in range(STEPS)]
    for name, times in (("one step, eager", eager), ("one step, graph", replayed)):
        rows[name] = {"median": round(sizes["batch"] / median(times), 1), "n": len(times)}
    task.note()
