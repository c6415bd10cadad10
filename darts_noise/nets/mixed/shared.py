"""The mixed cell with everything computed once that is the same for several edges.

It is the function of `textbook.MixedCell`, arranged by the states that edges leave:

- ReLU and candidates without parameters (pools with their norm, the identity, blurs) are the same
  on every edge that leaves a state. They are computed once per state, and what all edges take of
  them is one product: (nodes × candidates of α) · (candidates × values).
- Candidates that end in a batch norm are done side by side, with α as the norm's scale: `stacked`.
- ``none`` is left out: it adds nothing.
- Whatever else a space holds is computed as the textbook does.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.nets.mixed.edgewise import add_edges, applies, together
from darts_noise.nets.mixed.form import is_pointwise
from darts_noise.nets.mixed.norm import EdgeNorm
from darts_noise.nets.mixed.reduce import StackedReduce
from darts_noise.nets.mixed.stacked import Chain, Pairs, StackedEdges, chain, module_list
from darts_noise.nets.mixed.textbook import MixedCell, MixedOperation
from darts_noise.nets.plan import CellPlan
from darts_noise.space.operations.identity import FactorizedReduce, Zero
from darts_noise.space.spaces import Space

ARRANGEMENTS = ("pools", "plain", "stacked", "reduced", "others")


class SharedCell(nn.Module):
    """A mixed cell; takes and gives what `textbook.MixedCell` does, whose weights it starts with.

    The cell's two inputs are one level, since they are there at the same time; each node but the
    last is one more.
    """

    levels: Sequence["Level"]
    order: Tensor

    def __init__(self, space: Space, plan: CellPlan) -> None:
        super().__init__()
        textbook = MixedCell(space, plan)
        self.preprocess, self.width = textbook.preprocess, textbook.width
        self.edges = space.edges
        sources = [[0, 1], *([p] for p in range(2, space.nodes + 1))]
        self.levels = module_list(
            Level([_operations(textbook, self._leaving(p)) for p in level]) for level in sources
        )
        self.rows = [[e for p in level for e in self._leaving(p)] for level in sources]
        self.register_buffer("order", _places(self.rows), persistent=False)

    def _leaving(self, predecessor: int) -> list[int]:
        """The edges that leave a state, by node."""
        return [e for e, (p, _) in enumerate(self.edges) if p == predecessor]

    def arrange(self, weights: Tensor) -> list["LevelWeights"]:
        """The weights (edges, operations) as `forward` takes them; the same for like cells."""
        in_order = weights.index_select(0, self.order)
        by_level = torch.split(in_order, [len(rows) for rows in self.rows])
        return [level.arrange(w) for level, w in zip(self.levels, by_level, strict=True)]

    def forward(self, first: Tensor, second: Tensor, weights: list["LevelWeights"]) -> Tensor:
        """Args: the outputs of the two cells before, and the arranged weights."""
        states = [self.width(self.preprocess[0](first)), self.width(self.preprocess[1](second))]
        finished: list[Tensor] = []
        incoming: Tensor | None = None
        for level, of_level in zip(self.levels, weights, strict=True):
            sums = level(states, of_level, incoming)
            node, *rest = torch.split(sums, [1, len(sums) - 1][: len(sums)])
            incoming = rest[0] if rest else None
            states = [self.width(node.squeeze(0).permute(0, 3, 1, 2))]
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


def _places(groups: Iterable[Sequence[int]]) -> Tensor:
    """Their members as an index. A list in its place would be copied to a GPU by each pass, which
    would wait for the GPU."""
    return torch.tensor([place for group in groups for place in group], dtype=torch.int64)


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
        shared: (nodes, candidates · states).
        stacked: for each of `Level.stacked`, (states · nodes, kinds).
        reduced: for each of `Level.reduced`, (states · nodes, 1).
        others: (states · nodes, candidates).
    """

    shared: Tensor
    stacked: list[Tensor]
    reduced: list[Tensor]
    others: Tensor


class Level(nn.Module):
    """All mixed operations on the edges that leave one state, or the two inputs of a cell.

    Args:
        mixed: the textbook's mixed operations, [state][node].
    """

    pools: Sequence[nn.Module]
    pool_norms: Sequence[EdgeNorm]
    shared: Sequence[Sequence[nn.Module]]
    others: Sequence[Sequence[nn.Module]]
    stacked: Sequence[StackedEdges]
    reduced: Sequence[StackedReduce]
    order: Tensor

    def __init__(self, mixed: Sequence[Sequence[MixedOperation]]) -> None:
        super().__init__()
        self.num_states, self.num_nodes = len(mixed), len(mixed[0])
        edges = [operation for state in mixed for operation in state]
        example = edges[0].candidates
        columns: dict[str, list[int]] = {name: [] for name in ARRANGEMENTS}
        for column, candidate in enumerate(example):
            if not isinstance(candidate, Zero):
                columns[_arrangement(candidate)].append(column)
        self.pool_columns, self.plain_columns = columns["pools"], columns["plain"]
        self.shared_columns = [*self.pool_columns, *self.plain_columns]
        self.other_columns = columns["others"]
        pools = [_pool(example[c]) for c in self.pool_columns]
        self.pools = module_list(pool for pool, _ in pools)
        self.pool_norms = module_list(
            EdgeNorm(1, self.num_states, norm.num_features) for _, norm in pools
        )
        self.shared = module_list(
            module_list(state[0].candidates[c] for state in mixed) for c in self.plain_columns
        )
        self.stacked = module_list(
            StackedEdges(_chains(edges, group), group)
            for group in _stacks(example, columns["stacked"])
        )
        self.reduced = module_list(
            StackedReduce(_reductions(edges, c), self.num_states, c) for c in columns["reduced"]
        )
        self.others = module_list(
            module_list(e.candidates[c] for c in self.other_columns) for e in edges
        )
        groups = [
            self.shared_columns,
            *(family.columns for family in self.stacked),
            *(family.columns for family in self.reduced),
            self.other_columns,
        ]
        self.sizes = [len(group) for group in groups]
        self.register_buffer("order", _places(groups), persistent=False)

    def arrange(self, weights: Tensor) -> LevelWeights:
        """Args: weights (states · nodes, operations), by state and then by node."""
        in_order = weights.index_select(1, self.order)
        shared, *families, others = torch.split(in_order, self.sizes, 1)
        by_state = shared.view(self.num_states, self.num_nodes, -1)
        return LevelWeights(
            by_state.permute(1, 2, 0).flatten(1),
            families[: len(self.stacked)],
            families[len(self.stacked) :],
            others,
        )

    def forward(
        self, states: Sequence[Tensor], weights: LevelWeights, incoming: Tensor | None
    ) -> Tensor:
        """The sums (nodes, B, H', W', C) at the nodes that this level's edges enter.

        Args:
            states: one, or the cell's two inputs: each (B, C, H, W).
            weights: from `arrange`.
            incoming: what earlier levels have brought to these nodes, or None.
        """
        terms = [] if incoming is None else [incoming]
        x = states[0] if len(states) == 1 else torch.cat(list(states), 1)
        if self.shared_columns:
            terms = [self._from_states(x, weights.shared, incoming)]
        activated = F.relu(x)
        for reduction, alpha in zip(self.reduced, weights.reduced, strict=True):
            terms.append(reduction(_by_state(activated, self.num_states), alpha))
        if self.other_columns:
            terms.append(self._others(states, weights.others))
        stacks = list(zip(self.stacked, weights.stacked, strict=True))
        by_edge = applies(states, self.stacked)
        if not terms or not by_edge:
            at_once = stacks[:1] if by_edge else stacks
            terms += [
                together(family, activated, self.num_states, alpha, family.kernels())
                for family, alpha in at_once
            ]
            stacks = stacks[len(at_once) :]
        sums = functools.reduce(torch.add, terms)
        if stacks:
            owned = sums.clone() if sums is incoming else sums
            families, alphas = zip(*stacks, strict=True)
            sums = add_edges(families, _by_state(activated, self.num_states), alphas, owned)
        return sums

    def _from_states(self, x: Tensor, matrix: Tensor, incoming: Tensor | None) -> Tensor:
        """What the candidates without parameters bring to each node, added to ``incoming``."""
        states = _by_state(x, self.num_states)
        pooled = [
            value
            for pool, norm in zip(self.pools, self.pool_norms, strict=True)
            for value in _by_state(norm(pool(x)), self.num_states)
        ]
        plain = [
            operation(state)
            for across in self.shared
            for state, operation in zip(states, across, strict=True)
        ]
        values = torch.stack([v.permute(0, 2, 3, 1) for v in (*pooled, *plain)])
        # (candidates · states, B, H', W', C)
        matrix, flat = matrix.to(values.dtype), values.flatten(1)
        before = None if incoming is None else incoming.flatten(1)
        sums = matrix @ flat if before is None else torch.addmm(before, matrix, flat)
        return sums.view(self.num_nodes, *values.shape[1:])

    def _others(self, states: Sequence[Tensor], weights: Tensor) -> Tensor:
        """What the candidates of no special form bring to each node."""
        sums = [
            sum(
                weight * operation(state)
                for s, state in enumerate(states)
                for weight, operation in zip(
                    weights[s * self.num_nodes + node],
                    self.others[s * self.num_nodes + node],
                    strict=True,
                )
            )
            for node in range(self.num_nodes)
        ]
        return torch.stack(sums).permute(0, 1, 3, 4, 2)

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
            state_number = e // self.num_nodes
            for column, pool_norm in zip(self.pool_columns, self.pool_norms, strict=True):
                _, norm = _pool(theirs.candidates[column])
                yield from pool_norm.pairs(0, state_number, norm.running_mean, norm.running_var)
            of_state = [across[state_number] for across in self.shared]
            shared = zip(self.plain_columns, of_state, strict=True)
            others = zip(self.other_columns, self.others[e], strict=True)
            for column, ours in (*shared, *others):
                state = ours.state_dict()
                other = theirs.candidates[column].state_dict()
                yield from ((state[name], other[name]) for name in state)


def _arrangement(candidate: nn.Module) -> str:
    """How a candidate of the textbook is computed here."""
    if not list(candidate.parameters()):
        return "pools" if _is_pool(candidate) else "plain"
    if isinstance(candidate, FactorizedReduce) and isinstance(candidate.norm, nn.BatchNorm2d):
        return "reduced"
    return "stacked" if chain(candidate) else "others"


def _by_state(x: Tensor, count: int) -> Sequence[Tensor]:
    """Equal parts of the channels; a single one without the copy that undoes a split backward."""
    return [x] if count == 1 else x.chunk(count, 1)


def _is_pool(candidate: nn.Module) -> bool:
    """Whether it is a pooling and a batch norm, each of one channel at a time."""
    kinds = [type(layer) for layer in candidate.children()]
    return kinds in ([nn.MaxPool2d, nn.BatchNorm2d], [nn.AvgPool2d, nn.BatchNorm2d])


def _pool(candidate: nn.Module) -> tuple[nn.Module, nn.BatchNorm2d]:
    pool, norm = candidate.children()
    assert isinstance(norm, nn.BatchNorm2d)
    return pool, norm


def _stacks(candidates: nn.ModuleList, columns: list[int]) -> list[list[int]]:
    """Operations whose every stage ends in a 1×1 convolution of the whole map are stacked together,
    others by themselves."""
    stages = {c: chain(candidates[c]) or [] for c in columns}

    def joins(convolution: nn.Conv2d) -> bool:
        return is_pointwise(convolution) and convolution.stride == (1, 1)

    joint = [c for c in columns if all(joins(convs[-1]) for convs, _ in stages[c])]
    joint.sort(key=lambda c: -len(stages[c]))
    return [group for group in (joint, *([c] for c in columns if c not in joint)) if group]


def _chains(edges: Sequence[MixedOperation], columns: Sequence[int]) -> list[list[Chain]]:
    """[column][edge]."""
    return [[chain(e.candidates[c]) or [] for e in edges] for c in columns]


def _reductions(edges: Sequence[MixedOperation], column: int) -> list[FactorizedReduce]:
    found = [e.candidates[column] for e in edges]
    return [module for module in found if isinstance(module, FactorizedReduce)]
