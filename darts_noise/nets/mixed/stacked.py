"""Candidates that end in a batch norm, for all the edges that leave some states.

The convolutions of different edges have weights of their own and take the same input, so they are
one grouped convolution over the edges' channels side by side; the pointwise convolutions and the
norms of different operations are one each as well. That saves a GPU its launches. A processor
would have nothing of it in its cache: there `edgewise` computes the same, edge by edge.

An operation needs no entry here: whatever is built as a chain of ReLU → convolutions → batch norm
is recognised by `chain`, and anything else is left as the textbook has it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.nets.mixed.form import Form
from darts_noise.nets.mixed.norm import EdgeNorm
from darts_noise.space.operations.pointwise import PointwiseConv, SquareConv

Chain = list[tuple[list[nn.Conv2d], nn.BatchNorm2d]]
"""Stages of an operation: convolutions, each stage ended by its batch norm."""
Pairs = Iterator[tuple[Tensor, Tensor]]
"""Views of our tensors beside the textbook's tensors of the same meaning."""


def chain(operation: nn.Module) -> Chain | None:
    """The stages of an operation, or None if it is not ReLU → convolutions → batch norm, repeated.

    Its convolutions must keep the number of channels and have no bias, its norms no scale.
    """
    leaves = [m for m in operation.modules() if not isinstance(m, nn.Sequential)]
    if not isinstance(operation, nn.Sequential) or not leaves:
        return None
    runs = [(kind, list(run)) for kind, run in groupby(leaves, _kind)]
    if len(runs) % 3 or [kind for kind, _ in runs] != [nn.ReLU, nn.Conv2d, nn.BatchNorm2d] * (
        len(runs) // 3
    ):
        return None
    stages = []
    for (_, relus), (_, convolutions), (_, norms) in zip(*[iter(runs)] * 3, strict=True):
        plain = all(
            c.bias is None
            and c.padding_mode == "zeros"
            and c.in_channels == c.out_channels
            and c.groups in (1, c.in_channels)
            for c in convolutions
        )
        if len(relus) > 1 or len(norms) > 1 or norms[0].affine or not plain:
            return None
        stages.append((convolutions, norms[0]))
    return stages


def _kind(leaf: nn.Module) -> type[nn.Module]:
    return nn.Conv2d if type(leaf) in (PointwiseConv, SquareConv) else type(leaf)


M = TypeVar("M")


def module_list(modules: Iterable[M]) -> Sequence[M]:
    """An ``nn.ModuleList`` that keeps the type of its modules."""
    return cast(Sequence[M], nn.ModuleList(cast(Iterable[nn.Module], modules)))


class StackedEdges(nn.Module):
    """Operations of the form of `chain` on all the edges that leave some states.

    Args:
        operations: for each kind of operation, its chain on each edge. Kinds with more stages come
            first. Several kinds only if all their stages end in a pointwise convolution.
        columns: the column of α of each kind.
    """

    norms: Sequence[EdgeNorm]

    def __init__(self, operations: Sequence[Sequence[Chain]], columns: Sequence[int]) -> None:
        super().__init__()
        self.columns = list(columns)
        self.channels = operations[0][0][0][0][0].in_channels
        self.depths = [len(edges[0]) for edges in operations]
        assert self.depths == sorted(self.depths, reverse=True)
        # Stages are counted from the end: stage 0 of a kind is the one that its weight scales.
        own: list[nn.Parameter] = []
        self.forms: list[list[list[Form]]] = []  # [kind][stage][convolution]
        for edges, depth in zip(operations, self.depths, strict=True):
            stages = [[edge[depth - 1 - d][0] for edge in edges] for d in range(depth)]
            self.forms.append([[Form(c) for c in stage[0]] for stage in stages])
            own += [_across(c) for stage in stages for c in list(zip(*stage, strict=True))[:-1]]
        self.own = nn.ParameterList(own)
        """By kind, stage and convolution, the weights of all convolutions but a stage's last."""
        self.lasts = nn.ParameterList(
            _across(
                edge[depth - 1 - d][0][-1]
                for edges, depth in zip(operations, self.depths, strict=True)
                if depth > d
                for edge in edges
            )
            for d in range(max(self.depths))
        )
        """By stage, the weights of the last convolutions of all its kinds."""
        self.norms = module_list(
            EdgeNorm(self._active(d), len(operations[0]), self.channels)
            for d in range(max(self.depths))
        )

    def kernels(self) -> list[Tensor]:
        """The weights of all convolutions."""
        return [*self.own, *self.lasts]

    def by_stage(self, kernels: Sequence[Tensor]) -> list[list[list[Tensor]]]:
        """Views of what `kernels` gives as [kind][stage][convolution]."""
        own = iter(kernels[: len(self.own)])
        lasts = [
            iter(kernel.chunk(self._active(d))) for d, kernel in enumerate(kernels[len(self.own) :])
        ]
        return [
            [[*(next(own) for _ in forms[:-1]), next(lasts[d])] for d, forms in enumerate(stages)]
            for stages in self.forms
        ]

    def _active(self, stage: int) -> int:
        """How many kinds have this stage."""
        return sum(depth > stage for depth in self.depths)

    def forward(
        self, x: Tensor, weights: Tensor, kernels: Sequence[Tensor], track: bool = True
    ) -> Tensor:
        """The weighted operations of every edge.

        Args:
            x: the edges' inputs after the first ReLU, side by side (B, edges · C, H, W).
            weights: (edges, kinds).
            kernels: as `kernels` gives them.
            track: whether the norms' running statistics follow.

        Returns:
            (B, H', W', kinds, edges, C), to be added up.
        """
        of = self.by_stage(kernels)
        heads = [x] * len(self.depths)
        for d in reversed(range(len(self.norms))):
            active = self._active(d)
            found = []
            for k in range(active):
                for form, kernel in zip(self.forms[k][d][:-1], of[k][d], strict=False):
                    heads[k] = form(heads[k], kernel)
                found.append(heads[k])
            together = found[0] if active == 1 else torch.cat(found, 1)
            y = self.forms[0][d][-1](together, kernels[len(self.own) + d])
            y = self.norms[d](y, None if d else weights, track)
            if d:
                heads[:active] = F.relu(y).chunk(active, 1)
        pixels = y.permute(0, 2, 3, 1)
        return pixels.reshape(*pixels.shape[:3], len(self.depths), len(weights), -1)

    def pairs(self, operations: Sequence[Sequence[Chain]]) -> Pairs:
        """Our weights and statistics beside those of the textbook's operations, [kind][edge]."""
        of = self.by_stage([kernel.detach() for kernel in self.kernels()])
        for k, edges in enumerate(operations):
            for e, stages in enumerate(edges):
                for d, (convolutions, norm) in enumerate(reversed(stages)):
                    rows = slice(e * self.channels, (e + 1) * self.channels)
                    yield from (
                        (own[rows], c.weight) for own, c in zip(of[k][d], convolutions, strict=True)
                    )
                    yield from self.norms[d].pairs(k, e, norm.running_mean, norm.running_var)


def _across(convolutions: Iterable[nn.Conv2d]) -> nn.Parameter:
    return nn.Parameter(torch.cat([c.weight.detach() for c in convolutions]))
