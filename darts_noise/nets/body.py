"""Stem and cells: what every discrete network has before its head.

Their layout is DARTS's (arXiv:1806.09055, section 3.1 and appendix A).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from darts_noise.errors import SettingError
from darts_noise.nets.cell import Cell
from darts_noise.nets.features import Feature, FeatureInfo, chosen_indices
from darts_noise.nets.input_filter import input_filter
from darts_noise.nets.macro import (
    choose_normalisation,
    pooling_stride,
    scaled_channels,
    start_small,
    stem_pooling,
)
from darts_noise.nets.plan import plan_cells
from darts_noise.nets.stems import build_stem
from darts_noise.space.genotype import Genotype

STEM = "stem"
"""In `FeatureInfo`, the name of the stem's first state."""


class Body(nn.Module):
    """Stem → cells; `FeatureNetwork` and `Network` say what comes out of it.

    Attributes:
        genotype: of the cells.
        form: the arguments below, from which the same body is made again.
        drop_path: the probability of dropping an operation for a sample in train mode; a training
            schedule may change it between steps.
        all_features: every map that the body has one of the size of: the last of each stride, and
            the first state of a stem whose second is smaller.
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
        if not 0 <= drop_path < 1:
            raise SettingError(
                "drop_path", f"expected 0 up to but not including 1, got {drop_path}"
            )
        self.genotype = genotype
        self.drop_path = drop_path
        self.form: dict[str, int | str] = {
            "in_channels": in_channels,
            "channels": channels,
            "num_cells": num_cells,
            "stem": stem,
            "stem_stride": stem_stride,
        }
        channels = scaled_channels(genotype, channels)
        self.input_filter = input_filter(genotype.choice("input_filter"), in_channels)
        self.stem = build_stem(stem, in_channels, channels, stem_stride)
        normalisation, pooling = genotype.choice("normalisation"), genotype.choice("pooling")
        choose_normalisation(self.stem, normalisation)
        self.stem_pooling = stem_pooling(pooling)
        plans = plan_cells(
            num_cells=num_cells,
            channels=channels,
            stem_channels=self.stem.channels,
            stem_reduces=self.stem.reduces,
            concat={"normal": len(genotype.normal_concat), "reduce": len(genotype.reduce_concat)},
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
        if normalisation == "none":
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
        """The stem's first state and the output of every cell, each with its name, in their order.

        Args:
            x: images (B, in_channels, H, W).
        """
        first, second = (self.stem_pooling(state) for state in self.stem(self.input_filter(x)))
        yield STEM, first
        for index, cell in enumerate(self.cells):
            first, second = second, cell(first, second, self.drop_path)
            yield f"cells.{index}", second


class FeatureNetwork(Body):
    """A body that gives its maps of several sizes, such as a feature pyramid takes.

    Its weights have the names of a `Network`'s, so that ``load_state_dict(..., strict=False)``
    takes over those of a trained one. Cells behind the last map that is asked for are left out.

    Attributes:
        feature_info: channels, reduction and submodule of each map that `forward` gives.

    Args:
        genotype: of the cells.
        out_indices: which of the maps, the largest being 0, from the end where negative; all of
            them when absent.
        form: see `create_model`.

    Raises:
        ValueError: a map, stem or size that does not exist.
    """

    def __init__(
        self, genotype: Genotype, out_indices: Sequence[int] | None = None, **form: Any
    ) -> None:
        super().__init__(genotype, **form)
        chosen = chosen_indices(out_indices, len(self.all_features))
        self.feature_info = FeatureInfo(self.all_features[i] for i in chosen)
        last = self.feature_info[-1].module
        kept = 0 if last == STEM else int(last.removeprefix("cells.")) + 1
        self.cells = self.cells[:kept]

    def forward(self, x: Tensor) -> list[Tensor]:
        """A map (B, C, ⌈H/r⌉, ⌈W/r⌉) for each (C, r) in `feature_info`, of images (B, in, H, W)."""
        wanted = self.feature_info.module_name()
        return [state for name, state in self.maps(x) if name in wanted]
