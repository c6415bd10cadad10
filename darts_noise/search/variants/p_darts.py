"""Skip-connection dropout, as in P-DARTS (Chen et al. 2019, arXiv:1904.12760, section 3.3)."""

import math

from torch import nn

from darts_noise.nets.mixed.textbook import MixedOperation
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.variants.variant import Variant, register_variant


@register_variant("p_darts")
class SkipDropout(Variant):
    """Dropout on skip connections, which otherwise win early because they need no training.

    Args:
        rate: dropout probability in the first epoch.
        decay: decay of the probability: it is rate · exp(−decay · epoch).
    """

    implementation = "textbook"

    def __init__(self, rate: float = 0.3, decay: float = 0.2) -> None:
        if not (0 < rate < 1 and decay >= 0):
            raise ValueError(f"expected 0 < rate < 1 and decay ≥ 0, got {rate} and {decay}")
        self.rate, self.decay = rate, decay
        self.dropouts: list[nn.Dropout] = []

    def change_supernet(self, net: SuperNet) -> None:
        for mixed in net.modules():
            if isinstance(mixed, MixedOperation) and "skip_connect" in mixed.space.operations:
                index = mixed.space.operations.index("skip_connect")
                dropout = nn.Dropout(self.rate)
                mixed.candidates[index] = nn.Sequential(mixed.candidates[index], dropout)
                self.dropouts.append(dropout)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        for dropout in self.dropouts:
            dropout.p = self.rate * math.exp(-self.decay * epoch)
