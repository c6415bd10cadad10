"""Batch norm over the channels of many edges at once, with α as its scale."""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm


class EdgeNorm(_BatchNorm):
    """Batch norms without a learnt scale, for each of ``kinds`` operations on each of ``edges``.

    Channels are ordered (kind, edge, channel). The weight of an operation on an edge enters as the
    scale of the norm that ends it, weight · (x − mean) / deviation, in one pass over x.
    """

    def __init__(self, kinds: int, edges: int, channels: int) -> None:
        super().__init__(kinds * edges * channels, affine=False)
        self.form = (kinds, edges, channels)

    def forward(  # type: ignore[override]
        self, x: Tensor, kinds: slice, edges: slice, weights: Tensor | None = None
    ) -> Tensor:
        """Normalises the channels of these kinds on these edges.

        Args:
            x: (B, kinds · edges · channels, H, W).
            kinds: consecutive; several of them only together with all edges.
            edges: consecutive.
            weights: (edges, kinds); None for 1.
        """
        scale = None
        if weights is not None:
            # A copy: the backward of batch norm returns garbage for an expanded view.
            scale = weights.t()[..., None].repeat(1, 1, self.form[2]).view(-1)
        mean = variance = None
        if self.track_running_stats:
            assert self.running_mean is not None
            assert self.running_var is not None
            mean = self._part(self.running_mean, kinds, edges)
            variance = self._part(self.running_var, kinds, edges)
        return F.batch_norm(
            x,
            mean,
            variance,
            scale,
            training=self.training or not self.track_running_stats,
            momentum=self.momentum or 0.0,
            eps=self.eps,
        )

    def _part(self, statistic: Tensor, kinds: slice, edges: slice) -> Tensor:
        """The view (kinds · edges · channels,) of a running statistic."""
        return statistic.view(self.form)[kinds, edges].view(-1)

    def pairs(
        self, kind: int, edge: int, mean: Tensor | None, variance: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The running statistics of one operation beside those of a batch norm of its own."""
        where = slice(kind, kind + 1), slice(edge, edge + 1)
        for own, theirs in ((self.running_mean, mean), (self.running_var, variance)):
            assert own is not None
            assert theirs is not None
            yield self._part(own, *where), theirs
