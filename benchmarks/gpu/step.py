"""Measure one search step in each mode: supernet × precision × eager, CUDA graph, compiled.

A plain step updates α (first order, Adam) on a validation batch and w (SGD, clipped) on a training
batch. A noise-aware step also runs the twin on a noise batch, which gives both v and α a gradient.
Each form's gradients are first compared with the textbook supernet's in float64 on the same device.
The eager and the captured forms of a precision take turns; the compiled ones come last, since
compilation may take longer than the part has.

The floor is the step's arithmetic at the speed of a large matrix product of the same precision,
plus what a pass keeps for its backward, written and read once at the speed of a copy.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import darts_noise as dn
from benchmarks.gpu.task import Graphed, Task, now, seconds
from benchmarks.search_step import Launches

SIDES = ("textbook", "shared", "shared, noise-aware")
COMPILED = (
    ("shared", "bf16"),
    ("textbook", "bf16"),
    ("shared, noise-aware", "bf16"),
    ("shared", "float32"),
    ("textbook", "float32"),
)
"""The modes to compile, the most important first."""
TOLERANCE = {"float32": 1e-3, "tf32": 5e-2, "bf16": 2e-1}
"""Largest relative error of a gradient, ‖g − g'‖ / ‖g'‖, that counts as equal."""
ROUNDS, CLIP = 20, 5.0


@dataclass(frozen=True)
class Sizes:
    """Sizes of the supernet and of a batch."""

    channels: int = 16
    cells: int = 8
    nodes: int = 4
    batch: int = 64
    side: int = 32


TINY = Sizes(channels=4, cells=3, nodes=1, batch=4, side=8)


class Step:
    """Networks, optimisers and fixed batches of one mode.

    Args:
        side: one of `SIDES`.
        sizes: of the networks and batches.
        device: where everything is.
        precision: ``float64``, ``float32``, ``tf32`` or ``bf16``.
        compiled: the backend of torch.compile, or None.
    """

    def __init__(
        self, side: str, sizes: Sizes, device: str, precision: str, compiled: str | None = None
    ) -> None:
        torch.manual_seed(0)
        implementation, *noise = side.split(", ")
        self.precision, self.device = precision, device
        self.arch = dn.Architecture("darts", sizes.nodes)
        form = {"channels": sizes.channels, "num_cells": sizes.cells, "nodes": sizes.nodes}
        textbooks = [
            dn.SuperNet("darts", **form, implementation="textbook") for _ in range(1 + len(noise))
        ]
        nets = textbooks
        if implementation == "shared":
            nets = [dn.SuperNet("darts", **form).load_textbook(t) for t in textbooks]
        dtype = torch.float64 if precision == "float64" else torch.float32
        self.nets = [net.to(device, dtype) for net in nets]
        self.arch.to(device, dtype)
        self.call: list[Callable[..., Tensor]] = [
            torch.compile(net, backend=compiled) if compiled else net for net in self.nets
        ]
        torch.manual_seed(1)  # the same batches for every side
        self.validation, self.train, self.noise = (
            (
                torch.randn(sizes.batch, 3, sizes.side, sizes.side).to(device, dtype),
                torch.randint(10, (sizes.batch,)).to(device),
            )
            for _ in range(3)
        )
        self.of_alpha = Adam(
            self.arch.parameters(),
            3e-4,
            (0.5, 0.999),
            weight_decay=1e-3,
            capturable=device == "cuda",
        )
        self.of_weights = [SGD(n.parameters(), 0.025, 0.9, weight_decay=3e-4) for n in self.nets]

    def __call__(self) -> None:
        """Make one step."""
        with self._precision():
            alpha, *twin = self._alpha_gradients()
            self._update(self.of_alpha, self.arch, alpha)
            weights = self._weight_gradients()
            for optimiser, net, found in zip(
                self.of_weights, self.nets, [weights, *twin], strict=True
            ):
                self._update(optimiser, net, found, CLIP)

    def gradients(self) -> list[list[Tensor]]:
        """Return the gradients with respect to α, w and, if there is a twin, v. Make no update."""
        with self._precision():
            alpha, *twin = self._alpha_gradients()
            return [alpha, self._weight_gradients(), *twin]

    def _alpha_gradients(self) -> list[list[Tensor]]:
        alphas = list(self.arch.parameters())
        images, labels = self.validation
        loss = F.cross_entropy(self._logits(0, images), labels)
        found = list(torch.autograd.grad(loss, alphas))
        if len(self.nets) == 1:
            return [found]
        images, labels = self.noise
        loss = F.cross_entropy(self._logits(1, images), labels)
        both = torch.autograd.grad(loss, [*alphas, *self.nets[1].parameters()])
        reached = loss.detach().requires_grad_()
        [slope] = torch.autograd.grad(dn.noise_fit_penalty(reached, 10), reached)
        found = [f + slope * n for f, n in zip(found, both, strict=False)]
        return [found, list(both[len(alphas) :])]

    def _weight_gradients(self) -> list[Tensor]:
        images, labels = self.train
        logits = self._logits(0, images, {k: w.detach() for k, w in self.arch().items()})
        return list(
            torch.autograd.grad(F.cross_entropy(logits, labels), list(self.nets[0].parameters()))
        )

    def _logits(self, net: int, images: Tensor, relaxed: Any = None) -> Tensor:
        logits = self.call[net](images, self.arch() if relaxed is None else relaxed)
        return logits if logits.dtype == torch.float64 else logits.float()

    def _precision(self) -> AbstractContextManager[object]:
        torch.backends.cuda.matmul.allow_tf32 = self.precision == "tf32"
        torch.backends.cudnn.allow_tf32 = self.precision == "tf32"
        if self.precision == "bf16":
            # A cached cast would be computed once, before the capture of a graph, and become
            # outdated.
            return torch.autocast(self.device, torch.bfloat16, cache_enabled=False)
        return nullcontext()

    @staticmethod
    def _update(
        optimiser: torch.optim.Optimizer,
        module: nn.Module,
        found: Sequence[Tensor],
        clip: float = 0,
    ) -> None:
        for parameter, gradient in zip(module.parameters(), found, strict=True):
            parameter.grad = gradient
        if clip:
            nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    def in_textbook_order(self, found: list[list[Tensor]]) -> list[Tensor]:
        """Return one vector each for α, w and v, in the order of the textbook's parameters."""
        vectors = [_flat(found[0])]
        for net, values in zip(self.nets, found[1:], strict=True):
            holder = copy.deepcopy(net)
            for parameter, value in zip(holder.parameters(), values, strict=True):
                parameter.data = value.detach()
            textbook = holder if net.implementation == "textbook" else holder.to_textbook()
            vectors.append(_flat(p.detach() for p in textbook.parameters()))
        return vectors


def _flat(tensors: Iterator[Tensor] | Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().double().reshape(-1) for t in tensors])


class Reference:
    """The textbook's gradients in float64, and the errors of other modes."""

    def __init__(self, sizes: Sizes, device: str) -> None:
        self.sizes, self.device = sizes, device
        self._found: dict[int, list[Tensor]] = {}

    def error(self, step: Step, found: list[list[Tensor]]) -> dict[str, float]:
        """Return ‖g − g'‖ / ‖g'‖ for α, w and v."""
        count = len(step.nets)
        if count not in self._found:
            exact = Step(
                "textbook, noise-aware" if count == 2 else "textbook",
                self.sizes,
                self.device,
                "float64",
            )
            self._found[count] = exact.in_textbook_order(exact.gradients())
        vectors = zip("αwv", step.in_textbook_order(found), self._found[count], strict=False)
        return {name: _rounded((g - h).norm() / h.norm()) for name, g, h in vectors}


def _rounded(value: Tensor | float) -> float:
    return float(f"{float(value):.3g}")


def measure(task: Task) -> None:
    """Record errors, seconds, memory, launches and the share of the floor of each mode."""
    sizes = TINY if task.tiny else Sizes()
    reference = Reference(sizes, task.device)
    rows: dict[str, Any] = {}
    task.note(sizes=vars(sizes), rounds=ROUNDS, tolerance=TOLERANCE, forms=rows)
    on_gpu = task.device == "cuda"
    if not on_gpu:
        task.note(left_out="CUDA graphs, which need a GPU")
    exact = Step("shared", sizes, task.device, "float64")
    rows["shared, float64, eager"] = {"error": reference.error(exact, exact.gradients())}
    del exact
    for precision in ("bf16", "float32", "tf32") if on_gpu else ("bf16", "float32"):
        forms: dict[str, Callable[[], object]] = {}
        for side in SIDES:
            step = Step(side, sizes, task.device, precision)
            name = f"{side}, {precision}, eager"
            forms[name], rows[name] = step, _described(step, reference)
            task.note()
        for side in SIDES if on_gpu else ():
            name = f"{side}, {precision}, graph"
            step = Step(side, sizes, task.device, precision)
            captured = Graphed(step.gradients)
            rows[name] = {"error": reference.error(step, captured())}
            del captured
            forms[name] = Graphed(step)
            task.note()
        _take_turns(forms, rows, task, least=task.limit / 3 if precision == "bf16" else 0)
        floor = _floor(sizes, task.device, precision)
        for name in forms:
            rows[name]["of_floor"] = _rounded(floor["seconds"] / rows[name]["median_s"])
        task.note(**{f"floor_{precision}": floor}, summary=_summary(rows))
        forms.clear()
        torch.cuda.empty_cache()
    backend = "aot_eager" if task.tiny else "inductor"
    for side, precision in COMPILED[:1] if task.tiny else COMPILED:
        _compiled(side, precision, backend, sizes, reference, rows, task)
        task.note(summary=_summary(rows))


def _compiled(
    side: str,
    precision: str,
    backend: str,
    sizes: Sizes,
    reference: Reference,
    rows: dict[str, Any],
    task: Task,
) -> None:
    """Compile one mode, and time it in turns with the eager shared supernet."""
    name = f"{side}, {precision}, compiled"
    rows[name] = {"status": "compiling"}
    task.note()
    step = Step(side, sizes, task.device, precision, backend)
    try:
        started = now()
        found = step.gradients()
        rows[name] = {"compile_s": round(now() - started, 1), "error": reference.error(step, found)}
    except Exception as error:  # the compiler's errors have no common class
        rows[name] = {"status": f"{type(error).__name__}: {str(error)[:500]}"}
        return
    eager = Step("shared", sizes, task.device, precision)
    beside = f"shared, {precision}, eager, beside {name}"
    rows[beside] = {}
    _take_turns({name: step, beside: eager}, rows, task)


def _described(step: Step, reference: Reference) -> dict[str, Any]:
    """Return the description of a mode, without its time."""
    found = {"error": reference.error(step, step.gradients())}
    step()  # optimisers make their state
    return {**found, "launches": _launches(step), "peak_mib": _peak(step)}


def _launches(step: Step) -> int | None:
    """Return the number of kernels of one step on a GPU, or of tensor operations on a CPU, without
    views."""
    if step.device != "cuda":
        with Launches() as counted:
            step()
        return counted.count
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        step()
        torch.cuda.synchronize()
    kernels = sum(event.count for event in profiled.key_averages() if event.self_device_time_total)
    return kernels or None


def _peak(step: Step) -> int | None:
    """Return the memory in MiB that one step adds on a GPU."""
    if step.device != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - held) >> 20


def _take_turns(
    forms: dict[str, Callable[[], object]],
    rows: dict[str, Any],
    task: Task,
    least: float = 0.0,
) -> None:
    """Time up to `ROUNDS` rounds in which every mode makes a step, within the time limit."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    rounds = 3 if task.tiny else ROUNDS
    for _ in range(rounds + 1):
        for name, form in forms.items():
            times[name].append(seconds(form))
        if task.left < 5 + least and len(next(iter(times.values()))) > 1:
            break
    first = next(iter(forms))
    for name, values in times.items():
        kept, others = values[1:], times[first][1:]  # the first round is a warm-up
        rows[name] |= {
            "median_s": _rounded(median(kept)),
            "range_s": [_rounded(min(kept)), _rounded(max(kept))],
            "n": len(kept),
            f"times_as_fast_as {first}": _rounded(
                median(o / k for o, k in zip(others, kept, strict=True))
            ),
        }
    task.note()


def _floor(sizes: Sizes, device: str, precision: str) -> dict[str, float]:
    """Return the seconds of a plain step at the speed of large matrix products and copies."""
    step = Step("shared", sizes, device, precision)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        step.nets[0](step.train[0], step.arch())
    # A forward pass, then as much again for the gradients of the layers' inputs; for w also as much
    # for the gradients of the weights.
    flops = (2 + 3) * counter.get_total_flops()
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), step._precision():
        loss = step.nets[0](step.train[0], step.arch()).sum()
    del loss
    side, words = (8192, 2**28) if device == "cuda" else (1024, 2**24)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(side, side, device=device, dtype=dtype)
    b = torch.randn(words, device=device)
    c = torch.empty_like(b)
    with step._precision():
        rate = 2 * side**3 / _fastest(lambda: a @ a)
    copied = 2 * b.nbytes / _fastest(lambda: c.copy_(b))
    moved = 2 * 2 * sum(kept.values())
    return {
        "gflop": round(flops / 1e9, 1),
        "matmul_tflop_per_s": round(rate / 1e12, 3),
        "copy_gb_per_s": round(copied / 1e9, 1),
        "kept_mib_per_pass": round(sum(kept.values()) / 2**20),
        "seconds": flops / rate + moved / copied,
    }


def _fastest(function: Callable[[], object], repeats: int = 7) -> float:
    function()
    return min(seconds(function) for _ in range(repeats))


def _summary(rows: dict[str, Any]) -> str:
    told = {
        name: f"{name} {1e3 * row['median_s']:.3g} ms"
        for name, row in rows.items()
        if "median_s" in row and "beside" not in name
    }
    unequal = [
        name
        for name, row in rows.items()
        if any(e > TOLERANCE.get(name.split(", ")[-2], 1e-9) for e in row.get("error", {}).values())
    ]
    return "; ".join([*told.values(), *(f"UNEQUAL: {name}" for name in unequal)])
