"""Stem and cells: the part of every discrete network before its head.

The layout is from DARTS (arXiv:1806.09055, section 3.1 and appendix A).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from darts_noise.errors import SettingError
from darts_noise.nets.cell import Cell
from darts_noise.nets.features import Feature, FeatureInfo, chosen_indices
from darts_noise.nets.gain import choose_layers
from darts_noise.nets.input_filter import filtered_channels, input_filter
from darts_noise.nets.macro_layers import (
    pooling_stride,
    scaled_channels,
    start_small,
    stem_pooling,
)
from darts_noise.nets.plan import plan_cells
from darts_noise.nets.stems import build_stem
from darts_noise.space.genotype import Genotype

STEM = "stem"
"""Name of the stem's first state in `FeatureInfo`."""


WRAPPERS = ("module.", "_orig_mod.")
"""What data parallelism and ``torch.compile`` put before the names of a network's weights."""


def dtype_of(net: nn.Module) -> torch.dtype:
    """Return the dtype of a module's weights; float32 if it has none."""
    return next((parameter.dtype for parameter in net.parameters()), torch.float32)


class Body(nn.Module):
    """Stem → cells. The subclasses `FeatureNetwork` and `Network` define `forward`.

    ``load_state_dict`` also accepts the weights of a network that was wrapped in ``torch.compile``,
    ``DataParallel`` or ``DistributedDataParallel``.

    Attributes:
        genotype: the genotype of the cells.
        arguments: the arguments that make the same body again.
        drop_path: probability of dropping an operation for a sample in train mode. A training
            schedule may change it between steps.
        all_features: one map per size: the last map of each stride. If the stem's second state is
            smaller than its first, the first state is included.
    """

    def __init__(
        self,
        genotype: Genotype,
        *,
        in_channels: int,
        channels: int,
        num_cells: int,
        stem: str,
        stem_stride: int,
        drop_path: float,
    ) -> None:
        super().__init__()
        if not isinstance(drop_path, int | float) or not 0 <= drop_path < 1:
            raise SettingError(
                "drop_path", f"expected 0 up to but not including 1, got {drop_path!r}"
            )
        self.register_load_state_dict_pre_hook(_unwrap)  # type: ignore[no-untyped-call]
        self.genotype = genotype
        self.drop_path = drop_path
        self.arguments: dict[str, int | str] = {
            "in_channels": in_channels,
            "channels": channels,
            "num_cells": num_cells,
            "stem": stem,
            "stem_stride": stem_stride,
        }
        channels = scaled_channels(genotype, channels)
        self.input_filter = input_filter(genotype, in_channels)
        in_channels = filtered_channels(genotype, in_channels)
        self.stem = build_stem(stem, in_channels, channels, stem_stride)
        normalisation, pooling = genotype.choice("normalisation"), genotype.choice("pooling")
        self.stem_pooling = stem_pooling(pooling)
        for part in (self.input_filter, self.stem, self.stem_pooling):
            choose_layers(part, genotype)
        plans = plan_cells(
            num_cells=num_cells,
            channels=channels,
            stem_channels=self.stem.channels,
            stem_reduces=self.stem.reduces,
            concat={"normal": len(genotype.normal_concat), "reduce": len(genotype.reduce_concat)},
            reductions=genotype.choice("reductions"),
        )
        cells = [
            Cell(
                genotype,
                (plan.channels_before_last, plan.channels_last),
                plan.channels,
                reduction=plan.reduction,
                reduction_last=plan.reduction_last,
            )
            for plan in plans
        ]
        self.cells = nn.ModuleList(cells)
        self.out_channels = cells[-1].out_channels
        usual = (genotype.choice("gain"), genotype.choice("initialisation")) == ("free", "usual")
        if normalisation == "none" and usual:
            steps = [self.stem, *(step for cell in cells for step in cell.steps())]
            start_small(steps, depth=1 + 2 * num_cells)

        stride = self.stem.stride * pooling_stride(pooling)
        features = []
        if self.stem.reduces:
            features.append(Feature(self.stem.channels[0], stride // 2, STEM))
        for index, (plan, cell) in enumerate(zip(plans, cells, strict=True)):
            stride *= 2 if plan.reduction else 1
            if index + 1 == num_cells or plans[index + 1].reduction:
                features.append(Feature(cell.out_channels, stride, f"cells.{index}"))
        self.all_features = FeatureInfo(features)

    def maps(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the stem's first state and then the output of each cell, with their names.

        Args:
            x: images (B, in_channels, H, W).
        """
        first, second = (self.stem_pooling(state) for state in self.stem(self.input_filter(x)))
        yield STEM, first
        for index, cell in enumerate(self.cells):
            first, second = second, cell(first, second, self.drop_path)
            yield f"cells.{index}", second


def _unwrap(net: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Remove the `WRAPPERS` from the names of a network's weights, if all names have them."""
    names = [name.removeprefix(prefix) for name in state if name.startswith(prefix)]
    while names and (found := [w for w in WRAPPERS if all(name.startswith(w) for name in names)]):
        for name in names:
            state[prefix + name.removeprefix(found[0])] = state.pop(prefix + name)
        names = [name.removeprefix(found[0]) for name in names]


class FeatureNetwork(Body):
    """A body that returns maps of several sizes, for example for a feature pyramid.

    Its weights have the same names as in a `Network`. ``load_state_dict(..., strict=False)``
    therefore loads the weights of a trained network. Cells after the last requested map are not
    built.

    Attributes:
        feature_info: channels, reduction and submodule of each map that `forward` returns.

    Args:
        genotype: the genotype of the cells.
        out_indices: indices of the maps. 0 is the largest map; negative indices count from the end.
            None (default): all maps.
        arguments: see `create_model`.

    Raises:
        ValueError: a map, stem or size does not exist.
    """

    def __init__(
        self, genotype: Genotype, out_indices: Sequence[int] | None = None, **arguments: Any
    ) -> None:
        super().__init__(genotype, **arguments)
        chosen = chosen_indices(out_indices, len(self.all_features))
        self.feature_info = FeatureInfo(self.all_features[i] for i in chosen)
        last = self.feature_info[-1].module
        kept = 0 if last == STEM else int(last.removeprefix("cells.")) + 1
        self.cells = self.cells[:kept]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of images (B, in_channels, H, W).

        They are (B, C, ⌈H/r⌉, ⌈W/r⌉), for each channels C and reduction r in `feature_info`.
        """
        wanted = self.feature_info.module_name()
        return [state for name, state in self.maps(x) if name in wanted]
