"""The mixed cell with stacked edges: the textbook function in fewer and larger operations.

All edges that leave a state have the same input. So:

- ReLU and the candidates without parameters (pools, blurs, the identity) run once per state. One
  matrix product with α weighs them for all edges.
- The convolutions of a candidate on different edges are one grouped convolution, with the channels
  of the edges side by side. Its batch norms are one batch norm. α is the scale of the last of them.
  A CPU instead computes large images edge by edge, because one edge fits into its cache.
- ``none``, and what the space does not allow on an edge, are left out, because they add nothing.
- Any other candidate runs as in the textbook: one that draws random numbers (anew for each edge),
  one with several paths, a candidate of only some edges, and a user's module.

Shapes: B images, C channels, S states, N nodes, E = N · S edges in the order (node, state). A state
is H × W, a node is H' × W'.
"""

import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.distributed.batch_norm import synchronised_batch_norm
from darts_noise.distributed.collectives import process_count
from darts_noise.nets.mixed.convolution import convolve
from darts_noise.nets.mixed.textbook import MixedCell, MixedOperation
from darts_noise.nets.plan import CellPlan
from darts_noise.space.operations import dense
from darts_noise.space.operations.identity import Noise, Zero
from darts_noise.space.operations.pointwise import PointwiseConv, SquareConv
from darts_noise.space.spaces import Space

CACHE = 2**16
"""A CPU computes edge by edge if a state has at least this many values."""

EdgeWeights = Sequence[Tensor]
"""The weights of a level's edges: (E,) for each operation of the space."""
Pairs = Iterator[tuple[Tensor, Tensor]]
"""Views of our tensors, each with the matching tensor of the textbook cell."""
M = TypeVar("M")


def module_list(modules: Iterable[M]) -> Sequence[M]:
    """Return an ``nn.ModuleList`` that keeps the type of its modules."""
    return cast(Sequence[M], nn.ModuleList(cast(Iterable[nn.Module], modules)))


class StackedCell(nn.Module):
    """A mixed cell with the arguments, the output and the initial weights of a `MixedCell`.

    Each level holds the states that are ready at the same time: first the two inputs of the cell,
    then each node except the last.
    """

    levels: Sequence["Level"]

    def __init__(self, space: Space, plan: CellPlan) -> None:
        super().__init__()
        textbook = MixedCell(space, plan)
        self.preprocess, self.width = textbook.preprocess, textbook.width
        sources = [(0, 1), *((p,) for p in range(2, space.nodes + 1))]
        self.rows = [[e for e, (p, _) in enumerate(space.edges) if p in s] for s in sources]
        self.levels = module_list(
            Level(_operations(textbook, rows), len(states))
            for rows, states in zip(self.rows, sources, strict=True)
        )

    def arrange(self, weights: Tensor) -> list[EdgeWeights]:
        """Return the weights (edges, operations) for `forward`. Cells of a kind share them."""
        by_edge = weights.unbind()
        return [torch.stack([by_edge[e] for e in rows]).unbind(1) for rows in self.rows]

    def forward(self, first: Tensor, second: Tensor, weights: list[EdgeWeights]) -> Tensor:
        """Return the output for the outputs of the last two cells and the arranged weights."""
        states = [self.width(self.preprocess[0](first)), self.width(self.preprocess[1](second))]
        finished: list[Tensor] = []
        nodes: Sequence[Tensor] = []
        for level, of_level in zip(self.levels, weights, strict=True):
            node, *nodes = level(states, of_level, nodes)
            states = [self.width(node)]
            finished += states
        return dense.concatenated(finished)

    def pairs(self, textbook: MixedCell) -> Pairs:
        """Yield our tensors with the matching tensors of a textbook cell of the same space."""
        yield from _same_names(self.preprocess, textbook.preprocess)
        for level, rows in zip(self.levels, self.rows, strict=True):
            yield from level.pairs(_operations(textbook, rows))


class Level(nn.Module):
    """The mixed operations on all edges from the states of a level.

    Args:
        mixed: the textbook's mixed operation on each edge.
        num_states: S.
    """

    plain: Sequence[Sequence[nn.Module]]
    stacked: Sequence["StackedOperation"]
    rest: Sequence[Sequence[nn.Module]]

    def __init__(self, mixed: Sequence[MixedOperation], num_states: int) -> None:
        super().__init__()
        self.num_states, self.num_nodes = num_states, len(mixed) // num_states
        self.columns: dict[str, list[int]] = {"plain": [], "stacked": [], "rest": []}
        for column, candidates in enumerate(zip(*(m.candidates for m in mixed), strict=True)):
            present = [module for module in candidates if not isinstance(module, Zero)]
            if present:
                way = _way(present[0]) if len(present) == len(mixed) else "rest"
                self.columns[way].append(column)
        copies = self._copies(mixed)
        self.plain = module_list(module_list(m[:num_states]) for m in copies["plain"])
        self.stacked = module_list(map(StackedOperation, copies["stacked"]))
        self.rest = module_list(map(module_list, copies["rest"]))

    def _copies(self, mixed: Sequence[MixedOperation]) -> dict[str, list[list[nn.Module]]]:
        """Return, for each way, the textbook's modules [candidate][edge]."""
        return {
            way: [[m.candidates[column] for m in mixed] for column in columns]
            for way, columns in self.columns.items()
        }

    def forward(
        self, states: Sequence[Tensor], weights: EdgeWeights, incoming: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Return the sums of the nodes so far.

        Args:
            states: S of (B, C, H, W).
            weights: from `StackedCell.arrange`.
            incoming: the sums of the nodes from earlier levels, N of (B, C, H', W'). Empty for the
                first level.

        Returns:
            N of (B, C, H', W').
        """
        terms = [incoming] if incoming else []
        for way, run in (
            ("plain", self._run_plain),
            ("stacked", self._run_stacked),
            ("rest", self._run_rest),
        ):
            if self.columns[way]:
                terms.append(run(states, [weights[c] for c in self.columns[way]]))
        return [sum(of_node[1:], of_node[0]) for of_node in zip(*terms, strict=True)]

    def _run_plain(self, states: Sequence[Tensor], weights: EdgeWeights) -> Sequence[Tensor]:
        values = torch.stack(
            [
                operation(x).permute(0, 2, 3, 1)
                for of_state in self.plain
                for operation, x in zip(of_state, states, strict=True)
            ]
        )  # (candidates · S, B, H', W', C)
        matrix = torch.cat([w.view(self.num_nodes, -1) for w in weights], 1)
        sums = matrix.to(values.dtype) @ values.flatten(1)  # (N, B · H' · W' · C)
        return [one.permute(0, 3, 1, 2) for one in sums.view(-1, *values.shape[1:])]

    def _run_stacked(self, states: Sequence[Tensor], weights: EdgeWeights) -> Sequence[Tensor]:
        active = [F.relu(x).contiguous(memory_format=torch.channels_last) for x in states]
        by_edge = (
            active[0].device.type == "cpu"
            and active[0].numel() >= CACHE
            # Processes would wait for each other at every edge.
            and not any(operation.over_processes for operation in self.stacked)
        )
        if by_edge:
            inputs = active * self.num_nodes
        else:
            pixels = torch.cat(active, 1).permute(0, 2, 3, 1).repeat(1, 1, 1, self.num_nodes)
            inputs = [pixels.permute(0, 3, 1, 2)]  # (B, E · C, H, W)
        found = [run(inputs, w) for run, w in zip(self.stacked, weights, strict=True)]
        sums = [_added(of_part) for of_part in zip(*found, strict=True)]
        if by_edge:
            return self._by_node(sums)
        pixels = sums[0].permute(0, 2, 3, 1)
        by_node = pixels.reshape(*pixels.shape[:3], self.num_nodes, self.num_states, -1)
        # On a GPU, autocast would make this sum, and therefore the states, float32.
        nodes = by_node.sum(4, dtype=pixels.dtype).unbind(3)
        return [node.permute(0, 3, 1, 2) for node in nodes]

    def _run_rest(self, states: Sequence[Tensor], weights: EdgeWeights) -> Sequence[Tensor]:
        found = []
        for e, x in enumerate([*states] * self.num_nodes):
            pairs = [(w[e], copies[e]) for w, copies in zip(weights, self.rest, strict=True)]
            terms = [w * module(x) for w, module in pairs if not isinstance(module, Zero)]
            found.append(sum(terms[1:], terms[0]) if terms else pairs[0][1](x))
        return self._by_node(found)

    def _by_node(self, of_edges: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the sums over the states, N of (B, C, H', W')."""
        by_state = [of_edges[s :: self.num_states] for s in range(self.num_states)]
        return [_added(of_node) for of_node in zip(*by_state, strict=True)]

    def pairs(self, mixed: Sequence[MixedOperation]) -> Pairs:
        """Yield our tensors with the matching tensors of the textbook's mixed operations.

        A candidate that runs once per state has one tensor for several tensors of the textbook.
        They are equal as long as both networks have seen the same data.
        """
        copies = self._copies(mixed)
        for ours, of_edge in zip(self.stacked, copies["stacked"], strict=True):
            yield from ours.pairs(of_edge)
        kept = zip((*self.plain, *self.rest), (*copies["plain"], *copies["rest"]), strict=True)
        for own, of_edges in kept:
            for e, theirs in enumerate(of_edges):
                yield from _same_names(own[e % len(own)], theirs)


class StackedOperation(nn.Module):
    """One candidate on E edges.

    Args:
        copies: the textbook's module on each edge; see `layers`.
    """

    layers: Sequence[nn.Module]

    def __init__(self, copies: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = module_list(map(_stack, zip(*map(layers, copies), strict=True)))

    @property
    def over_processes(self) -> bool:
        """Whether the norms use statistics over all processes."""
        return any(layer.over_processes for layer in self.layers if isinstance(layer, EdgeNorm))

    def forward(self, inputs: Sequence[Tensor], weights: Tensor) -> list[Tensor]:
        """Return the weighted output of the candidate on every edge.

        Args:
            inputs: the input of every edge after the first ReLU, in equal parts of the edges:
                (B, edges of the part · C, H, W) each.
            weights: (E,).

        Returns:
            The output of each part, (B, edges of the part · C, H', W').
        """
        parts = len(inputs)
        last = len(self.layers) - 1
        kernels = [
            _equal_parts(layer.weight, parts) if isinstance(layer, nn.Conv2d) else ()
            for layer in self.layers
        ]
        scales = _equal_parts(weights, parts)
        found = []
        for part, x in enumerate(inputs):
            for i, layer in enumerate(self.layers):
                if isinstance(layer, nn.Conv2d):
                    x = convolve(x, kernels[i][part], layer)
                elif isinstance(layer, EdgeNorm):
                    x = layer(x, part, parts, scales[part] if i == last else None)
                else:
                    x = F.relu_(x)
            found.append(x)
        return found

    def pairs(self, copies: Sequence[nn.Module]) -> Pairs:
        """Our tensors beside the tensors of the textbook's modules."""
        for e, theirs in enumerate(copies):
            for stack, layer in zip(self.layers, layers(theirs), strict=True):
                for name, tensor in stack.state_dict().items():
                    yield tensor.chunk(len(copies))[e], layer.state_dict()[name]


class EdgeNorm(nn.BatchNorm2d):
    """The batch norms of several edges, whose channels are side by side.

    Attributes:
        synchronised: whether the batch statistics are over the images of all processes.
    """

    synchronised = False

    @property
    def over_processes(self) -> bool:
        """Whether the norm uses statistics over all processes."""
        by_batch = self.training or self.running_mean is None
        return self.synchronised and by_batch and process_count() > 1

    def forward(
        self, x: Tensor, part: int = 0, parts: int = 1, weights: Tensor | None = None
    ) -> Tensor:
        """Normalise the channels of one of several equal parts of the edges.

        Args:
            x: (B, channels / parts, H, W).
            part: which part.
            parts: how many parts there are.
            weights: (edges of the part,), factors of the result. None: 1.
        """
        mean, variance, scale = None, None, None
        # As in `nn.BatchNorm2d`: in eval mode, running statistics that exist are used.
        if self.running_mean is not None and (self.track_running_stats or not self.training):
            assert self.running_var is not None
            mean = self.running_mean.view(parts, -1)[part]
            variance = self.running_var.view(parts, -1)[part]
        if weights is not None:
            # Copy: the backward pass of batch norm returns wrong values for an expanded view.
            scale = weights[:, None].repeat(1, x.shape[1] // len(weights)).view(-1)
        momentum = self.momentum or 0.0
        if self.over_processes:
            return synchronised_batch_norm(x, mean, variance, scale, None, momentum, self.eps)
        by_batch = self.training or mean is None
        return F.batch_norm(x, mean, variance, scale, None, by_batch, momentum, self.eps)


def _equal_parts(tensor: Tensor, count: int) -> Sequence[Tensor]:
    """Split along the first dimension. A single part saves the copy of a split's backward pass."""
    return [tensor] if count == 1 else tensor.chunk(count)


def _added(terms: Iterable[Tensor]) -> Tensor:
    """Return the sum of outputs of batch norms, computed in place in the first."""
    total, *rest = terms
    for term in rest:
        total.add_(term)
    return total


def layers(operation: nn.Module) -> list[nn.Module]:
    """Return the layers after the first ReLU of an operation that can be stacked, or an empty list.

    Such an operation is a chain of ReLU → convolutions → batch norm, once or repeated. Its
    convolutions have no bias and its norms no scale.
    """
    leaves = [m for m in operation.modules() if not isinstance(m, nn.Sequential)]
    chain = re.fullmatch("(rc+n)+", "".join(map(_letter, leaves)))
    return leaves[1:] if chain and isinstance(operation, nn.Sequential) else []


def _letter(layer: nn.Module) -> str:
    if type(layer) is nn.ReLU:
        return "r"
    if isinstance(layer, nn.Conv2d) and type(layer) in (nn.Conv2d, PointwiseConv, SquareConv):
        return "c" if layer.bias is None and layer.padding_mode == "zeros" else "?"
    if type(layer) is nn.BatchNorm2d:
        tracks = layer.track_running_stats and layer.momentum is not None
        return "n" if tracks and not layer.affine else "?"
    return "?"


def _stack(copies: Sequence[nn.Module]) -> nn.Module:
    """Return one layer that computes all copies, with their channels side by side."""
    layer, count = copies[0], len(copies)
    if isinstance(layer, nn.Conv2d):
        stacked = copy.deepcopy(layer)
        stacked.weight = nn.Parameter(torch.cat([c.state_dict()["weight"] for c in copies]))
        return stacked
    if isinstance(layer, nn.BatchNorm2d):
        return EdgeNorm(count * layer.num_features, layer.eps, layer.momentum, affine=False)
    return layer


def _way(candidate: nn.Module) -> str:
    """Return the way in which a level runs a candidate."""
    if not list(candidate.parameters()) and not isinstance(candidate, Noise):
        return "plain"
    return "stacked" if layers(candidate) else "rest"


def _operations(textbook: MixedCell, edges: Sequence[int]) -> list[MixedOperation]:
    return [cast(MixedOperation, textbook.mixed[e]) for e in edges]


def _same_names(ours: nn.Module, theirs: nn.Module) -> Pairs:
    own, other = ours.state_dict(), theirs.state_dict()
    yield from ((own[name], other[name]) for name in own)
