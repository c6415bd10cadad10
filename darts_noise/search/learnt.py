"""What a controller has learnt: what its hidden states encode, and which cells it draws.

    found = dn.learnt("runs/search/latest")
    found.trained.correlations["operations"], found.untrained.correlations["operations"]

Adam & Lorraine 2019, arXiv:1904.00438, found that the hidden states of ENAS do not encode the cell.
The file ``controller.safetensors`` of a search holds the weights and the space of its controller.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from darts_noise.atomic import replacing
from darts_noise.data.seeds import Stream, drawing
from darts_noise.search.candidate import Candidate, read_candidates
from darts_noise.search.strategies.controller import Controller
from darts_noise.shown import printable, shown
from darts_noise.space.genotype import Genotype
from darts_noise.space.json_file import shown_path
from darts_noise.space.spaces import Space

CONTROLLER = "controller.safetensors"
FORMAT = "darts_noise.controller/1"
"""The metadata of the file has the space under this key."""
STATES, CELLS = 100, 1000
"""Number of cells whose hidden states are compared, and number of all drawn cells."""
LEAST_SPREAD = 1e-6
"""Distances between states that differ less are equal up to rounding."""
EXACT = "donot_use_mm_for_euclid_dist"
LARGEST_WEIGHT = 1e15
MAX_BYTES = 1 << 26

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Cells drawn from a controller, and its hidden states after it has read them.

    Attributes:
        states: hidden states of the last layer for the first cells, (cells, hidden). The rows are
            sorted by cell: neighbours have the same first operations.
        correlations: ``"operations"``, ``"connections"`` or ``"choices"`` → Spearman's ρ between
            the distance of two states and the number of these that the two cells do not share, over
            all pairs of different cells. 1: states encode them. None: no distance or no number
            varies. An operation is shared if the same edge has it, a connection if it exists.
        cells: number of all drawn cells.
        distinct: number of different cells.
        differences: mean number of operations and macro choices that two cells do not share.
        parts: number of operations and macro choices of a cell.
        accuracies: validation accuracies of those drawn cells that were measured, ascending. A cell
            counts as often as it was drawn.
    """

    states: Array
    correlations: Mapping[str, float | None]
    cells: int
    distinct: int
    differences: float
    parts: int
    accuracies: Sequence[float]


@dataclass(frozen=True, eq=False)
class Learnt:
    """The figures of a trained controller, and of the same controller with random weights."""

    trained: Drawn
    untrained: Drawn


def learnt(
    controller: Controller | str | Path,
    measured: Iterable[Candidate] | None = None,
    seed: int = 0,
) -> Learnt:
    """Draw 1,000 cells from a controller and from an untrained one, and compare them.

    Args:
        controller: the controller, or the folder of a search with ``nas`` or ``enas``.
        measured: cells with known accuracies, such as `CellTable.candidates`. None: the cells that
            the search has measured, if ``controller`` is a folder.
        seed: seed of the draws and of the untrained controller.

    Raises:
        ValueError: the folder has no controller, or a damaged one. The message names the file.
    """
    if not isinstance(controller, Controller):
        folder = Path(controller)
        controller = read_controller(folder / CONTROLLER)
        found = folder / "candidates.json"
        if measured is None and found.is_file():
            measured = read_candidates(found)
    accuracies = {c.genotype: c.validation.accuracy for c in measured or () if c.share == 1}
    with drawing(seed, Stream.LEARNT, 0):
        lstm = controller.lstm
        untrained = Controller(controller.space, lstm.hidden_size, lstm.num_layers)
    figures = []
    for one in (controller, untrained):
        with drawing(seed, Stream.LEARNT, 1):
            figures.append(_drawn(one, accuracies))
    return Learnt(*figures)


def _drawn(controller: Controller, accuracies: Mapping[Genotype, float]) -> Drawn:
    cells, states = controller.sample(CELLS)
    # A pair of equal cells says nothing: its distance is nearly 0 whatever the states encode.
    first = [cells.index(cell) for cell in dict.fromkeys(cells[:STATES])]
    table = states.double()[first]
    gaps = _pairs(torch.cdist(table, table, compute_mode=EXACT).numpy())
    correlations: dict[str, float | None] = {}
    for kind, present in _parts([cells[row] for row in first], controller.space).items():
        lacking: Array = int(present[0].sum()) - present @ present.T
        correlations[kind] = spearman(gaps, _pairs(lacking))
    present = np.hstack(
        [p for k, p in _parts(cells, controller.space).items() if k != "connections"]
    )
    parts, counts = int(present[0].sum()), present.sum(0)
    shared = (counts @ counts - len(cells) * parts) / (len(cells) * (len(cells) - 1))
    order = sorted(range(STATES), key=lambda row: str(cells[row]))
    return Drawn(
        states[order].double().numpy(),
        correlations,
        len(cells),
        len(set(cells)),
        float(parts - shared),
        parts,
        sorted(accuracies[cell] for cell in cells if cell in accuracies),
    )


def _parts(cells: Sequence[Genotype], space: Space) -> dict[str, Array]:
    """Return, for each kind of part, whether a cell has it: (cells, parts) of 0 and 1."""
    kinds = ("normal",) if space.complete else ("normal", "reduce")
    found: dict[str, list[set[Any]]] = {"operations": [], "connections": [], "choices": []}
    for cell in cells:
        edges = {
            (kind, node, predecessor, operation)
            for kind in kinds
            for node, pairs in enumerate(getattr(cell, kind))
            for operation, predecessor in pairs
        }
        found["operations"].append(edges)
        found["connections"].append({edge[:3] for edge in edges})
        found["choices"].append(set(cell.macro.items()))
    tables: dict[str, Array] = {}
    for name, sets in found.items():
        column = {part: i for i, part in enumerate(dict.fromkeys(p for s in sets for p in s))}
        tables[name] = np.zeros((len(cells), len(column)))
        for row, parts in zip(tables[name], sets, strict=True):
            row[[column[part] for part in parts]] = 1
    return tables if space.macro else {k: t for k, t in tables.items() if k != "choices"}


def _pairs(table: Array) -> Array:
    """Return a value for each pair of rows."""
    rows, columns = np.triu_indices(len(table), 1)
    return table[rows, columns]


def spearman(one: ArrayLike, other: ArrayLike) -> float | None:
    """Return Spearman's ρ, with mean ranks for ties. None: one of them does not vary.

    >>> spearman([1, 2, 3, 3], [10, 20, 40, 30]), spearman([1, 1], [1, 2])
    (0.9486832980505139, None)
    """
    ranks = []
    for values in (np.asarray(one, float), np.asarray(other, float)):
        if len(values) == 0 or np.ptp(values) <= LEAST_SPREAD:
            return None
        _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((counts.cumsum() - (counts - 1) / 2)[place])
    table: Array = np.corrcoef(np.stack(ranks))
    return float(table[0, 1])


def write_controller(path: Path, controller: Controller) -> None:
    """Write the weights and the space of a controller as a safetensors file."""
    from safetensors.torch import save

    # One entry: safetensors writes several in a random order.
    metadata = {FORMAT: json.dumps(asdict(controller.space))}
    weights = {name: tensor.detach() for name, tensor in controller.state_dict().items()}
    with replacing(path) as file:
        file.write(save(weights, metadata))


def read_controller(path: Path) -> Controller:
    """Read the controller that `write_controller` wrote. No code of the file runs.

    Raises:
        ValueError: the file is missing, damaged or too large, or the space has an unknown
            operation. The message is one line that names the file.
    """
    try:
        weights, space = _read(path)
        _require_finite(weights)
        layers = sum(name.startswith("lstm.weight_ih_l") for name in weights)
        # On the meta device first: the shapes are checked before any memory is used.
        with torch.device("meta"):
            controller = Controller(space, len(weights["start"]), layers)
        controller.load_state_dict(weights, assign=True)
    except OSError as error:
        raise ValueError(f"{shown_path(path)}: {error.strerror or shown(str(error))}") from None
    except ValueError as error:
        raise ValueError(f"{shown_path(path)}: {printable(str(error))}") from None
    except Exception:  # each library has its own errors for a file of another form
        raise ValueError(
            f"{shown_path(path)}: expected the controller of a search, as a safetensors file"
        ) from None
    return controller


def _read(path: Path) -> tuple[dict[str, Tensor], Space]:
    from safetensors import safe_open

    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES:,} bytes, got {size:,}")
    with safe_open(path, "pt") as file:
        about = file.metadata() or {}
        if FORMAT not in about:
            raise ValueError(f"expected {FORMAT!r} in its metadata, got {shown(sorted(about))}")
        names = file.keys()
        weights = {name: file.get_tensor(name) for name in names}
    return weights, Space(**json.loads(about[FORMAT]))


def _require_finite(weights: Mapping[str, Tensor]) -> None:
    for name, tensor in weights.items():
        if tensor.dtype != torch.float32 or not (tensor.abs() < LARGEST_WEIGHT).all():
            raise ValueError(f"{shown(name)}: expected finite weights of type float32")
