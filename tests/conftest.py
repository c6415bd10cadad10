"""Fixtures for all tests: one thread, no network services, both devices, small data."""

import gc
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

import darts_noise as dn
from darts_noise.cli.program import main
from darts_noise.data.module import ImageDataModule
from darts_noise.runs import train as training
from darts_noise.runs.search import SearchOutputs
from darts_noise.space import spaces

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]

# Small tensors gain nothing from threads, and on a shared machine threads that wait for each other
# cost far more than they do.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("MPLBACKEND", "agg")


FEW = (
    "--data.train_samples=80",
    "--data.batch_size=20",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=2",
    "--model.channels=4",
    "--model.num_cells=3",
)
SMALL_SEARCH = (
    *FEW,
    "--model.nodes=1",
    "--model.warmup_epochs=0",
    "--model.noise_samples=40",
    "--model.race=0",
    "--model.macro=null",
)
SMALL_TRAIN = FEW


def search(argv: Sequence[str]) -> None:
    """``python search.py`` with these arguments, in this process."""
    main(["search", *argv])


def train(argv: Sequence[str]) -> None:
    """``python train.py`` with these arguments, in this process."""
    main(["train", *argv])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what is marked `cuda` where there is no GPU."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


def pytest_collection_finish() -> None:
    """What was imported and collected stays, so the garbage collector need not visit it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Each device in turn; float32 on both, where a GPU would convolve in TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return torch.device(request.param)


@pytest.fixture
def as_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is saved says that it was on a GPU, one that this machine does not have."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:7")


def in_a_fork(function: Callable[..., T], *args: Any) -> T:
    """What a function returns in a copy of this process that has not imported the package.

    To import torch and Lightning again, as a new process would, takes five seconds.

    Args:
        function: of a module's top level. It imports the package itself.
        args: handed on.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(_anew, function, *args).result()


def _anew(function: Callable[..., T], *args: Any) -> T:
    for name in [name for name in sys.modules if name.partition(".")[0] == "darts_noise"]:
        del sys.modules[name]
    return function(*args)


def refused(
    command: Callable[[Sequence[str]], None],
    argv: Sequence[str],
    capsys: pytest.CaptureFixture[str],
) -> str:
    """The one line on standard error with which a command ends, with status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        command(argv)
    error = capsys.readouterr().err
    assert (stop.value.code, error.count("\n")) == (2, 1), error
    assert "error: " in error
    return error


@contextmanager
def undrawn() -> Iterator[None]:
    """Within it no run draws, which takes most of the time of so small a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SearchOutputs, "draw", lambda *args: None)
        for name in ("save_cells", "save_figure", "draw_curves"):
            patch.setattr(training, name, lambda *args, **more: None)
        yield


@pytest.fixture
def no_drawings() -> Iterator[None]:
    with undrawn():
        yield


@dataclass(frozen=True)
class SmallRuns:
    """A search and the training of its cell on a few digits, with drawings and tracked offline.

    Attributes:
        root: the folder of all runs.
        search: the folder of the search.
        train: the folder of the training.
        said: what both have printed.
    """

    root: Path
    search: Path
    train: Path
    said: str


@pytest.fixture(scope="session")
def small_runs(tmp_path_factory: pytest.TempPathFactory) -> SmallRuns:
    root, said = tmp_path_factory.mktemp("runs"), io.StringIO()
    with redirect_stdout(said):
        search([*SMALL_SEARCH, f"--runs={root}", "--name=s"])
        train([*SMALL_TRAIN, f"--runs={root}", "--name=t", "--noise_controls=[]"])
    return SmallRuns(root, root / "search" / "s", root / "train" / "t", said.getvalue())


def inspected(file: Path, *options: str) -> str:
    """What W&B's own reader says of the ``.wandb`` file of an offline run: JSON, one a line."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "No such command" in done.stderr:
        pytest.skip("this version of W&B has no reader of offline runs")
    assert done.returncode == 0, done.stderr
    return done.stdout


def inspected_summary(file: Path) -> dict[str, Any]:
    """The run as that reader sums it up: its project, config, summary and state."""
    found: dict[str, Any] = json.loads(inspected(file, "--summary"))
    return found


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Reference values computed in float64 with the method authors' published definitions."""
    data: dict[str, Any] = json.loads((ROOT / "tests" / "golden" / "darts.json").read_text())
    return data


def wave(shape: tuple[int, ...], scale: float, shift: int) -> Tensor:
    """Pseudo-random values that depend on the shape alone: how the reference nets are filled."""
    t = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64) + shift
    u = torch.sin(12.9898 * t) * 43758.5453
    return (scale * math.sqrt(12) * (u - u.floor() - 0.5)).reshape(shape)


def fill(net: nn.Module) -> nn.Module:
    """Gives every convolution and linear layer the reference weights, in float64."""
    for module in net.double().modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            shape = tuple(module.weight.shape)
            module.weight.data = wave(shape, 1 / math.sqrt(math.prod(shape[1:])), shape[0])
            if module.bias is not None:
                module.bias.data.zero_()
    return net


def filled(implementation: str, **form: Any) -> dn.SuperNet:
    """A supernet of the DARTS space with the reference weights."""
    textbook = fill(dn.SuperNet("darts", **form, implementation="textbook"))
    assert isinstance(textbook, dn.SuperNet)
    if implementation == "textbook":
        return textbook
    return dn.SuperNet("darts", **form).double().load_textbook(textbook)


@pytest.fixture(scope="module")
def small_space() -> Iterator[str]:
    """The name of a space with all macro choices, whose search takes a fifth of that of `noise`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spaces, "_SPACES", dict(spaces._SPACES))
        macro = {
            "normalisation": ("batch", "none"),
            "input_filter": ("none", "blur_5x5"),
            "pooling": ("none", "average_2"),
            "width": (1.0, 0.5),
        }
        operations = ["none", "max_pool_3x3", "skip_connect", "conv_3x3"]
        dn.register_space("small", operations, 1, macro)
        yield "small"


@pytest.fixture
def digits() -> Callable[..., ImageDataModule]:
    """Makes a few digits, ready to use: ``digits(train_samples=80, batch_size=16)``."""

    def make(**settings: Any) -> ImageDataModule:
        data = ImageDataModule("digits", **{"train_samples": 120, "batch_size": 16, **settings})
        data.setup()
        return data

    return make
