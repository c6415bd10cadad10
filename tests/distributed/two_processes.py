"""Two processes that have joined over gloo, as torchrun would start them, and a group of one."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes


def in_two_processes(function: Callable[..., Any], folder: Path, *args: Any) -> list[Any]:
    """What ``function(*args)`` returns in each, by rank; of tensors and plain values.

    Args:
        function: of a module's top level.
        folder: an empty one.
        args: handed on.
    """
    # Forked: to import everything again would take many seconds.
    start_processes(_join, args=(function, str(folder), args), nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def _join(rank: int, function: Callable[..., Any], folder: str, args: tuple[Any, ...]) -> None:
    os.environ["LOCAL_RANK"] = str(rank)  # from which Lightning knows that it starts no others
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(function(*args), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@contextmanager
def alone_in_a_group(device: torch.device) -> Iterator[None]:
    """Within it this process is a group, over NCCL on a GPU, which two processes cannot share."""
    backend, more = "gloo", {}
    if device.type == "cuda":
        backend, more = "nccl", {"device_id": torch.device("cuda", torch.cuda.current_device())}
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, **more)
    try:
        yield
    finally:
        dist.destroy_process_group()
