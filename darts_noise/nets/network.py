"""The discrete network: stem → cells → pool → linear, and `create_model`.

Its layout is DARTS's (arXiv:1806.09055, section 3.1 and appendix A); its parameter counts and
logits are held to reference values by the tests.
"""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from darts_noise.nets.auxiliary import AuxiliaryHead, smallest_map
from darts_noise.nets.cell import Cell
from darts_noise.nets.macro import choose_normalisation, scaled_channels, stem_pooling
from darts_noise.nets.plan import plan_cells
from darts_noise.nets.stems import build_stem
from darts_noise.space.genotype import Genotype
from darts_noise.space.published import load_genotype


class WithAuxiliary(NamedTuple):
    """What a network with an auxiliary head returns in train mode, each (B, num_classes)."""

    logits: Tensor
    auxiliary: Tensor


class Network(nn.Module):
    """A network of discrete cells; see `create_model` for its arguments.

    Attributes:
        drop_path: the probability of dropping an operation for a sample in train mode; a training
            schedule may change it between steps.
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
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes: expected at least 1, got {num_classes}")
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path: expected 0 up to but not including 1, got {drop_path}")
        self.genotype = genotype
        self.drop_path = drop_path
        channels = scaled_channels(genotype, channels)
        self.stem = build_stem(stem, in_channels, channels, stem_stride)
        self.stem_pooling = stem_pooling(genotype.choice("pooling"))
        plans = plan_cells(
            num_cells=num_cells,
            channels=channels,
            stem_channels=self.stem.channels,
            stem_reduces=self.stem.reduces,
            concat={"normal": len(genotype.normal_concat), "reduce": len(genotype.reduce_concat)},
        )
        cells = [Cell(genotype, plan) for plan in plans]
        self.cells = nn.ModuleList(cells)
        # Behind the second reduction, so that it sees the map that the last third works on.
        self.auxiliary_index = 2 * num_cells // 3
        self.auxiliary = (
            AuxiliaryHead(cells[self.auxiliary_index].out_channels, num_classes, stem)
            if auxiliary
            else None
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(cells[-1].out_channels, num_classes)
        choose_normalisation(self, genotype.choice("normalisation"))

    def forward(self, x: Tensor) -> Tensor | WithAuxiliary:
        """Logits (B, num_classes) of images (B, in_channels, H, W).

        With an auxiliary head and in train mode, a `WithAuxiliary` of both heads' logits.
        """
        first, second = (self.stem_pooling(state) for state in self.stem(x))
        from_auxiliary: Tensor | None = None
        for index, cell in enumerate(self.cells):
            first, second = second, cell(first, second, self.drop_path)
            if self.auxiliary is not None and self.training and index == self.auxiliary_index:
                from_auxiliary = self.auxiliary(second)
        logits: Tensor = self.classifier(self.pool(second).flatten(1))
        return logits if from_auxiliary is None else WithAuxiliary(logits, from_auxiliary)


def auxiliary_fits(image_size: tuple[int, int], stem: str, stem_stride: int = 1) -> bool:
    """Whether images of (H, W) pixels are still large enough where the auxiliary head stands.

    >>> auxiliary_fits((32, 32), "cifar"), auxiliary_fits((8, 8), "small")
    (True, False)
    """
    reduction = (8 if stem == "imagenet" else stem_stride) * 4
    return all(-(-side // reduction) >= smallest_map(stem) for side in image_size)


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
) -> Network:
    """A network of discrete cells, freshly initialised.

    Args:
        genotype: a published name, a `Genotype`, a path to a ``.json`` or a run directory.
        num_classes: size of the last layer.
        in_channels: channels of the images.
        channels: channels of a state before the first reduction; doubled at each of the two.
        num_cells: cells in all, with reductions at one and two thirds.
        stem: ``cifar``, ``imagenet`` (a stride of 8) or ``small``.
        stem_stride: 1, 2 or 4, of the ``cifar`` or ``small`` stem's convolution.
        auxiliary: adds the auxiliary head; needs a map of at least 8×8 (``imagenet``: 7×7) there.
        drop_path: probability of dropping an operation for a sample in train mode.

    Returns:
        A module from images (B, in_channels, H, W) to logits (B, num_classes).

    Raises:
        ValueError: a genotype, stem or size that does not exist; the message says what does.

    >>> net = create_model("darts_v2", channels=4, num_cells=3)
    >>> sum(p.numel() for p in net.parameters())
    2858
    """
    return Network(
        load_genotype(genotype),
        num_classes=num_classes,
        in_channels=in_channels,
        channels=channels,
        num_cells=num_cells,
        stem=stem,
        stem_stride=stem_stride,
        auxiliary=auxiliary,
        drop_path=drop_path,
    )
