"""The stacked candidates on a processor: edge by edge, with the backward pass written out.

A processor is bound by its memory and by the cost of each call. One edge at a time stays in its
cache; a single node in the graph in place of a hundred, sums made in place and cheap convolutions
made again instead of kept leave little else to move. The function and its gradients are those of
`StackedEdges`, which a second derivative, another device, autocast and compilation go through.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from darts_noise.nets.mixed.form import Form
from darts_noise.nets.mixed.norm import EdgeNorm
from darts_noise.nets.mixed.stacked import StackedEdges


def applies(states: Sequence[Tensor], families: Sequence[StackedEdges]) -> bool:
    """Whether these states (B, C, H, W) are worked on here, by operations of these families.

    Norms over several processes would wait for each other at every edge, and are left out.
    """
    return (
        not any(norm.over_processes for family in families for norm in family.norms)
        and all(s.device.type == "cpu" for s in states)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


def add_edges(
    families: Sequence[StackedEdges],
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    sums: Tensor,
) -> Tensor:
    """Adds the weighted operations of every edge to the nodes that they enter.

    Args:
        families: the operations on the edges, which go by state and then by node.
        states: after the first ReLU, (B, C, H, W) each.
        weights: for each family, (edges, kinds).
        sums: (nodes, B, H', W', C), changed in place.
    """
    kernels = [kernel for family in families for kernel in family.kernels()]
    states = [s.contiguous(memory_format=torch.channels_last) for s in states]
    added: Tensor = _AddEdges.apply(families, sums, len(states), *states, *weights, *kernels)
    return added


@dataclass(frozen=True)
class _Stage:
    """One stage of one operation on one edge."""

    forms: list[Form]
    kernels: list[Tensor]
    norm: EdgeNorm
    where: tuple[int, int]
    scale: Tensor | None

    def keeps_output(self, for_weights: bool) -> bool:
        """Whether the output is kept for the backward pass, or the inputs that it is made of.

        The norm asks for the output; what the convolutions are fed is asked for by their weights.
        """
        return not for_weights and all(form.pointwise for form in self.forms[1:])

    def before_last(self, x: Tensor) -> list[Tensor]:
        """What all convolutions but the last make of x, one after the other."""
        values: list[Tensor] = []
        for form, kernel in zip(self.forms[:-1], self.kernels, strict=False):
            values.append(form.apply(values[-1] if values else x, kernel))
        return values

    def last(self, x: Tensor) -> Tensor:
        return self.forms[-1].apply(x, self.kernels[-1])


def _stages(
    families: Sequence[StackedEdges], weights: Sequence[Tensor], kernels: Sequence[Tensor]
) -> Iterator[tuple[tuple[int, int, int], list[_Stage]]]:
    """The stages, from first to last, of (family, kind, edge)."""
    for f, (family, alpha, own) in enumerate(_by_family(families, weights, kernels)):
        scales = alpha.detach()[..., None].expand(-1, -1, family.channels).contiguous()
        rows = [
            [[kernel.detach().chunk(len(alpha)) for kernel in stage] for stage in kind]
            for kind in family.by_stage(own)
        ]
        for k, stages in enumerate(family.forms):
            for e in range(len(alpha)):
                yield (
                    (f, k, e),
                    [
                        _Stage(
                            stages[d],
                            [of_edge[e] for of_edge in rows[k][d]],
                            family.norms[d],
                            (k, e),
                            None if d else scales[e, k],
                        )
                        for d in reversed(range(len(stages)))
                    ],
                )


class _AddEdges(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, families: Sequence[StackedEdges], sums: Tensor, count: int, *tensors: Tensor
    ) -> Tensor:
        states, weights, kernels = _sorted(families, count, tensors)
        nodes = [node.permute(0, 3, 1, 2) for node in sums.unbind()]
        for_weights = _for_weights(families, count, ctx.needs_input_grad[3:])
        kept: list[Tensor] = []
        for (_, _, e), stages in _stages(families, weights, kernels):
            head = states[e // len(nodes)]
            for stage in stages:
                between = stage.before_last(head)
                y = stage.last([head, *between][-1])
                kept += [y] if stage.keeps_output(for_weights) else between
                y, *statistics = stage.norm.normalise(y, *stage.where, stage.scale)
                kept += statistics
                if stage is not stages[-1]:
                    head = y.relu_()
                    kept.append(head)
            nodes[e % len(nodes)].add_(y)
        ctx.mark_dirty(sums)
        ctx.save_for_backward(*tensors, *kept)
        ctx.families, ctx.count, ctx.given = families, count, len(tensors)
        return sums

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tensors, kept = ctx.saved_tensors[: ctx.given], ctx.saved_tensors[ctx.given :]
        needed = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():  # a second derivative will be asked for
            found = _differentiable(ctx.families, ctx.count, tensors, needed, gradient)
        else:
            found = _gradients(ctx.families, ctx.count, tensors, needed, gradient, kept)
        return None, gradient, None, *found


def _sorted(
    families: Sequence[StackedEdges], count: int, tensors: Sequence[Any]
) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    """What belongs to states, weights and kernels."""
    end = count + len(families)
    return tensors[:count], tensors[count:end], tensors[end:]


def _for_weights(families: Sequence[StackedEdges], count: int, needed: Sequence[bool]) -> bool:
    """Whether a gradient by a convolution's weights is asked for."""
    return any(_sorted(families, count, needed)[2])


def _gradients(
    families: Sequence[StackedEdges],
    count: int,
    tensors: Sequence[Tensor],
    needed: Sequence[bool],
    gradient: Tensor,
    kept: Sequence[Tensor],
) -> list[Tensor | None]:
    states, weights, kernels = _sorted(families, count, tensors)
    of_state: list[Tensor | None] = [None] * count
    of_weight = [torch.zeros_like(w) for w in weights]
    of_kernel = [torch.empty_like(k) for k in kernels]
    state_needed = needed[:count]
    nodes = [node.permute(0, 3, 1, 2) for node in gradient.contiguous().unbind()]
    filled = [
        [[kernel.chunk(len(w)) for kernel in stage] for stage in kind]
        for family, w, own in _by_family(families, weights, of_kernel)
        for kind in family.by_stage(own)
    ]
    for_weights = _for_weights(families, count, needed)
    number, rest = -1, iter(kept)
    for (f, k, e), stages in _stages(families, weights, kernels):
        number += e == 0
        head, g = states[e // len(nodes)], nodes[e % len(nodes)]
        records = []
        for stage in stages:
            whole = stage.keeps_output(for_weights)
            outputs = [next(rest) for _ in ("y" if whole else stage.forms[1:])]
            records.append((stage, [head, *outputs], (next(rest), next(rest))))
            if stage is not stages[-1]:
                head = next(rest)
        for d, (stage, inputs, statistics) in enumerate(reversed(records)):
            whole = stage.keeps_output(for_weights)
            y = inputs[-1] if whole else stage.last(inputs[-1])
            g, of_scale = stage.norm.gradients(g, y, *stage.where, stage.scale, statistics)
            if of_scale is not None:
                of_weight[f][e, k] = of_scale.sum()
            first = stage is stages[0]
            for c in reversed(range(len(stage.forms))):
                further = c > 0 or not first or state_needed[e // len(nodes)]
                mask = (further, for_weights)
                x = inputs[0 if whole else c]
                dx, dw = stage.forms[c].gradients(g, x, stage.kernels[c], mask)
                if dw is not None:
                    filled[number][d][c][e].copy_(dw)
                if dx is None:
                    break
                g = dx
            if not first:
                g = torch.ops.aten.threshold_backward(g, inputs[0], 0)
        if state_needed[e // len(nodes)]:
            total = of_state[e // len(nodes)]
            of_state[e // len(nodes)] = g if total is None else total.add_(g)
    return [
        value if asked else None
        for value, asked in zip((*of_state, *of_weight, *of_kernel), needed, strict=True)
    ]


def _by_family(
    families: Sequence[StackedEdges], weights: Sequence[Tensor], values: Sequence[Any]
) -> Iterator[tuple[StackedEdges, Tensor, list[Any]]]:
    rest = iter(values)
    for family, w in zip(families, weights, strict=True):
        yield family, w, [next(rest) for _ in family.kernels()]


def _differentiable(
    families: Sequence[StackedEdges],
    count: int,
    tensors: Sequence[Tensor],
    needed: Sequence[bool],
    gradient: Tensor,
) -> list[Tensor | None]:
    """The gradients with a graph of their own."""
    # Views, because nothing before them is one of them: a state comes from cells whose weights are
    # these very weights, and a gradient by those would go on through the state.
    tensors = [tensor.view_as(tensor) for tensor in tensors]
    states, weights, kernels = _sorted(families, count, tensors)
    sums = [
        together(family, torch.cat(list(states), 1), count, w, own, track=False)
        for family, w, own in _by_family(families, weights, kernels)
    ]
    wanted = [t for t, asked in zip(tensors, needed, strict=True) if asked]
    found = iter(torch.autograd.grad(sums, wanted, [gradient] * len(sums), create_graph=True))
    return [next(found) if asked else None for asked in needed]


def together(
    family: StackedEdges,
    x: Tensor,
    num_states: int,
    weights: Tensor,
    kernels: Sequence[Tensor],
    track: bool = True,
) -> Tensor:
    """What a family brings to the nodes, all edges at once: (nodes, B, H', W', C).

    Args:
        family: the operations on the edges, which go by state and then by node.
        x: the states after the first ReLU, side by side (B, states · C, H, W).
        num_states: how many they are.
        weights: (edges, kinds).
        kernels: as `StackedEdges.kernels` gives them.
        track: whether the norms' running statistics follow.
    """
    nodes = len(weights) // num_states
    pixels = x.permute(0, 2, 3, 1)
    repeated = pixels.reshape(*pixels.shape[:3], num_states, 1, -1)
    repeated = repeated.expand(-1, -1, -1, -1, nodes, -1)  # (B, H, W, s, n, C)
    mixed: Tensor = family(repeated.flatten(3).permute(0, 3, 1, 2), weights, kernels, track)
    by_state = mixed.view(*mixed.shape[:4], num_states, nodes, -1)
    # The type is named since autocast on a GPU would add up to float32, and all that follows, the
    # states and what is kept of them, would take twice the memory.
    return by_state.sum((3, 4), dtype=mixed.dtype).permute(3, 0, 1, 2, 4)
