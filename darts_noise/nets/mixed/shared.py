"""The mixed cell with everything computed once that is the same for several edges.

It is the function of `textbook.MixedCell`, arranged by the states that edges leave:

- ReLU and candidates without parameters (pools with their norm, the identity, blurs) are the same
  on every edge that leaves a state. They are computed once per state, and what all edges take of
  them is one product: (nodes × candidates of α) · (candidates × values).
- Candidates that end in a batch norm are done side by side, with α as the norm's scale: `stacked`.
- ``none`` is left out: it adds nothing.
- Whatever else a space holds is computed as the textbook does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.nets.mixed.reduce import StackedReduce
from darts_noise.nets.mixed.stacked import (
    Chain,
    Pairs,
    StackedEdges,
    chain,
    is_pointwise,
    module_list,
)
from darts_noise.nets.mixed.textbook import MixedCell, MixedOperation
from darts_noise.nets.plan import CellPlan
from darts_noise.space.operations.identity import FactorizedReduce, Zero
from darts_noise.space.spaces import Space

CACHE = 2**20
"""Bytes of one tensor up to which work on a CPU is done side by side; about its L2 cache."""


class SharedCell(nn.Module):
    """A mixed cell; takes and gives what `textbook.MixedCell` does, whose weights it starts with.

    The cell's two inputs are one level, since they are there at the same time; each node but the
    last is one more.
    """

    levels: Sequence["Level"]

    def __init__(self, space: Space, plan: CellPlan) -> None:
        super().__init__()
        textbook = MixedCell(space, plan)
        self.preprocess = textbook.preprocess
        self.edges = space.edges
        sources = [[0, 1], *([p] for p in range(2, space.nodes + 1))]
        self.levels = module_list(
            Level([_operations(textbook, self._leaving(p)) for p in level]) for level in sources
        )
        self.rows = [[e for p in level for e in self._leaving(p)] for level in sources]

    def _leaving(self, predecessor: int) -> list[int]:
        """The edges that leave a state, by node."""
        return [e for e, (p, _) in enumerate(self.edges) if p == predecessor]

    def arrange(self, weights: Tensor) -> list["LevelWeights"]:
        """The weights (edges, operations) as `forward` takes them; the same for like cells."""
        return [
            level.arrange(weights[rows]) for level, rows in zip(self.levels, self.rows, strict=True)
        ]

    def forward(self, first: Tensor, second: Tensor, weights: list["LevelWeights"]) -> Tensor:
        """Args: the outputs of the two cells before, and the arranged weights."""
        states = [self.preprocess[0](first), self.preprocess[1](second)]
        finished: list[Tensor] = []
        incoming: list[Tensor] = []
        for level, of_level in zip(self.levels, weights, strict=True):
            incoming = level(states, of_level, incoming)
            states = [incoming.pop(0)]
            if states[0].requires_grad:
                states[0].register_hook(_dense)
            finished += states
        return torch.cat(finished, dim=1)

    def pairs(self, textbook: MixedCell) -> Pairs:
        """Our tensors beside those of a textbook cell of the same space and plan."""
        ours = self.preprocess.state_dict()
        theirs = textbook.preprocess.state_dict()
        yield from ((ours[name], theirs[name]) for name in ours)
        for level, rows in zip(self.levels, self.rows, strict=True):
            yield from level.pairs(_operations(textbook, rows))


def _operations(textbook: MixedCell, edges: Sequence[int]) -> list[MixedOperation]:
    found = [textbook.mixed[e] for e in edges]
    return [module for module in found if isinstance(module, MixedOperation)]


def _dense(gradient: Tensor) -> Tensor:
    """The gradient of a concatenation is a view with gaps, which every user of it would copy."""
    return gradient.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class LevelWeights:
    """α's weights on the edges that leave a level's states, for each way of computing them.

    Attributes:
        shared: (nodes, states · candidates).
        families: for each of `Level.families`, (states · nodes, kinds).
        others: (states · nodes, candidates).
    """

    shared: Tensor
    families: list[Tensor]
    others: Tensor


class Level(nn.Module):
    """All mixed operations on the edges that leave one state, or the two inputs of a cell.

    Args:
        mixed: the textbook's mixed operations, [state][node].
    """

    shared: Sequence[Sequence[nn.Module]]
    others: Sequence[Sequence[nn.Module]]
    stacked: Sequence[StackedEdges]
    reduced: Sequence[StackedReduce]

    def __init__(self, mixed: Sequence[Sequence[MixedOperation]]) -> None:
        super().__init__()
        self.num_states, self.num_nodes = len(mixed), len(mixed[0])
        edges = [operation for state in mixed for operation in state]
        example = edges[0].candidates
        columns: dict[str, list[int]] = {"shared": [], "stacked": [], "reduced": [], "others": []}
        for column, candidate in enumerate(example):
            if not isinstance(candidate, Zero):
                columns[_arrangement(candidate)].append(column)
        self.shared_columns, self.other_columns = columns["shared"], columns["others"]
        self.shared = module_list(
            module_list(state[0].candidates[c] for c in self.shared_columns) for state in mixed
        )
        self.stacked = module_list(
            StackedEdges(_chains(edges, group), group)
            for group in _stacks(example, columns["stacked"])
        )
        self.reduced = module_list(
            StackedReduce(_reductions(edges, c), c) for c in columns["reduced"]
        )
        self.others = module_list(
            module_list(e.candidates[c] for c in self.other_columns) for e in edges
        )

    @property
    def families(self) -> list[StackedEdges | StackedReduce]:
        return [*self.stacked, *self.reduced]

    def arrange(self, weights: Tensor) -> LevelWeights:
        """Args: weights (states · nodes, operations), by state and then by node."""
        shared = weights[:, self.shared_columns].view(self.num_states, self.num_nodes, -1)
        return LevelWeights(
            shared.transpose(0, 1).flatten(1),
            [weights[:, family.columns] for family in self.families],
            weights[:, self.other_columns],
        )

    def forward(
        self, states: Sequence[Tensor], weights: LevelWeights, incoming: Sequence[Tensor]
    ) -> list[Tensor]:
        """The sums at the nodes that this level's edges enter.

        Args:
            states: one, or the cell's two inputs: each (B, C, H, W).
            weights: from `arrange`.
            incoming: what earlier levels have brought to these nodes; empty for nothing.
        """
        sums: dict[int, Tensor] = dict(enumerate(incoming))
        if self.shared_columns:
            self._add(sums, self._from_states(states, weights.shared))
        if self.families:
            activated = [F.relu(s) for s in states]
            inputs = partial(self._side_by_side, activated)
            parts, together = self._parts(activated[0])
            for family, alpha in zip(self.families, weights.families, strict=True):
                for edges, mixed in family(inputs, alpha, parts, together):
                    several = edges.stop - edges.start > 1
                    terms = torch.split(mixed, states[0].shape[1], 1) if several else [mixed]
                    self._add(sums, terms, edges.start)
        for e, operations in enumerate(self.others):
            state = states[e // self.num_nodes]
            for weight, operation in zip(weights.others[e], operations, strict=True):
                self._add(sums, [weight * operation(state)], e)
        return [sums[node] for node in range(self.num_nodes)]

    def _add(self, sums: dict[int, Tensor], terms: Sequence[Tensor], first_edge: int = 0) -> None:
        for edge, term in enumerate(terms, first_edge):
            node = edge % self.num_nodes
            sums[node] = sums[node] + term if node in sums else term

    def _from_states(self, states: Sequence[Tensor], matrix: Tensor) -> Sequence[Tensor]:
        """What the candidates without parameters bring to each node: (B, C, H', W') each."""
        values = torch.stack(
            [
                operation(state).permute(0, 2, 3, 1)
                for state, operations in zip(states, self.shared, strict=True)
                for operation in operations
            ]
        )  # (states · candidates, B, H', W', C)
        sums = matrix.to(values.dtype) @ values.flatten(1)
        return [s.view(values.shape[1:]).permute(0, 3, 1, 2) for s in sums.unbind()]

    def _parts(self, state: Tensor) -> tuple[list[slice], bool]:
        """The edges that are worked on side by side, and whether all operations on them are.

        On a CPU so many that a tensor fits into the cache, elsewhere everything.
        """
        nodes, edges = self.num_nodes, self.num_states * self.num_nodes
        size = state.numel() * state.element_size()
        if state.device.type != "cpu" or edges * size <= CACHE:
            return [slice(0, edges)], True
        step = max(1, min(CACHE // size, nodes))
        return [
            slice(first + n, first + min(n + step, nodes))
            for first in range(0, edges, nodes)
            for n in range(0, nodes, step)
        ], False

    def _side_by_side(self, states: Sequence[Tensor], edges: slice) -> Tensor:
        """The inputs of some edges: those of one state, or all."""
        start, stop = int(edges.start), int(edges.stop)
        first, last = start // self.num_nodes, (stop - 1) // self.num_nodes
        if stop - start == 1:
            return states[first]
        count = (stop - start) // (last - first + 1)
        pixels = torch.stack([s.permute(0, 2, 3, 1) for s in states[first : last + 1]], 3)
        repeated = pixels.unsqueeze(4).expand(-1, -1, -1, -1, count, -1)  # (B, H, W, s, n, C)
        together: Tensor = repeated.flatten(3).permute(0, 3, 1, 2)
        return together

    def pairs(self, mixed: Sequence[MixedOperation]) -> Pairs:
        """Our tensors beside those of the textbook's mixed operations, by state and then by node.

        What is computed once has one tensor beside several of the textbook's, which are equal as
        long as both have seen the same data.
        """
        for stack in self.stacked:
            yield from stack.pairs(_chains(mixed, stack.columns))
        for reduction in self.reduced:
            yield from reduction.pairs(_reductions(mixed, reduction.columns[0]))
        for e, theirs in enumerate(mixed):
            shared = zip(self.shared_columns, self.shared[e // self.num_nodes], strict=True)
            others = zip(self.other_columns, self.others[e], strict=True)
            for column, ours in (*shared, *others):
                state = ours.state_dict()
                other = theirs.candidates[column].state_dict()
                yield from ((state[name], other[name]) for name in state)


def _arrangement(candidate: nn.Module) -> str:
    """How a candidate of the textbook is computed here."""
    if not list(candidate.parameters()):
        return "shared"
    if isinstance(candidate, FactorizedReduce):
        return "reduced"
    return "stacked" if chain(candidate) else "others"


def _stacks(candidates: nn.ModuleList, columns: list[int]) -> list[list[int]]:
    """Operations whose every stage ends pointwise are stacked together, others by themselves."""
    stages = {c: chain(candidates[c]) or [] for c in columns}
    joint = [c for c in columns if all(is_pointwise(convs[-1]) for convs, _ in stages[c])]
    joint.sort(key=lambda c: -len(stages[c]))
    return [group for group in (joint, *([c] for c in columns if c not in joint)) if group]


def _chains(edges: Sequence[MixedOperation], columns: Sequence[int]) -> list[list[Chain]]:
    """[column][edge]."""
    return [[chain(e.candidates[c]) or [] for e in edges] for c in columns]


def _reductions(edges: Sequence[MixedOperation], column: int) -> list[FactorizedReduce]:
    found = [e.candidates[column] for e in edges]
    return [module for module in found if isinstance(module, FactorizedReduce)]
