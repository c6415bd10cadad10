"""The discrete network: stem → cells → pool → linear, and `create_model`.

Its layout is DARTS's (arXiv:1806.09055, section 3.1 and appendix A); its parameter counts and
logits are held to reference values by the tests. Its methods are those of timm's models.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

from torch import Tensor, nn

from darts_noise.errors import SettingError
from darts_noise.nets.auxiliary import AuxiliaryHead, smallest_map
from darts_noise.nets.body import Body, FeatureNetwork
from darts_noise.nets.integers import require_integers
from darts_noise.nets.macro import choose_normalisation, pooling_stride
from darts_noise.space.genotype import Genotype
from darts_noise.space.macro import MACRO, Value
from darts_noise.space.published import load_genotype


class WithAuxiliary(NamedTuple):
    """What a network with an auxiliary head returns in train mode, each (B, num_classes)."""

    logits: Tensor
    auxiliary: Tensor


class Network(Body):
    """A classifier of discrete cells; see `create_model` for its arguments.

    Attributes:
        drop_path: the probability of dropping an operation for a sample in train mode; a training
            schedule may change it between steps.
        feature_info: channels, reduction and submodule of the map of each size, as
            ``features_only=True`` or torchvision's ``create_feature_extractor`` give them.
        num_features: channels of the last map, which the classifier takes.
        num_classes: size of the last layer; 0 where there is none.
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
        # Behind the second reduction, so that it sees the map that the last third works on.
        self.auxiliary_name = f"cells.{2 * num_cells // 3}"
        self.auxiliary: AuxiliaryHead | None = None
        if auxiliary:
            cell = self.get_submodule(self.auxiliary_name)
            assert isinstance(cell.out_channels, int)
            self.auxiliary = AuxiliaryHead(cell.out_channels, num_classes, stem)
            choose_normalisation(self.auxiliary, genotype.choice("normalisation"))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.num_classes = num_classes
        self.classifier = _linear(self.num_features, num_classes)

    def forward(self, x: Tensor) -> Tensor | WithAuxiliary:
        """Logits (B, num_classes) of images (B, in_channels, H, W).

        With an auxiliary head and in train mode, a `WithAuxiliary` of both heads' logits. Without
        classes, the pooled features (B, num_features).
        """
        if self.auxiliary is None or not self.training:
            return self.forward_head(self.forward_features(x))
        maps = dict(self.maps(x))
        logits = self.forward_head(next(reversed(maps.values())))
        return WithAuxiliary(logits, self.auxiliary(maps[self.auxiliary_name]))

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map (B, num_features, H', W') of images (B, in_channels, H, W)."""
        last = x
        for _, last in self.maps(x):  # noqa: B007
            pass
        return last

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (B, num_classes) of the last map (B, num_features, H', W').

        Args:
            x: from `forward_features`.
            pre_logits: leave out the classifier and return the pooled features (B, num_features).
        """
        pooled: Tensor = self.pool(x).flatten(1)
        if pre_logits:
            return pooled
        logits: Tensor = self.classifier(pooled)
        return logits

    def get_classifier(self) -> nn.Module:
        """The last layer; an identity where there are no classes."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new last layer for so many classes in the place of the old; 0 for none.

        An auxiliary head gets a new last layer as well.

        Raises:
            ValueError: fewer than 0, or 0 with an auxiliary head.
        """
        _require_classes(num_classes, self.auxiliary is not None)
        self.num_classes = num_classes
        heads: list[Network | AuxiliaryHead] = [self]
        for head in heads if self.auxiliary is None else [*heads, self.auxiliary]:
            like = next(self.stem.parameters())
            width = self.num_features if head is self else AuxiliaryHead.WIDTH
            head.classifier = _linear(width, num_classes).to(like)


def _linear(num_features: int, num_classes: int) -> nn.Module:
    return nn.Linear(num_features, num_classes) if num_classes else nn.Identity()


def _require_classes(num_classes: int, auxiliary: bool) -> None:
    if num_classes < (1 if auxiliary else 0):
        wanted = "1 for an auxiliary head" if auxiliary else "0, which is no classifier"
        raise SettingError("num_classes", f"expected at least {wanted}, got {num_classes}")


def auxiliary_fits(
    image_size: tuple[int, int],
    stem: str,
    stem_stride: int = 1,
    pooling: Value = MACRO["pooling"][0],
) -> bool:
    """Whether images of (H, W) pixels are still large enough where the auxiliary head stands.

    Args:
        image_size: (H, W) in pixels.
        stem, stem_stride: as for `create_model`.
        pooling: the genotype's macro choice of that name.

    >>> auxiliary_fits((32, 32), "cifar"), auxiliary_fits((8, 8), "small")
    (True, False)
    >>> auxiliary_fits((32, 32), "cifar", pooling="average_4")
    False
    """
    reduction = (8 if stem == "imagenet" else stem_stride) * 4 * pooling_stride(pooling)
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
    """A network of discrete cells, freshly initialised.

    Args:
        genotype: a published name, a `Genotype`, a path to a ``.json``, a run directory, or a W&B
            artifact as ``entity/project/name:version``.
        num_classes: size of the last layer; 0 for none, which gives pooled features.
        in_channels: channels of the images.
        channels: channels of a state before the first reduction; doubled at each of the two.
        num_cells: cells in all, with reductions at one and two thirds.
        stem: ``cifar``, ``imagenet`` (a stride of 8) or ``small``.
        stem_stride: 1, 2 or 4, of the ``cifar`` or ``small`` stem's convolution.
        auxiliary: adds the auxiliary head; needs a map of at least 8×8 (``imagenet``: 7×7) there.
        drop_path: probability of dropping an operation for a sample in train mode.
        features_only: a network that gives its maps of several sizes and has no head.
        out_indices: with `features_only`, which of the maps, 0 being the largest and -1 the
            smallest; all when absent. There are three, at the stem's stride times 1, 2 and 4, and
            with the ``imagenet`` stem a fourth at stride 4 before them.

    Returns:
        A module from images (B, in_channels, H, W), of any H and W, to logits (B, num_classes);
        with `features_only`, to a list of maps that its ``feature_info`` describes.

    Raises:
        ValueError: a genotype, stem, size or map that does not exist; the message says what does.

    >>> net = create_model("darts_v2", channels=4, num_cells=3)
    >>> sum(p.numel() for p in net.parameters())
    2858
    >>> create_model("darts_v2", features_only=True, stem="imagenet").feature_info.reduction()
    [4, 8, 16, 32]
    """
    require_integers(
        num_classes=num_classes, in_channels=in_channels, channels=channels, num_cells=num_cells
    )
    form: dict[str, Any] = {
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
        return FeatureNetwork(loaded, out_indices, **form)
    if out_indices is not None:
        raise SettingError("out_indices", "expected features_only=True with it")
    return Network(loaded, num_classes=num_classes, auxiliary=auxiliary, **form)
