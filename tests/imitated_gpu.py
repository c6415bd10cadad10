"""A device without values, on which the code for GPUs runs where there is no GPU.

Its tensors have only a shape, a type and a device (torch's `FakeTensor`). As on a GPU, an operation
on tensors of different devices fails. What makes the host wait for a GPU is noted instead.
"""

import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from lightning_fabric import accelerators as fabric_accelerators
from lightning_fabric import strategies as fabric_strategies
from pytorch_lightning import accelerators, strategies
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("lazy", 0)
"""The only type of device that FakeTensor's backward takes where its backend is not installed."""
FAKE = FakeTensorMode(allow_non_fake_inputs=True)
"""One for all tests, because tensors of the package's caches outlive a test."""
ATEN = torch.ops.aten
INDEXING = (ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default)
T = TypeVar("T")


class ImitatedGpu(TorchDispatchMode):
    """Runs the operations on `GPU`, or on what came from it, without values.

    Attributes:
        waits: what the host has waited for: an operation, and the line of the package that made it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = tree_leaves((args, kwargs))
        fakes = [x for x in given if isinstance(x, FakeTensor)]
        if not fakes and not any(isinstance(x, torch.device) and x.type == GPU.type for x in given):
            return function(*args, **kwargs)
        if function in (ATEN._local_scalar_dense.default, ATEN.equal.default):
            if any(x.device == GPU for x in fakes):
                self._note(function)
            if function is ATEN.equal.default:
                return False
            kind = fakes[0].dtype
            return {torch.bool: True}.get(kind, 1.0 if kind.is_floating_point else 0)
        with FAKE:
            out = function(*args, **kwargs)
        if function in (ATEN._to_copy.default, ATEN.copy_.default):
            source = args[function is ATEN.copy_.default]
            if source.device != out.device and not kwargs.get("non_blocking"):
                self._note(function)
        on_gpu = function in INDEXING and args[0].device == GPU
        if on_gpu and any(x is not None and x.device != GPU for x in args[1]):
            self._note(function)
        return out

    def _note(self, function: Any) -> None:
        frames = [f for f in traceback.extract_stack() if "/darts_noise/" in f.filename]
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "elsewhere"
        self.waits.append(f"{function} at {where.rpartition('/darts_noise/')[2]}")


@contextmanager
def imitated_gpu() -> Iterator[ImitatedGpu]:
    """Inside, tensors and modules can be moved to `GPU`."""
    autocast = torch.autocast.__init__

    def cast(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        autocast(self, "cpu" if device_type == GPU.type else device_type, *args, **kwargs)

    def copied(tensor: FakeTensor, memo: dict[int, Any]) -> Tensor:
        return memo.setdefault(id(tensor), tensor.detach().clone())

    replaced = torch.__future__.get_overwrite_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.autocast, "__init__", cast)
        patch.setattr(FakeTensor, "__deepcopy__", copied, raising=False)
        patch.setattr(pl.LightningModule, "cpu", lambda module: module)  # at the end of a fit
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        torch._C._set_only_lift_cpu_tensors(True)
        try:
            with ImitatedGpu() as gpu:
                yield gpu
        finally:
            torch._C._set_only_lift_cpu_tensors(False)
            torch.__future__.set_overwrite_module_params_on_conversion(replaced)


class _Accelerator(accelerators.CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        pass


class _FabricAccelerator(fabric_accelerators.CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        pass


def in_a_child(function: Callable[..., T], *args: Any) -> T:
    """Return what a function of a module's top level returns in a copy of this process.

    A backward on the device starts threads with which a process can no longer fork.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(_told, function, *args).result()


def _told(function: Callable[..., T], *args: Any) -> T:
    try:
        return function(*args)
    except Exception:  # some of torch's cannot be pickled
        raise AssertionError(traceback.format_exc()) from None


def fit(module: pl.LightningModule, data: pl.LightningDataModule, **settings: Any) -> list[str]:
    """Fit a module on the device, and return what its steps have waited for.

    What is not finite is read at once, because the optimisers of this device cannot skip a step; on
    CUDA it is read later (tests/search/test_search_finite.py). These reads do not count.
    """
    waits: list[str] = []
    with imitated_gpu() as gpu:

        class Watch(pl.Callback):
            def on_train_batch_start(self, *args: Any) -> None:
                gpu.waits.clear()

            def on_train_batch_end(self, *args: Any) -> None:
                assert {p.device for p in module.parameters()} == {GPU}
                if args[-1] > 0:  # the first step also copies what is copied once
                    waits.extend(wait for wait in gpu.waits if "finite.py" not in wait)

        pl.Trainer(
            max_epochs=1,
            limit_train_batches=3,
            limit_val_batches=1,
            strategy=strategies.SingleDeviceStrategy(device=GPU, accelerator=_Accelerator()),
            callbacks=[Watch()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            **settings,
        ).fit(module, datamodule=data)
    return waits


def fabric() -> Fabric:
    """Return Lightning's Fabric on the device."""
    strategy = fabric_strategies.SingleDeviceStrategy(device=GPU, accelerator=_FabricAccelerator())
    return Fabric(strategy=strategy)
