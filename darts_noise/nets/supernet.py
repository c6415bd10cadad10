"""The supernet: every candidate on every edge, weighted by α. The textbook version.

One module per operation, edge and cell, written as the mathematics is: o(x) = Σ_k weight_k · o_k(x)
(DARTS, arXiv:1806.09055, equation 2). A faster version must compute this function.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from darts_noise.nets.cell import preprocessing
from darts_noise.nets.plan import CellPlan, plan_cells
from darts_noise.nets.stems import build_stem
from darts_noise.space.operations import get_operation
from darts_noise.space.spaces import Space, get_space


class MixedOperation(nn.Module):
    """All candidates of one edge: x (B, C, H, W) and weights (operations,) → (B, C, H', W')."""

    def __init__(self, space: Space, channels: int, stride: int) -> None:
        super().__init__()
        self.space, self.channels, self.stride = space, channels, stride
        self.candidates = nn.ModuleList()
        for name in space.operations:
            operation = get_operation(name)
            module = operation.build(channels, stride, False)
            if operation.normalise_in_search:
                module = nn.Sequential(module, nn.BatchNorm2d(channels, affine=False))
            self.candidates.append(module)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return torch.stack(
            [w * op(x) for w, op in zip(weights.unbind(), self.candidates, strict=True)]
        ).sum(0)


class MixedCell(nn.Module):
    """A cell with a mixed operation on every edge; each node is the sum over all predecessors.

    The output concatenates all nodes: (B, channels · nodes, H', W'). No batch norm here learns a
    scale: it would undo the weights of the candidates (DARTS, section 3.1.1).
    """

    def __init__(self, space: Space, plan: CellPlan) -> None:
        super().__init__()
        self.edges = space.edges
        self.num_nodes = space.nodes
        self.preprocess = nn.ModuleList(preprocessing(plan, affine=False))
        self.mixed = nn.ModuleList(
            MixedOperation(space, plan.channels, 2 if plan.reduction and p < 2 else 1)
            for p, _ in space.edges
        )

    def forward(self, first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
        """Args: the outputs of the two cells before, and weights (edges, operations)."""
        states = [self.preprocess[0](first), self.preprocess[1](second)]
        incoming: list[list[Tensor]] = [[] for _ in range(self.num_nodes)]
        for (predecessor, node), mixed, row in zip(self.edges, self.mixed, weights, strict=True):
            # Edges are ordered by node, so all of a node's predecessors are there by now.
            if predecessor == len(states):
                states.append(sum(incoming[predecessor - 2][1:], incoming[predecessor - 2][0]))
            incoming[node].append(mixed(states[predecessor], row))
        states.append(sum(incoming[-1][1:], incoming[-1][0]))
        return torch.cat(states[2:], dim=1)


class SuperNet(nn.Module):
    """The network that the search trains: stem → mixed cells → pool → linear.

    Args:
        space: the name of a search space, or a `Space`.
        num_classes: size of the last layer.
        in_channels: channels of the images.
        channels: channels of a state before the first reduction.
        num_cells: cells in all, with reductions at one and two thirds.
        stem: ``cifar``, ``imagenet`` or ``small``.
        nodes: nodes of a cell; the space's own number when absent.
        stem_stride: 1, 2 or 4, of the ``cifar`` or ``small`` stem's convolution.

    Raises:
        ValueError: a space, stem or size that does not exist; the message says what does.
    """

    def __init__(
        self,
        space: str | Space = "darts",
        num_classes: int = 10,
        in_channels: int = 3,
        channels: int = 16,
        num_cells: int = 8,
        stem: str = "cifar",
        nodes: int | None = None,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        self.space = get_space(space, nodes)
        self.stem = build_stem(stem, in_channels, channels, stem_stride)
        self.plans = plan_cells(
            num_cells=num_cells,
            channels=channels,
            stem_channels=self.stem.channels,
            stem_reduces=self.stem.reduces,
            concat={"normal": self.space.nodes, "reduce": self.space.nodes},
        )
        self.cells = nn.ModuleList(MixedCell(self.space, plan) for plan in self.plans)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(self.plans[-1].channels * self.space.nodes, num_classes)

    def forward(self, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, num_classes) of images (B, in_channels, H, W).

        Args:
            x: images.
            weights: for ``"normal"`` and ``"reduce"``, (edges, operations), already relaxed (for
                instance by a softmax over the operations).
        """
        first, second = self.stem(x)
        for plan, cell in zip(self.plans, self.cells, strict=True):
            first, second = second, cell(first, second, weights[plan.kind])
        logits: Tensor = self.classifier(self.pool(second).flatten(1))
        return logits
