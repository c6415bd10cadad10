"""PC-DARTS: operations on part of the channels, and edge weights (Xu 2020, arXiv:1907.05737)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.configured import require_at_least
from darts_noise.errors import SettingError
from darts_noise.nets.mixed.textbook import MixedCell, MixedOperation, choose_mixed_layers
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.architecture import Architecture
from darts_noise.search.settings import SearchConfig
from darts_noise.search.variants.variant import Variant, register_variant


class PartialMixedOperation(nn.Module):
    """A mixed operation on the first 1/``parts`` of the channels; the other channels bypass it.

    Shapes: x (B, C, H, W) and weights (operations,) → (B, C, H', W'). The output channels are
    shuffled, so that the next edge works on other channels. With stride 2 the bypass is a 2×2
    max-pool. The weight of the edge (the sum of its operations' weights; 1 without edge
    normalisation) scales both parts, as in the paper.
    """

    def __init__(self, whole: MixedOperation, parts: int) -> None:
        super().__init__()
        self.width = whole.channels // parts
        self.mixed = MixedOperation(whole.space, self.width, whole.stride, whole.allowed)
        choose_mixed_layers(self.mixed, whole.space)
        self.bypass = nn.MaxPool2d(2, 2, ceil_mode=True) if whole.stride == 2 else nn.Identity()
        self.parts = parts

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        worked = self.mixed(x[:, : self.width], weights)
        passed = weights.sum() * self.bypass(x[:, self.width :])
        return F.channel_shuffle(torch.cat([worked, passed], dim=1), self.parts)


@register_variant("pc_darts")
class PcDarts(Variant):
    """Partial channels and edge normalisation.

    Args:
        parts: K: an operation works on 1/K of the channels.
        edge_normalisation: also learn a weight for each edge, with a softmax over the edges of a
            node.
    """

    implementation = "textbook"
    rebuilds = True

    def __init__(self, parts: int = 4, edge_normalisation: bool = True) -> None:
        require_at_least(2, parts=parts)
        self.parts = parts
        self.edge_normalisation = edge_normalisation

    def check(self, config: SearchConfig) -> None:
        if config.channels % self.parts:
            raise SettingError(
                "channels",
                f"variant pc_darts needs a multiple of {self.parts}, got {config.channels}",
            )

    def change_supernet(self, net: SuperNet) -> None:
        for cell in net.cells:
            assert isinstance(cell, MixedCell)
            if self.edge_normalisation:
                cell.averages = False  # the weights of the edges of a node already sum to 1
            for index, mixed in enumerate(cell.mixed):
                assert isinstance(mixed, MixedOperation)
                assert mixed.channels % self.parts == 0
                cell.mixed[index] = PartialMixedOperation(mixed, self.parts)

    def change_architecture(self, arch: Architecture) -> None:
        if self.edge_normalisation:
            arch.add_edge_weights()
