"""The supernet: stem → mixed cells → pool → linear, the network that the search trains.

`mixed.textbook` defines what a mixed cell computes. `mixed.stacked` computes the same faster.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

from darts_noise.compat import BatchNorm
from darts_noise.configured import require_at_least
from darts_noise.errors import SettingError, unknown
from darts_noise.nets.gain import ScaledLinear, bound_gain
from darts_noise.nets.input_filter import filtered_channels, input_filter
from darts_noise.nets.integers import require_integers
from darts_noise.nets.macro_layers import (
    candidates,
    classifier_inputs,
    final_pool,
    mix_layers,
    projection,
    stem_pooling,
    weighing,
)
from darts_noise.nets.mixed.stacked import StackedCell, module_list
from darts_noise.nets.mixed.textbook import MixedCell
from darts_noise.nets.plan import plan_cells
from darts_noise.nets.stems import build_stem
from darts_noise.space.genotype import Cell, Genotype
from darts_noise.space.macro import FIXED
from darts_noise.space.spaces import Space, get_space

IMPLEMENTATIONS: Mapping[str, type[StackedCell] | type[MixedCell]] = MappingProxyType(
    {"shared": StackedCell, "textbook": MixedCell}
)


class SuperNet(nn.Module):
    """The network that the search trains: stem → mixed cells → pool → linear.

    If the space also searches the pooling after the stem, each pooling has its own mixed cells, and
    α weighs their features. So the cells see maps of the same size as in the discrete network.

    Args:
        space: the name of a search space, or a `Space`.
        num_classes: size of the last layer.
        in_channels: channels of the images.
        channels: channels of a state before the first reduction.
        num_cells: number of cells, with reductions at one and two thirds.
        stem: ``cifar``, ``imagenet`` or ``small``.
        nodes: nodes of a cell. None: the number that the space defines.
        stem_stride: stride of the convolution in the ``cifar`` or ``small`` stem: 1, 2 or 4.
        implementation: ``shared`` (fast) or ``textbook``. Both compute the same function. A space
            with a bounded gain or average reductions is always ``textbook``.

    Raises:
        ValueError: a space, stem or size does not exist. The message lists the valid ones.
    """

    log_scales: Tensor

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
        implementation: str = "shared",
    ) -> None:
        super().__init__()
        require_implementation(implementation)
        sizes = {
            "num_classes": num_classes,
            "in_channels": in_channels,
            "channels": channels,
            "num_cells": num_cells,
            "stem_stride": stem_stride,
        }
        require_integers(**sizes)
        require_at_least(1, num_classes=num_classes, in_channels=in_channels)
        self.space = get_space(space, nodes).mixable()
        fixed = {name: self.space.fixed(name) for name in FIXED}
        bounded = fixed["gain"] == "bounded"
        if bounded or fixed["reduction"] == "average":
            implementation = "textbook"  # `stacked` supports neither
        self.implementation = implementation
        self._arguments: dict[str, Any] = {
            "space": self.space,
            "stem": stem,
            **sizes,
        }
        self.input_filter = input_filter(self.space, in_channels)
        in_channels = filtered_channels(self.space, in_channels)
        self.stem = build_stem(stem, in_channels, channels, stem_stride)
        if not bounded:
            mix_layers(self.stem, self.space)
        self.poolings = nn.ModuleList(map(stem_pooling, candidates(self.space, "pooling")))
        self.plans = plan_cells(
            num_cells=num_cells,
            channels=channels,
            stem_channels=self.stem.channels,
            stem_reduces=self.stem.reduces,
            concat={"normal": self.space.nodes, "reduce": self.space.nodes},
            reductions=fixed["reductions"],
        )
        cell = IMPLEMENTATIONS[implementation]
        self.cells = module_list(
            cell(self.space, plan) for _ in self.poolings for plan in self.plans
        )
        last = self.plans[-1].channels * self.space.nodes
        self.pool = final_pool(self.space)
        self.projection = projection(self.space, last)
        if not bounded:
            mix_layers(self.projection, self.space)
        if implementation == "shared":  # unused; each costs a launch
            for norm in (m for m in self.modules() if isinstance(m, BatchNorm)):
                norm.num_batches_tracked = None
        learnt = self.space.fixed("logit_scaling") == "learnt"
        inputs = classifier_inputs(self.space, last)
        self.classifier = ScaledLinear(inputs, num_classes, learnt=learnt)
        if bounded:
            before = (self.input_filter, self.stem, self.poolings)
            for part in (*before, self.projection, self.classifier):
                bound_gain(part)
        scales = candidates(self.space, "logit_scale")
        self.register_buffer("log_scales", torch.tensor(scales).log(), persistent=False)

    def forward(self, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the logits (B, num_classes) of images (B, in_channels, H, W).

        Args:
            x: images.
            weights: for ``"normal"`` and ``"reduce"``, (edges, operations), and for each macro
                choice of the space, (1, candidates); already relaxed, for instance by a softmax.

        Raises:
            ValueError: weights of another shape.
        """
        self._require_weights(weights)
        if self.implementation == "shared":
            x = x.contiguous(memory_format=torch.channels_last)
        with weighing(self, weights):
            states = self.stem(self.input_filter(x))
            # All cells of a kind use the same weights.
            arranged: dict[str, Any] = {}
            for plan, cell in zip(self.plans, self.cells, strict=False):
                if plan.kind not in arranged:
                    arranged[plan.kind] = cell.arrange(weights[plan.kind])
            paths = [self._pooled(i, states, arranged) for i in range(len(self.poolings))]
            features = self.projection(_mixed(paths, weights.get("pooling"))).flatten(1)
        scale: Tensor | float = 1.0
        if "logit_scale" in weights:
            # The geometric mean. Not a matrix product, which autocast would round to bf16.
            scale = (weights["logit_scale"][0] * self.log_scales).sum().exp()
        logits: Tensor = self.classifier(features, scale)
        return logits

    def path(self, x: Tensor, genotype: Genotype) -> Tensor:
        """Return the logits (B, num_classes) of a discrete network with the weights of its parts.

        Equal to `forward` with a weight of 1 for what the genotype has and 0 for everything else,
        if the gain is not bounded. With a bounded gain, a node is the mean of its own operations,
        as in the discrete network. Operations that the genotype does not have do not run: their
        weights get no gradient, and their batch-norm statistics do not change.

        Args:
            x: images (B, in_channels, H, W).
            genotype: a cell of the space, with a value for each of its macro choices.

        Raises:
            ValueError: the supernet is not a textbook one.
        """
        if self.implementation != "textbook":
            raise ValueError(f"path: expected a textbook supernet, got {self.implementation}")
        macro = {
            name: torch.tensor([[float(v == genotype.choice(name)) for v in values]]).to(x)
            for name, values in self.space.macro
        }
        pooling = self.poolings[self._pooling(genotype)]
        with weighing(self, macro):
            first, second = map(pooling, self.stem(self.input_filter(x)))
            for plan, cell in zip(self.plans, self._cells_of(genotype), strict=True):
                nodes: Cell = getattr(genotype, plan.kind)
                first, second = second, cell.path(first, second, nodes)
            features = self.projection(self.pool(second)).flatten(1)
        logits: Tensor = self.classifier(features, float(genotype.choice("logit_scale")))
        return logits

    def unused(self, genotype: Genotype) -> list[nn.Module]:
        """Return the cells and operations that `path` does not run."""
        own = self._cells_of(genotype)
        others: list[nn.Module] = [cell for cell in self.cells if cell not in own]
        for plan, cell in zip(self.plans, own, strict=True):
            others += cell.unused(getattr(genotype, plan.kind))
        return others

    def _pooling(self, genotype: Genotype) -> int:
        return candidates(self.space, "pooling").index(genotype.choice("pooling"))

    def _cells_of(self, genotype: Genotype) -> list[MixedCell]:
        """Return the cells behind the pooling of a genotype. The supernet is a textbook one."""
        start = self._pooling(genotype) * len(self.plans)
        own = list(self.cells)[start : start + len(self.plans)]
        return cast(list[MixedCell], own)

    def _pooled(
        self, path: int, states: tuple[Tensor, Tensor], arranged: Mapping[str, Any]
    ) -> Tensor:
        """Return the means (B, channels, P, 1) of the last map, after a pooling and its cells."""
        first, second = (self.poolings[path](state) for state in states)
        depth = len(self.plans)
        own = list(self.cells)[path * depth : (path + 1) * depth]
        for plan, cell in zip(self.plans, own, strict=True):
            first, second = second, cell(first, second, arranged[plan.kind])
        pooled: Tensor = self.pool(second)
        return pooled

    def _require_weights(self, weights: Mapping[str, Tensor]) -> None:
        edges = (len(self.space.edges), len(self.space.operations))
        expected = {"normal": edges, "reduce": edges}
        expected |= {name: (1, len(values)) for name, values in self.space.macro}
        for kind, shape in expected.items():
            found = tuple(weights[kind].shape) if kind in weights else None
            if found != shape:
                of = "edges and operations" if kind in ("normal", "reduce") else "candidates"
                raise ValueError(
                    f"weights[{kind!r}]: expected {shape}, the {of} of space "
                    f"{self.space.name!r} with {self.space.nodes} nodes, got {found}"
                )

    def to_textbook(self) -> "SuperNet":
        """Return a textbook supernet with the same weights and statistics, in the same mode."""
        other = SuperNet(**self._arguments, implementation="textbook")
        other.train(self.training).to(self.classifier.weight)
        _copy((theirs, ours) for ours, theirs in self._pairs(other))
        return other

    def load_textbook(self, other: "SuperNet") -> "SuperNet":
        """Copy the weights and statistics of a textbook supernet with the same arguments.

        Raises:
            ValueError: the other is not a textbook supernet, or has other arguments. Nothing
                changes.
        """
        for key, value in self._arguments.items():
            if other._arguments[key] != value:
                raise ValueError(
                    f"{key}: expected {value!r} as here, got {other._arguments[key]!r}"
                )
        _copy(self._pairs(other))
        return self

    def _pairs(self, textbook: "SuperNet") -> Iterator[tuple[Tensor, Tensor]]:
        """Yield our tensors with the matching tensors of a textbook supernet."""
        if self.implementation == "textbook" or textbook.implementation != "textbook":
            raise ValueError("expected a shared supernet and a textbook one")
        for name in ("stem", "projection", "classifier"):
            ours, theirs = getattr(self, name).state_dict(), getattr(textbook, name).state_dict()
            yield from ((ours[key], theirs[key]) for key in ours)
        for own, other in zip(self.cells, textbook.cells, strict=True):
            assert isinstance(own, StackedCell)
            assert isinstance(other, MixedCell)
            yield from own.pairs(other)


def _mixed(paths: list[Tensor], weights: Tensor | None) -> Tensor:
    """Return Σ_k weight_k · path_k. Weights: (1, candidates), None for one path."""
    if weights is None:
        return paths[0]
    return torch.einsum("k,k...->...", weights[0], torch.stack(paths))


def require_implementation(name: str) -> None:
    """Raise a `SettingError` that lists the valid names unless ``name`` is one of them."""
    if name not in IMPLEMENTATIONS:
        raise SettingError("supernet", unknown("supernet", name, IMPLEMENTATIONS))


@torch.no_grad()
def _copy(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    for to, source in pairs:
        to.copy_(source)
