"""The arguments of each part: the device, the remaining time, and a file for its figures."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.pack import DATA
from darts_noise.atomic import write_text


@dataclass
class Task:
    """One part of the measurements, in its own process.

    Attributes:
        device: ``cuda`` or ``cpu``.
        tiny: the smallest sizes that still run every line.
        limit: seconds after which the process is ended, counted from its start.
        file: the JSON file that keeps what `note` is told.
    """

    device: str
    tiny: bool
    limit: float
    file: Path
    figures: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def note(self, **figures: Any) -> None:
        """Add figures to the part's result, and write them to disk."""
        self.figures |= figures
        write_text(self.file, json.dumps(self.figures))

    @property
    def left(self) -> float:
        """Return the seconds until the limit."""
        return self.started + self.limit - time.monotonic()

    @property
    def accelerator(self) -> str:
        """Return the name of the device in Lightning."""
        return "gpu" if self.device == "cuda" else "cpu"

    @property
    def cifar10(self) -> Path | None:
        """Return the folder of CIFAR-10 as JPEG files, or None if the images were not packed."""
        folder = DATA / "cifar10-jpeg"
        return folder if folder.is_dir() else None


def now() -> float:
    """Return the seconds on the wall clock, after the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(function: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    started = now()
    function()
    return now() - started


class Graphed:
    """A function that is captured as one CUDA graph. A call replays it.

    Args:
        function: works on the same tensors at every call and reads nothing back from the device.
        warm_up: calls before the capture.

    Attributes:
        result: what the function returned; a call fills these tensors anew.
    """

    def __init__(self, function: Callable[[], Any], warm_up: int = 3) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(warm_up):
                function()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.result = function()

    def __call__(self) -> Any:
        self.graph.replay()
        return self.result
