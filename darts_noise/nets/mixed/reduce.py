"""The factorised reduction (`skip_connect` with stride 2) on all edges that leave some states."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.nets.mixed.norm import EdgeNorm
from darts_noise.nets.mixed.stacked import Inputs, Pairs, module_list
from darts_noise.space.operations.identity import FactorizedReduce

HALVES = ("straight", "shifted")


class StackedReduce(nn.Module):
    """Both halves of `FactorizedReduce` as one grouped convolution each.

    Args:
        operations: the textbook's, one per edge, whose weights are copied.
        column: their column of α.
    """

    norms: Sequence[EdgeNorm]

    def __init__(self, operations: Sequence[FactorizedReduce], column: int) -> None:
        super().__init__()
        self.columns = [column]
        self.straight, self.shifted = (
            nn.Parameter(torch.cat([getattr(o, half).weight.detach() for o in operations]))
            for half in HALVES
        )
        edges = len(operations)
        self.channels = operations[0].straight.in_channels
        self.halves = [len(self.straight) // edges, len(self.shifted) // edges]
        self.norms = module_list(EdgeNorm(1, edges, half) for half in self.halves)

    def forward(
        self, inputs: Inputs, weights: Tensor, parts: Sequence[slice], together: bool
    ) -> Iterator[tuple[slice, Tensor]]:
        """See `StackedEdges.forward`."""
        for edges in parts:
            count = edges.stop - edges.start
            x = inputs(edges)
            height, width = x.shape[-2:]
            odd = height % 2 or width % 2  # a padding by nothing would copy
            shifted = (F.pad(x, (0, width % 2, 0, height % 2)) if odd else x)[:, :, 1:, 1:]
            halves = []
            for image, kernels, size, norm in zip(
                (x, shifted), (self.straight, self.shifted), self.halves, self.norms, strict=True
            ):
                kernel = kernels[edges.start * size : edges.stop * size]
                y = F.conv2d(image, kernel, stride=2, groups=count)
                y = norm(y, slice(0, 1), edges, weights[edges])
                halves.append(y.permute(0, 2, 3, 1).reshape(len(y), *y.shape[2:], count, size))
            yield edges, torch.cat(halves, -1).flatten(3).permute(0, 3, 1, 2)

    def pairs(self, operations: Sequence[FactorizedReduce]) -> Pairs:
        """Our weights and statistics beside those of the textbook's operations."""
        for e, theirs in enumerate(operations):
            mean, variance = (
                torch.split(s if s is not None else torch.empty(0), self.halves)
                for s in (theirs.norm.running_mean, theirs.norm.running_var)
            )
            for h, (name, size) in enumerate(zip(HALVES, self.halves, strict=True)):
                yield getattr(self, name)[e * size : (e + 1) * size], getattr(theirs, name).weight
                yield from self.norms[h].pairs(0, e, mean[h], variance[h])
