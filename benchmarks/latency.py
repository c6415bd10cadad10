"""Measure the time of one batch through a cell network, eager and exported.

    python -m benchmarks.latency

The benchmark times batches of 1 and of 64 images after one warm-up batch. The ways to run the
network take turns. The command writes wall time and CPU time to ``docs/results/latency.json``.
Other programs disturb the CPU time less. It needs ``pip install -e '.[onnx]'``.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

import darts_noise as dn
from benchmarks.commands import store, surroundings
from examples.export import exported, to_onnx

GENOTYPE = "darts_v2"
FORM = {"channels": 16, "num_cells": 8, "stem": "cifar"}
SIDE = 32
BATCHES = (1, 64)
RUNS = 15

Run = Callable[[Tensor], object]


def onnx_session(net: nn.Module, image: Tensor) -> Run:
    """Return a function that runs the network in ONNX Runtime, with torch's number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cell.onnx"
        to_onnx(net, image, path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(["logits"], {"images": x.numpy()})


def autocast(net: nn.Module) -> Run:
    """Return a function that runs the network with convolutions in bfloat16."""

    def run(x: Tensor) -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return net(x)

    return run


def ways() -> dict[str, Run]:
    """Return all ways to run the same network, by name."""
    torch.manual_seed(0)
    net = dn.create_model(GENOTYPE, **FORM).eval()
    image = torch.rand(3, SIDE, SIDE)
    return {
        "eager": net,
        "eager, bf16 autocast": autocast(net),
        "torch.export": exported(net, image).module(),
        "ONNX Runtime": onnx_session(net, image),
    }


@torch.inference_mode()
def timed(run: Run, images: Tensor) -> tuple[float, float]:
    """Return the wall time and the CPU time of one batch in milliseconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    run(images)
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)


def summary(values: list[float]) -> dict[str, Any]:
    return {"median": round(median(values), 2), "values": [round(v, 2) for v in values]}


def main() -> None:
    torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))
    runs = ways()
    result: dict[str, Any] = {
        "command": "python -m benchmarks.latency",
        "what": "milliseconds of one batch through a network in eval mode, float32 where not said",
        **surroundings(),
        "onnxruntime": onnxruntime.__version__,
        "setting": {
            "threads": torch.get_num_threads(),
            "channels": FORM["channels"],
            "cells": FORM["num_cells"],
            "stem": FORM["stem"],
            "genotype": GENOTYPE,
            "image": [3, SIDE, SIDE],
        },
        "n": RUNS,
        "batches": {},
    }
    for count in BATCHES:
        images = torch.rand(count, 3, SIDE, SIDE)
        for run in runs.values():
            timed(run, images)
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for _ in range(RUNS):
            for name, run in runs.items():
                figures[name].append(timed(run, images))
        result["batches"][str(count)] = {
            name: {
                "wall_ms": summary([wall for wall, _ in pairs]),
                "cpu_ms": summary([cpu for _, cpu in pairs]),
            }
            for name, pairs in figures.items()
        }
        store("latency", result)
        print(count, {n: f["cpu_ms"]["median"] for n, f in result["batches"][str(count)].items()})


if __name__ == "__main__":
    main()
