"""The discrete network: stem → cells → pool → linear, and `create_model`.

The layout is from DARTS (arXiv:1806.09055, section 3.1 and appendix A). The methods have the names
of timm's models. The tests compare parameter counts and logits with reference values.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

from torch import Tensor, nn

from darts_noise.configured import naming_arguments
from darts_noise.errors import SettingError
from darts_noise.nets.auxiliary import AuxiliaryHead, smallest_map
from darts_noise.nets.body import Body, FeatureNetwork
from darts_noise.nets.gain import ScaledLinear, choose_layers
from darts_noise.nets.integers import require_integers
from darts_noise.nets.macro_layers import (
    classifier_inputs,
    final_pool,
    pooling_stride,
    projection,
)
from darts_noise.nets.plan import reduction_cells
from darts_noise.space.genotype import Genotype
from darts_noise.space.macro import MACRO, Value
from darts_noise.space.published import load_genotype


class WithAuxiliary(NamedTuple):
    """The output of a network with an auxiliary head in train mode, each (B, num_classes)."""

    logits: Tensor
    auxiliary: Tensor


class Network(Body):
    """A classifier of discrete cells; see `create_model` for its arguments.

    Attributes:
        drop_path: probability of dropping an operation for a sample in train mode. A training
            schedule may change it between steps.
        feature_info: channels, reduction and submodule of the map of each size. To get the maps,
            use ``features_only=True`` or torchvision's ``create_feature_extractor``.
        num_features: channels of the last map.
        head_hidden_size: number of pooled features, the input of the classifier. It differs from
            `num_features` with the macro choices ``features`` and ``positions``.
        num_classes: size of the last layer. 0: there is no last layer.
    """

    def __init__(
        self,
        genotype: Genotype,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        channels: int = 36,
        num_cells: int = 20,
        stem: str = "cifar",
        stem_stride: int = 1,
        auxiliary: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        _require_classes(num_classes, auxiliary)
        super().__init__(
            genotype,
            in_channels=in_channels,
            channels=channels,
            num_cells=num_cells,
            stem=stem,
            stem_stride=stem_stride,
            drop_path=drop_path,
        )
        self.feature_info = self.all_features
        self.num_features = self.out_channels
        self.head_hidden_size = classifier_inputs(genotype, self.num_features)
        # After the second reduction, so that it gets the map of the last third of the cells.
        self.num_classes = num_classes
        self.auxiliary_name = f"cells.{2 * num_cells // 3}"
        self.auxiliary: AuxiliaryHead | None = None
        if auxiliary:
            cell = self.get_submodule(self.auxiliary_name)
            assert isinstance(cell.out_channels, int)
            self.auxiliary = AuxiliaryHead(cell.out_channels, self._linear, stem)
            choose_layers(self.auxiliary.features, genotype)
        self.pool = final_pool(genotype)
        self.projection = projection(genotype, self.num_features)
        choose_layers(self.projection, genotype)
        self.classifier = self._linear(self.head_hidden_size)

    def forward(self, x: Tensor) -> Tensor | WithAuxiliary:
        """Return the logits (B, num_classes) of images (B, in_channels, H, W).

        With an auxiliary head in train mode, return the logits of both heads as `WithAuxiliary`. If
        `num_classes` is 0, return the pooled features (B, head_hidden_size).
        """
        if self.auxiliary is None or not self.training:
            return self.forward_head(self.forward_features(x))
        maps = dict(self.maps(x))
        logits = self.forward_head(next(reversed(maps.values())))
        return WithAuxiliary(logits, self.auxiliary(maps[self.auxiliary_name]))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map (B, num_features, H', W') of images (B, in_channels, H, W)."""
        last = x
        for _, last in self.maps(x):  # noqa: B007
            pass
        return last

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (B, num_classes) of the last map (B, num_features, H', W').

        Args:
            x: the output of `forward_features`.
            pre_logits: skip the classifier and return the pooled features (B, head_hidden_size).
                Default: False.
        """
        pooled: Tensor = self.projection(self.pool(x)).flatten(1)
        if pre_logits:
            return pooled
        logits: Tensor = self.classifier(pooled)
        return logits

    def get_classifier(self) -> nn.Module:
        """Return the last layer; an identity if `num_classes` is 0."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a new one for `num_classes` classes. 0: no last layer.

        An auxiliary head also gets a new last layer.

        Raises:
            ValueError: the number is below 0, or it is 0 and there is an auxiliary head.
        """
        _require_classes(num_classes, self.auxiliary is not None)
        self.num_classes = num_classes
        heads: list[Network | AuxiliaryHead] = [self]
        for head in heads if self.auxiliary is None else [*heads, self.auxiliary]:
            like = next(self.stem.parameters())
            width = self.head_hidden_size if head is self else AuxiliaryHead.WIDTH
            head.classifier = self._linear(width).to(like)

    def _linear(self, num_features: int) -> nn.Module:
        if not self.num_classes:
            return nn.Identity()
        scale = float(self.genotype.choice("logit_scale"))
        learnt = self.genotype.choice("logit_scaling") == "learnt"
        layer = ScaledLinear(num_features, self.num_classes, scale, learnt)
        choose_layers(layer, self.genotype)
        return layer


def _require_classes(num_classes: int, auxiliary: bool) -> None:
    require_integers(num_classes=num_classes)
    if num_classes < (1 if auxiliary else 0):
        wanted = "1 for an auxiliary head" if auxiliary else "0, which is no classifier"
        raise SettingError("num_classes", f"expected at least {wanted}, got {num_classes}")


def auxiliary_fits(
    image_size: tuple[int, int],
    stem: str,
    stem_stride: int = 1,
    pooling: Value = MACRO["pooling"][0],
    reductions: Value = MACRO["reductions"][0],
) -> bool:
    """Return whether images of (H, W) pixels are large enough for the auxiliary head.

    Args:
        image_size: (H, W) in pixels.
        stem, stem_stride: as for `create_model`.
        pooling, reductions: the genotype's macro choices of these names.

    >>> auxiliary_fits((32, 32), "cifar"), auxiliary_fits((8, 8), "small")
    (True, False)
    >>> auxiliary_fits((32, 32), "cifar", pooling="average_4")
    False
    """
    by_cells = 2 ** len(reduction_cells(3, reductions))  # the head is behind all of them
    reduction = (8 if stem == "imagenet" else stem_stride) * by_cells * pooling_stride(pooling)
    return all(-(-side // reduction) >= smallest_map(stem) for side in image_size)


@overload
def create_model(
    genotype: str | Path | Genotype,
    *,
    num_classes: int = ...,
    in_channels: int = ...,
    channels: int = ...,
    num_cells: int = ...,
    stem: str = ...,
    stem_stride: int = ...,
    auxiliary: bool = ...,
    drop_path: float = ...,
    features_only: Literal[False] = ...,
    out_indices: None = ...,
) -> Network: ...


@overload
def create_model(
    genotype: str | Path | Genotype,
    *,
    num_classes: int = ...,
    in_channels: int = ...,
    channels: int = ...,
    num_cells: int = ...,
    stem: str = ...,
    stem_stride: int = ...,
    auxiliary: bool = ...,
    drop_path: float = ...,
    features_only: Literal[True],
    out_indices: Sequence[int] | None = ...,
) -> FeatureNetwork: ...


@naming_arguments
def create_model(
    genotype: str | Path | Genotype,
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    channels: int = 36,
    num_cells: int = 20,
    stem: str = "cifar",
    stem_stride: int = 1,
    auxiliary: bool = False,
    drop_path: float = 0.0,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> Network | FeatureNetwork:
    """Create a network of discrete cells with random weights.

    Args:
        genotype: a published name, a `Genotype`, a path to a ``.json`` file, the folder of a run,
            or a W&B artifact as ``entity/project/name:version``.
        num_classes: size of the last layer. 0: no last layer; the network returns pooled features.
            Default: 10.
        in_channels: channels of the images. Default: 3.
        channels: channels of a state before the first reduction. Each of the two reductions
            doubles them. Default: 36.
        num_cells: number of cells, with reduction cells at 1/3 and 2/3 of the depth. Default: 20.
        stem: ``cifar`` (default), ``imagenet`` (stride 8) or ``small``.
        stem_stride: stride of the convolution in the ``cifar`` or ``small`` stem: 1 (default), 2 or
            4.
        auxiliary: add the auxiliary head. It needs a map of at least 8×8 pixels (``imagenet``:
            7×7). Default: False.
        drop_path: probability of dropping an operation for a sample in train mode. Default: 0.
        features_only: create a network without a head that returns maps of several sizes. Default:
            False.
        out_indices: indices of the maps, with `features_only`. 0 is the largest map, -1 the
            smallest. None (default): all maps. The first has the stride of the stem, times the
            stride of a pooling after the stem. Each reduction cell adds a map of twice the stride.
            With the ``imagenet`` stem, a map at stride 4 comes before them.

    Returns:
        A module that maps images (B, in_channels, H, W), of any H and W, to logits
        (B, num_classes). With `features_only`, a module that maps them to a list of maps, which its
        ``feature_info`` describes.

    Raises:
        ValueError: a genotype, stem, size or map does not exist. The message states the valid ones.

    >>> net = create_model("darts_v2", channels=4, num_cells=3)
    >>> sum(p.numel() for p in net.parameters())
    2858
    >>> create_model("darts_v2", features_only=True, stem="imagenet").feature_info.reduction()
    [4, 8, 16, 32]
    """
    require_integers(
        num_classes=num_classes,
        in_channels=in_channels,
        channels=channels,
        num_cells=num_cells,
        stem_stride=stem_stride,
    )
    arguments: dict[str, Any] = {
        "in_channels": in_channels,
        "channels": channels,
        "num_cells": num_cells,
        "stem": stem,
        "stem_stride": stem_stride,
        "drop_path": drop_path,
    }
    loaded = load_genotype(genotype)
    if features_only:
        if auxiliary:
            raise SettingError("auxiliary", "expected false with features_only, which has no head")
        return FeatureNetwork(loaded, out_indices, **arguments)
    if out_indices is not None:
        raise SettingError("out_indices", "expected features_only=True, got features_only=False")
    return Network(loaded, num_classes=num_classes, auxiliary=auxiliary, **arguments)
