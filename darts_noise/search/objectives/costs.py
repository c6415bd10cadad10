"""Objectives for cheap networks: ``multiply_adds``, and ``latency`` measured on this machine.

Both are the cost of a network divided by the cost of the most expensive one of the space at the
width of the search, T ≤ 1. For a supernet it is the expected cost of a cell drawn from α, as in
ProxylessNAS (Cai et al. 2019, arXiv:1812.00332, equation 4) and FBNet (Wu et al. 2019,
arXiv:1812.03443, section 3.2): a sum of probability × cost, with a table of the costs. A node of
the discrete cell keeps k of its edges and never ``none``. So with the probability p and the cost c
of an operation o on an edge e into the node, the node costs

    k · Σ_e Σ_o p_eo c_eo / Σ_e Σ_o p_eo        (o ≠ none)

The rest of the network costs the same whatever the operations are. The macro choices ``pooling``
and ``width`` change all costs, so there is a table for each combination of their values, and the
expectation runs over them too. Every other macro choice counts with its first candidate.
"""

import itertools
import json
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from darts_noise.atomic import write_text
from darts_noise.configured import require_at_least
from darts_noise.distributed.collectives import on_first_process
from darts_noise.nets.cell import build_operation
from darts_noise.nets.cost import Part, multiply_adds, parts
from darts_noise.nets.gain import choose_layers
from darts_noise.nets.macro_layers import candidates
from darts_noise.nets.network import Network
from darts_noise.nets.plan import reduction_cells
from darts_noise.search.objectives.objective import (
    Objective,
    ObjectiveInputs,
    TrainedCell,
    register_objective,
)
from darts_noise.search.strategies.cells import assemble
from darts_noise.space.genotype import Genotype
from darts_noise.space.json_file import read_json, shown_path
from darts_noise.space.macro import Value
from darts_noise.space.spaces import Space

PRICED = ("pooling", "width")
"""The macro choices whose values have different costs."""


LATENCY = "latency.json"
FORMAT = "darts_noise.latency/1"
WARM_UP, RUNS = 3, 20
"""Passes before and in a measurement of the time of a part."""


@dataclass(frozen=True)
class Table:
    """The costs of one combination of the priced macro choices.

    Attributes:
        values: the values of `PRICED`.
        rest: cost of the network without the operations of its cells.
        operations: kind of cell → cost of each operation on each edge, summed over the cells of
            this kind, (edges, operations). NaN where a discrete cell cannot have the operation.
    """

    values: tuple[Value, ...]
    rest: float
    operations: dict[str, Tensor]


Stacked = tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]
"""Tables on a device: `Table.rest`, (tables,); kind of cell → costs, (tables, edges, operations);
priced choice → index of its value, (tables,)."""


class Cost(Objective):
    """The expected cost of a network, divided by the largest cost in the space."""

    def __init__(self) -> None:
        self.costs: dict[str, float] = {}  # label of a part → its cost
        self._tables: list[Table] | None = None
        self._placed: dict[tuple[torch.device, torch.dtype], Stacked] = {}
        self._largest: float | None = None

    @abstractmethod
    def measure(self, part: Part, device: torch.device) -> float:
        """Return the cost of a part of a network, which is in eval mode."""

    def __call__(self, inputs: ObjectiveInputs) -> Tensor:
        images, shares = inputs.batch[0], inputs.shares
        place = images.device, shares["normal"].dtype
        if place not in self._placed:  # all processes come here together
            self._tables = on_first_process(lambda: self.tables(images.device))
            self._placed[place] = _stacked(self.networks.space, self._tables, *place)
        costs, of_kinds, chosen = self._placed[place]
        for kind, of_kind in of_kinds.items():
            costs = costs + _expected(self.networks.space, shares[kind], of_kind)
        for name, indices in chosen.items():
            if name in shares:
                costs = costs * shares[name][0, indices]
        return costs.sum() / self.largest(images.device)

    def of_cell(self, cell: TrainedCell) -> float:
        device = cell.validation.device
        total = sum(self._cost(part, device) for part in self._parts(cell.make))
        return total / self.largest(device)

    def tables(self, device: torch.device) -> list[Table]:
        """Return the table of each combination of the priced macro choices, on the CPU."""
        if self._tables is None:
            space = self.networks.space
            first = assemble(space, lambda kind, options, count: list(options)[:count])
            self._tables = []
            for values in itertools.product(*(candidates(space, name) for name in PRICED)):
                macro = {**first.macro, **dict(zip(PRICED, values, strict=True))}
                made = self._made(replace(first, macro=macro), device)
                self._tables.append(Table(values, *made))
        return self._tables

    def largest(self, device: torch.device) -> float:
        """Return the cost of the most expensive network of the space."""
        if self._largest is None:
            space = self.networks.space
            self._largest = max(
                table.rest
                + sum(
                    float(of_node.nan_to_num().amax(1).topk(_kept(space, node)).values.sum())
                    for costs in table.operations.values()
                    for node, of_node in enumerate(_by_node(space, costs))
                )
                for table in self.tables(device)
            )
        return self._largest

    def _made(self, cell: Genotype, device: torch.device) -> tuple[float, dict[str, Tensor]]:
        """Return the last two fields of a `Table`, for the macro choices of a cell."""
        space, networks = self.networks.space, self.networks
        found = self._parts(lambda: networks.make(cell, networks.channels))
        rest = sum(self._cost(part, device) for part in found if not part.is_operation)
        states = [part.output for part in found if part.name == "preprocess"][1::2]

        @cache
        def cost(name: str, state: torch.Size, stride: int) -> float:
            with torch.random.fork_rng(devices=[]):
                how = cell.choice("reduction")
                holder = nn.Sequential(build_operation(name, state[0], stride, True, how))
                choose_layers(holder, cell)
            image, out = torch.ones(1, *state), _divided(state, stride)
            return self._cost(Part(name, holder.eval()[0], image, out), device)

        where = reduction_cells(len(states), cell.choice("reductions"))
        size = len(space.edges), len(space.operations)
        operations = {k: torch.zeros(size, dtype=torch.float64) for k in ("normal", "reduce")}
        for index, state in enumerate(states):
            assert state is not None
            kind = "reduce" if index in where else "normal"
            of_edges = zip(operations[kind], space.edges, space.candidates(kind), strict=True)
            for row, (predecessor, _), allowed in of_edges:
                stride = 2 if kind == "reduce" and predecessor < 2 else 1
                shape = _divided(state, 2 if kind == "reduce" and predecessor > 1 else 1)
                for column, name in enumerate(space.operations):
                    possible = name in allowed and (predecessor > 0 or not space.complete)
                    if possible and (name != "none" or space.complete):
                        row[column] += cost(name, shape, stride)
                    else:
                        row[column] = math.nan
        return rest, operations

    def _parts(self, make: Callable[[], Network]) -> list[Part]:
        with torch.random.fork_rng(devices=[]):
            return parts(make().eval(), self.networks.image_shape)

    def _cost(self, part: Part, device: torch.device) -> float:
        if part.label not in self.costs:
            self.costs[part.label] = self.measure(part, device)
        return self.costs[part.label]


def _divided(shape: torch.Size, by: int) -> torch.Size:
    """Return (C, ⌈H / by⌉, ⌈W / by⌉)."""
    return torch.Size((shape[0], *(-(-side // by) for side in shape[1:])))


def _kept(space: Space, node: int) -> int:
    """Return the number of edges into a node that a discrete cell keeps."""
    return node + 1 if space.complete else min(space.kept_edges, node + 2)


def _by_node(space: Space, rows: Tensor) -> Sequence[Tensor]:
    """Split rows of edges by the node that the edges lead to."""
    return torch.split(rows, [node + 2 for node in range(space.nodes)])


def _stacked(
    space: Space, tables: Sequence[Table], device: torch.device, dtype: torch.dtype
) -> Stacked:
    """Move tables to a device."""
    kinds = {
        kind: torch.stack([table.operations[kind] for table in tables]).to(device, dtype)
        for kind in tables[0].operations
    }
    chosen = {
        name: torch.tensor([candidates(space, name).index(table.values[at]) for table in tables])
        for at, name in enumerate(PRICED)
    }
    rest = torch.tensor([table.rest for table in tables], dtype=dtype, device=device)
    return rest, kinds, {name: indices.to(device) for name, indices in chosen.items()}


def _expected(space: Space, shares: Tensor, costs: Tensor) -> Tensor:
    """Return the expected cost of all operations of one kind of cell, for each table.

    Args:
        space: the search space.
        shares: (edges, operations).
        costs: (tables, edges, operations). NaN where a discrete cell cannot have the operation.
    """
    mass = (shares * ~costs[0].isnan()).sum(1)
    paid = (shares * costs.nan_to_num()).sum(2).T  # (edges, tables)
    of_nodes = zip(_by_node(space, mass), _by_node(space, paid), strict=True)
    least = torch.finfo(mass.dtype).tiny
    return torch.stack(
        [
            _kept(space, node) * cost.sum(0) / share.sum().clamp_min(least)
            for node, (share, cost) in enumerate(of_nodes)
        ]
    ).sum(0)


@register_objective("multiply_adds")
class MultiplyAdds(Cost):
    """The expected multiply-adds for one image, divided by the largest number in the space."""

    def measure(self, part: Part, device: torch.device) -> float:
        return multiply_adds(part.module, part.image)


@register_objective("latency")
class Latency(Cost):
    """The expected time of a forward pass, divided by the largest one in the space.

    Each part of a network is timed once for each shape of its input, on the device of the search:
    the shortest of `RUNS` passes in eval mode. The times stand in ``latency.json`` in the folder of
    the run, and a resumed run uses the same ones. The time of a network is the sum over its parts.

    Args:
        batch_size: number of images that pass together. Default: 1.
    """

    def __init__(self, batch_size: int = 1) -> None:
        super().__init__()
        require_at_least(1, batch_size=batch_size)
        self.batch_size = batch_size
        self.file: Path | None = None

    def keep(self, folder: Path) -> None:
        self.file = folder / LATENCY
        with suppress(ValueError):  # no such file, or a damaged one, which costs only time
            self.costs |= read_latency(self.file)

    def measure(self, part: Part, device: torch.device) -> float:
        images = part.image.repeat(self.batch_size, 1, 1, 1).to(device)
        return seconds(part.module.to(device), images)

    def _cost(self, part: Part, device: torch.device) -> float:
        known = len(self.costs)
        found = super()._cost(part, device)
        if self.file is not None and len(self.costs) > known:
            rows = {"format": FORMAT, "seconds": self.costs}
            write_text(self.file, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        return found


def seconds(module: nn.Module, images: Tensor) -> float:
    """Return the shortest time of `RUNS` passes in float32, in seconds. The module is in eval mode.

    The passes are in float32 inside autocast too, so that all times of a search compare.
    """
    times = []
    plain = torch.autocast(images.device.type, enabled=False)
    with parametrize.cached(), torch.no_grad(), plain:
        for run in range(WARM_UP + RUNS):
            if images.is_cuda:
                torch.cuda.synchronize(images.device)
            start = time.perf_counter()
            module(images)
            if images.is_cuda:
                torch.cuda.synchronize(images.device)
            if run >= WARM_UP:
                times.append(time.perf_counter() - start)
    return min(times)


def _is_time(value: object) -> bool:
    return type(value) is float and 0 < value < math.inf


def read_latency(file: Path) -> dict[str, float]:
    """Return the seconds of each part in a ``latency.json``.

    Raises:
        ValueError: the file holds something else. The message names the file.
    """
    data = read_json(file)
    if isinstance(data, Mapping) and data.get("format") == FORMAT:
        found = data.get("seconds")
        if isinstance(found, Mapping) and all(map(_is_time, found.values())):
            return dict(found)
    raise ValueError(f"{shown_path(file)}: expected the seconds of the parts of networks")
