"""From relaxed architecture weights to a genotype."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from darts_noise.space.genotype import Cell, Genotype
from darts_noise.space.spaces import Space


def discretise(
    space: Space, weights: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None
) -> Genotype:
    """The strongest operation on each of the strongest edges (DARTS, section 2.4).

    An edge is as strong as its strongest operation other than ``none``. A node keeps its
    ``space.kept_edges`` strongest predecessors, strongest first; of equals, the earlier one. The
    cell concatenates all its nodes.

    Args:
        space: the search space.
        weights: for ``"normal"`` and ``"reduce"``, (edges, operations), *relaxed*: raw α rank
            edges differently, because a softmax weighs an operation against its own edge. For each
            macro choice of the space, (1, candidates).
        meta: what the genotype says of its origin.

    Raises:
        ValueError: a weight is NaN or infinite, from which no ranking can be read.
    """
    for kind, of_kind in weights.items():
        if not torch.isfinite(of_kind).all():
            raise ValueError(
                f"α of {_described(kind)} is not finite: the search has diverged; "
                "lower model.learning_rate or model.alpha_learning_rate"
            )
    concat = tuple(range(2, space.nodes + 2))
    return Genotype(
        normal=_cell(space, weights["normal"]),
        normal_concat=concat,
        reduce=_cell(space, weights["reduce"]),
        reduce_concat=concat,
        meta={"space": space.name, **(meta or {})},
        macro={name: values[int(weights[name][0].argmax())] for name, values in space.macro},
    )


def _described(kind: str) -> str:
    return f"the {kind} cell" if kind in ("normal", "reduce") else kind


def _cell(space: Space, weights: Tensor) -> Cell:
    rows = weights.detach().cpu().tolist()
    allowed = [i for i, name in enumerate(space.operations) if name != "none"]
    nodes = []
    for node in range(space.nodes):
        candidates = []
        for (predecessor, to), row in zip(space.edges, rows, strict=True):
            if to == node:
                best = max(allowed, key=row.__getitem__)
                candidates.append((-row[best], predecessor, space.operations[best]))
        kept = sorted(candidates)[: space.kept_edges]
        nodes.append(tuple((operation, predecessor) for _, predecessor, operation in kept))
    return tuple(nodes)
