"""Candidates that end in a batch norm, for all the edges that leave some states.

The convolutions of different edges have weights of their own and take the same input, so they are
one grouped convolution over the edges' channels side by side; the pointwise convolutions and the
norms of different operations are one each as well. Where that would not fit into a processor's
cache it is done for a few edges at a time, with the same parameters and the same result.

An operation needs no entry here: whatever is built as a chain of ReLU → convolutions → batch norm
is recognised by `chain`, and anything else is left as the textbook has it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.nets.depthwise import depthwise_conv2d
from darts_noise.nets.mixed.norm import EdgeNorm
from darts_noise.nets.mixed.recompute import Recomputation, recomputed

Chain = list[tuple[list[nn.Conv2d], nn.BatchNorm2d]]
"""Stages of an operation: convolutions, each stage ended by its batch norm."""
Inputs = Callable[[slice], Tensor]
"""The inputs of some edges side by side: (B, edges · C, H, W)."""
Pairs = Iterator[tuple[Tensor, Tensor]]
"""Views of our tensors beside the textbook's tensors of the same meaning."""


def chain(operation: nn.Module) -> Chain | None:
    """The stages of an operation, or None if it is not ReLU → convolutions → batch norm, repeated.

    Its convolutions must keep the number of channels and have no bias, its norms no scale.
    """
    leaves = [m for m in operation.modules() if not isinstance(m, nn.Sequential)]
    if not isinstance(operation, nn.Sequential) or not leaves:
        return None
    runs = [(kind, list(run)) for kind, run in groupby(leaves, type)]
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


def is_pointwise(convolution: nn.Conv2d) -> bool:
    return convolution.kernel_size == (1, 1) and convolution.groups == 1


M = TypeVar("M")


def module_list(modules: Iterable[M]) -> Sequence[M]:
    """An ``nn.ModuleList`` that keeps the type of its modules."""
    return cast(Sequence[M], nn.ModuleList(cast(Iterable[nn.Module], modules)))


class Stage(nn.Module):
    """The convolutions of one stage of one operation on all edges.

    Args:
        edges: the convolutions on each edge, whose weights are copied.
    """

    def __init__(self, edges: Sequence[Sequence[nn.Conv2d]]) -> None:
        super().__init__()
        self.form = [_Form(c) for c in edges[0]]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.cat([c.weight.detach() for c in across]))
            for across in zip(*edges, strict=True)
        )

    def split(self, channels: list[int]) -> list[tuple[Tensor, ...]]:
        """The weights of so many channels at a time: [convolution][part]."""
        # A single part is not split: the backward of that is a copy.
        return [torch.split(w, channels) if len(channels) > 1 else (w,) for w in self.weights]


class _Form:
    """What a convolution does, without its weights."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        self.kernel = convolution.kernel_size
        self.stride = convolution.stride
        self.padding = convolution.padding
        self.dilation = convolution.dilation
        self.channels = convolution.in_channels
        self.depthwise = convolution.groups == convolution.in_channels > 1
        self.keeps_size = (
            self.kernel[0] == self.kernel[1]
            and self.stride[0] == self.stride[1]
            and self.dilation[0] == self.dilation[1]
            and self.kernel[0] % 2 == 1
            and self.padding == (self.dilation[0] * (self.kernel[0] // 2),) * 2
        )
        self.pointwise = is_pointwise(convolution) and convolution.stride == (1, 1)

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        """x (B, G · channels, H, W) and weights of G convolutions like this one."""
        if self.depthwise and self.keeps_size:
            return depthwise_conv2d(x, weight, self.stride[0], self.dilation[0])
        groups = x.shape[1] if self.depthwise else x.shape[1] // self.channels
        if self.pointwise and x.device.type == "cpu":
            return _pointwise(x, weight.flatten(1), self.channels)
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, groups)


def _pointwise(x: Tensor, weight: Tensor, channels: int) -> Tensor:
    """A grouped pointwise convolution as one product per group, which a CPU does faster."""
    pixels = x.permute(0, 2, 3, 1)
    if pixels.shape[-1] == channels:
        return F.linear(pixels, weight).permute(0, 3, 1, 2)
    products = [
        F.linear(p, w)
        for p, w in zip(
            torch.split(pixels, channels, -1), torch.split(weight, channels), strict=True
        )
    ]
    return torch.cat(products, -1).permute(0, 3, 1, 2)


class StackedEdges(nn.Module):
    """Operations of the form of `chain` on all the edges that leave some states.

    Args:
        operations: for each kind of operation, its chain on each edge. Kinds with more stages come
            first. Several kinds only if all their stages end in a pointwise convolution.
        columns: the column of α of each kind.
    """

    norms: Sequence[EdgeNorm]
    stages: Sequence[Sequence[Stage]]

    def __init__(self, operations: Sequence[Sequence[Chain]], columns: Sequence[int]) -> None:
        super().__init__()
        self.columns = list(columns)
        self.channels = operations[0][0][0][0][0].in_channels
        self.depths = [len(edges[0]) for edges in operations]
        assert self.depths == sorted(self.depths, reverse=True)
        # Counted from the end: stage 0 of a kind is the one that its weight scales.
        self.stages = module_list(
            module_list(Stage([edge[depth - 1 - d][0] for edge in edges]) for d in range(depth))
            for edges, depth in zip(operations, self.depths, strict=True)
        )
        self.norms = module_list(
            EdgeNorm(sum(depth > d for depth in self.depths), len(operations[0]), self.channels)
            for d in range(max(self.depths))
        )

    def forward(
        self, inputs: Inputs, weights: Tensor, parts: Sequence[slice], together: bool
    ) -> Iterator[tuple[slice, Tensor]]:
        """The weighted operations of some edges at a time, to be added up by edge.

        Args:
            inputs: the edges' inputs after the first ReLU.
            weights: (edges, kinds).
            parts: the edges in parts that are worked on side by side.
            together: whether all kinds of operations are; then there is one part.

        Yields:
            The edges, and their part of the mixed operations (B, edges · C, H', W').
        """
        kinds = range(len(self.stages))
        counts = [part.stop - part.start for part in parts]
        for some in [kinds] if together else [range(k, k + 1) for k in kinds]:
            of_kind = weights[:, some.start, None]
            alphas = [weights] if together else torch.split(of_kind, counts)
            sizes = [count * self.channels for count in counts]
            kernels = {k: [stage.split(sizes) for stage in self.stages[k]] for k in some}
            for number, (edges, alpha) in enumerate(zip(parts, alphas, strict=True)):
                own = {k: [[w[number] for w in stage] for stage in kernels[k]] for k in some}
                yield edges, self._mixed(own, inputs(edges), alpha, edges)

    def _mixed(
        self, kernels: dict[int, list[list[Tensor]]], x: Tensor, weights: Tensor, edges: slice
    ) -> Tensor:
        """The sum over kinds. ``kernels``: kind → [stage][convolution], for these edges alone."""
        kinds = list(kernels)
        heads = dict.fromkeys(kinds, x)
        for d in reversed(range(max(self.depths[k] for k in kinds))):
            active = [k for k in kinds if self.depths[k] > d]
            before = partial(self._before_last, d, {k: heads[k] for k in active}, kernels)
            last = self.stages[active[0]][d].form[-1]
            kernel = _cat([kernels[k][d][-1] for k in active], 0)
            again = Recomputation(before, partial(last, weight=kernel), kernel.requires_grad)
            z = before()
            with recomputed(z, again.first):
                y = last(z, kernel)
            with recomputed(y, again.second):
                which = slice(active[0], active[-1] + 1)
                y = self.norms[d](y, which, edges, None if d else weights)
            if d:
                heads |= zip(active, _chunk(F.relu(y), len(active)), strict=True)
        if len(kinds) == 1:
            return y
        B, _, H, W = y.shape
        return y.permute(0, 2, 3, 1).reshape(B, H, W, len(kinds), -1).sum(3).permute(0, 3, 1, 2)

    def _before_last(
        self, d: int, heads: dict[int, Tensor], kernels: dict[int, list[list[Tensor]]]
    ) -> Tensor:
        """All but the last convolution of stage d, for each kind on its own head."""
        found = []
        for k, x in heads.items():
            for form, kernel in zip(self.stages[k][d].form[:-1], kernels[k][d], strict=False):
                x = form(x, kernel)
            found.append(x)
        return _cat(found, 1)

    def pairs(self, operations: Sequence[Sequence[Chain]]) -> Pairs:
        """Our weights and statistics beside those of the textbook's operations, [kind][edge]."""
        for k, edges in enumerate(operations):
            for e, stages in enumerate(edges):
                for d, (convolutions, norm) in enumerate(reversed(stages)):
                    rows = slice(e * self.channels, (e + 1) * self.channels)
                    weights = self.stages[k][d].weights
                    yield from (
                        (own[rows], c.weight) for own, c in zip(weights, convolutions, strict=True)
                    )
                    yield from self.norms[d].pairs(k, e, norm.running_mean, norm.running_var)


def _cat(tensors: Sequence[Tensor], dim: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)


def _chunk(x: Tensor, count: int) -> Sequence[Tensor]:
    """Equal parts of the channels; a single one without the copy that undoes a split backward."""
    return [x] if count == 1 else x.chunk(count, 1)
