"""The textbook mixed cell: every candidate on every edge, weighted by α.

It has one module per operation and edge, like the formula: o(x) = Σ_k weight_k · o_k(x) (DARTS,
arXiv:1806.09055, equation 2). An operation that the space does not allow on an edge gives zeros
there. `stacked` computes the same function faster and is tested against this module. Search
variants that replace candidates use this module.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from darts_noise.nets.cell import build_operation, preprocessing
from darts_noise.nets.gain import bound_gain
from darts_noise.nets.macro_layers import mix_layers, mixed_width
from darts_noise.nets.plan import CellPlan
from darts_noise.space.genotype import Cell
from darts_noise.space.operations import get_operation
from darts_noise.space.operations.identity import Zero
from darts_noise.space.spaces import Space


def choose_mixed_layers(module: nn.Module, space: Space) -> None:
    """Bound the gain of a part of a mixed cell, or mix its norms, as the space says."""
    if space.fixed("gain") == "bounded":
        bound_gain(module)
    else:
        mix_layers(module, space)


class MixedOperation(nn.Module):
    """All candidates of one edge: x (B, C, H, W) and weights (operations,) → (B, C, H', W').

    Args:
        space: the search space.
        channels: C.
        stride: stride of the edge.
        allowed: the operations that the space allows on this edge. None: all.
    """

    def __init__(
        self, space: Space, channels: int, stride: int, allowed: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.space, self.channels, self.stride = space, channels, stride
        self.allowed = space.operations if allowed is None else allowed
        self.candidates = nn.ModuleList()
        for name in space.operations:
            if name not in self.allowed:
                self.candidates.append(Zero(stride))
                continue
            operation = get_operation(name)
            module = build_operation(name, channels, stride, False, space.fixed("reduction"))
            if not isinstance(module, nn.Module):
                raise ValueError(f"operation {name!r}: expected an nn.Module, got {module!r}")
            if operation.normalise_in_search and space.fixed("gain") == "free":
                module = nn.Sequential(module, nn.BatchNorm2d(channels, affine=False))
            self.candidates.append(module)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        weighted = torch.stack(
            [w * op(x) for w, op in zip(weights.unbind(), self.candidates, strict=True)]
        )
        return weighted.sum(0, dtype=weighted.dtype)  # which autocast on a GPU would make float32


class MixedCell(nn.Module):
    """A cell with a mixed operation on every edge; each node is the sum over all predecessors.

    The output concatenates all nodes: (B, channels · nodes, H', W'). The batch norms learn no
    scale, because a scale would undo the weights of the candidates (DARTS, section 3.1.1).

    Attributes:
        averages: whether a node is the mean over its predecessors instead of their sum.
    """

    def __init__(self, space: Space, plan: CellPlan) -> None:
        super().__init__()
        self.edges = space.edges
        self.num_nodes = space.nodes
        self.preprocess = nn.ModuleList(preprocessing(plan, False, space.fixed("reduction")))
        self.mixed = nn.ModuleList(
            MixedOperation(space, plan.channels, 2 if plan.reduction and p < 2 else 1, allowed)
            for (p, _), allowed in zip(space.edges, space.candidates(plan.kind), strict=True)
        )
        self.width = mixed_width(space, plan.channels)
        self.bounded = self.averages = space.fixed("gain") == "bounded"
        choose_mixed_layers(self, space)

    def arrange(self, weights: Tensor) -> Tensor:
        """Return the weights (edges, operations) for `forward`. Cells of a kind share them."""
        return weights

    def forward(self, first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
        """Return the output for the outputs of the last two cells and the arranged weights."""
        states = self._inputs(first, second)
        incoming: list[list[Tensor]] = [[] for _ in range(self.num_nodes)]
        for (predecessor, node), mixed, row in zip(self.edges, self.mixed, weights, strict=True):
            # Edges are ordered by node, so all predecessors of a node are ready.
            if predecessor == len(states):
                states.append(self._state(incoming[predecessor - 2]))
            incoming[node].append(mixed(states[predecessor], row))
        states.append(self._state(incoming[-1]))
        return self._output(states)

    def path(self, first: Tensor, second: Tensor, nodes: Cell) -> Tensor:
        """Return the output of a discrete cell with the weights of its operations.

        Only the operations of the discrete cell run.
        """
        states = self._inputs(first, second)
        for node, pairs in enumerate(nodes):
            terms = [self.operation(name, p, node)(states[p]) for name, p in pairs]
            states.append(self._state(terms))
        return self._output(states)

    def unused(self, nodes: Cell) -> list[nn.Module]:
        """Return the operations that a discrete cell does not run."""
        edges = ((name, p, node) for node, pairs in enumerate(nodes) for name, p in pairs)
        run = [self.operation(*edge) for edge in edges]
        every = (o for mixed in self.mixed for o in cast(MixedOperation, mixed).candidates)
        return [operation for operation in every if operation not in run]

    def operation(self, name: str, predecessor: int, node: int) -> nn.Module:
        """Return the candidate of an edge with this name."""
        mixed = cast(MixedOperation, self.mixed[self.edges.index((predecessor, node))])
        return mixed.candidates[mixed.space.operations.index(name)]

    def _inputs(self, first: Tensor, second: Tensor) -> list[Tensor]:
        return [self.width(self.preprocess[0](first)), self.width(self.preprocess[1](second))]

    def _output(self, states: list[Tensor]) -> Tensor:
        output = torch.cat(states[2:], dim=1)
        return output / math.sqrt(self.num_nodes) if self.bounded else output

    def _state(self, incoming: list[Tensor]) -> Tensor:
        total = sum(incoming[1:], incoming[0])
        state: Tensor = self.width(total / len(incoming) if self.averages else total)
        return state
