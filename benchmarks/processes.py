"""Compare a search in one process with a search in two: steps per second, and bytes sent.

    python -m benchmarks.processes

The search is a first-order, noise-aware `SearchModule` on scikit-learn's digits. It uses
Lightning's strategy ``ddp`` with gloo and one thread per process. ``same batch`` divides the batch
of one process between two processes. ``twice the batch`` gives each process a full batch. The
benchmark counts the bytes of the tensors that torch.distributed gets. For DDP's broadcast it counts
the bytes of the buffers. The bytes depend neither on the images nor on the batch size. On a busy
machine (see ``load_before``) the CPU seconds are more reliable than the steps per second.

The efficiency with more GPUs is calculated, not measured, for a fixed batch size per GPU:

    efficiency(P) = t / (t + 2 · (P − 1) / P · reduced / bandwidth
                           + (broadcast + P · gathered) / bandwidth + calls · latency)

The formula describes a ring without overlap of communication and computation. `ASSUMED` holds t,
the bandwidths and the latencies. The command writes ``docs/results/processes.json``.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing import start_processes

import darts_noise as dn
from benchmarks.commands import store, surroundings
from darts_noise.nets.synchronised import SynchronisedNorms
from darts_noise.train.progress import quiet_lightning

ASSUMED = {
    "step_s": 0.2,  # on one GPU with batch size 64
    "8 GPUs": {"bandwidth_gb_per_s": 200, "latency_us": 30},  # one machine, NVLink
    "64 GPUs": {"bandwidth_gb_per_s": 25, "latency_us": 100},  # 8 machines, 200 Gbit/s each
}


class Traffic:
    """A context that counts the calls and bytes that this process passes to torch.distributed."""

    def __init__(self) -> None:
        self.calls = {"reduced": 0, "gathered": 0}
        self.bytes = {"reduced": 0, "gathered": 0}

    def __enter__(self) -> "Traffic":
        self._plain = dist.all_reduce, dist.all_gather_into_tensor
        dist.all_reduce = self._counting("reduced", dist.all_reduce, 0)
        dist.all_gather_into_tensor = self._counting("gathered", dist.all_gather_into_tensor, 1)
        return self

    def __exit__(self, *error: object) -> None:
        dist.all_reduce, dist.all_gather_into_tensor = self._plain

    def _counting(self, kind: str, plain: Callable[..., Any], place: int) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            sent: Tensor = args[place]
            self.calls[kind] += 1
            self.bytes[kind] += sent.nbytes
            return plain(*args, **kwargs)

        return call


class Watch(pl.Callback):
    """The wall and CPU seconds of each step except the warm-up step, and the traffic."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.traffic: dict[str, Any] = {}

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        self._counted = Traffic().__enter__()
        self._began = time.perf_counter(), time.process_time()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        seconds = time.perf_counter() - self._began[0]
        cpu_seconds = time.process_time() - self._began[1]
        self._counted.__exit__()
        if args[-1]:
            self.seconds.append(seconds)
            self.cpu_seconds.append(cpu_seconds)
        broadcast = sum(b.nbytes for b in pl_module.buffers()) if dist.is_initialized() else 0
        self.traffic = {
            "calls": self._counted.calls,
            "bytes": {**self._counted.bytes, "broadcast": broadcast},
        }


@quiet_lightning()
def search(rank: int, folder: str, processes: int, args: dict[str, Any], sync: bool) -> None:
    """Make the steps of a search in one process. The first process saves its measurements."""
    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank)}
    if processes > 1:
        dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=processes)
    pl.seed_everything(0, verbose=False)
    watch = Watch()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=1,
        limit_train_batches=args["steps"] + 1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watch],
        plugins=[SynchronisedNorms()] if sync else None,
    )
    module = dn.SearchModule(channels=args["channels"], num_cells=args["cells"])
    data = dn.ImageDataModule("digits", batch_size=args["batch"])
    trainer.fit(module, datamodule=data)
    if rank == 0:
        torch.save((watch.seconds, watch.cpu_seconds, watch.traffic), f"{folder}/seen.pt")


def seen(
    processes: int, sync: bool = False, **args: Any
) -> tuple[list[float], list[float], dict[str, Any]]:
    """Return the wall seconds, CPU seconds and traffic of the first process of a search."""
    with tempfile.TemporaryDirectory() as folder:
        given = (folder, processes, args, sync)
        start_processes(search, given, nprocs=processes, start_method="fork")
        return tuple(torch.load(Path(folder) / "seen.pt", weights_only=True))


def timed(processes: int, **args: Any) -> dict[str, Any]:
    """Return the steps per second with ``processes`` processes, and the load of the machine."""
    load = os.getloadavg()[0]
    seconds, cpu_seconds, traffic = seen(processes, **args)
    return {
        "processes": processes,
        **args,
        "steps_per_s": round(1 / median(seconds), 3),
        "images_per_s": round(args["batch"] / median(seconds), 2),
        "seconds": [round(s, 3) for s in seconds],
        "cpu_seconds_of_a_process": [round(s, 3) for s in cpu_seconds],
        "load_before": round(load, 1),
        **traffic,
    }


def efficiency(traffic: dict[str, Any], gpus: int) -> float:
    """Return the efficiency with ``gpus`` GPUs, by the formula in the module docstring."""
    assumed: Any = ASSUMED[f"{gpus} GPUs"]
    sent, calls = traffic["bytes"], sum(traffic["calls"].values())
    moved = 2 * (gpus - 1) / gpus * sent["reduced"] + sent["broadcast"] + gpus * sent["gathered"]
    waits = moved / (1e9 * assumed["bandwidth_gb_per_s"]) + 1e-6 * assumed["latency_us"] * calls
    step: Any = ASSUMED["step_s"]
    return round(step / (step + waits), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=7, help="number of timed steps")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--cells", type=int, default=3)
    args = parser.parse_args()
    form = {"channels": args.channels, "cells": args.cells, "steps": args.steps}
    of_darts = {"channels": 16, "cells": 8, "steps": 0, "batch": 4}
    sides = {
        "one process": timed(1, batch=args.batch, **form),
        "two, same batch": timed(2, batch=args.batch, **form),
        "two, twice the batch": timed(2, batch=2 * args.batch, **form),
    }
    counted = {
        "DARTS's supernet": seen(2, **of_darts)[-1],
        "DARTS's supernet, synchronised norms": seen(2, sync=True, **of_darts)[-1],
    }
    result = {
        "command": (
            f"python -m benchmarks.processes --steps {args.steps} --batch {args.batch} "
            f"--channels {args.channels} --cells {args.cells}"
        ),
        **surroundings(),
        "timed": sides,
        "traffic of a step": counted,
        "assumed": ASSUMED,
        "expected": {
            name: {f"{gpus} GPUs": efficiency(found, gpus) for gpus in (8, 64)}
            for name, found in counted.items()
        },
    }
    store("processes", result)
    for name, found in sides.items():
        print(f"{name:22} {found['steps_per_s']:6} steps/s  {found['images_per_s']:6} images/s")
    for name, expected in result["expected"].items():
        print(name, counted[name]["bytes"], counted[name]["calls"], expected)


if __name__ == "__main__":
    main()
