"""Batch norm over the channels of many edges at once, with α as its scale."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from darts_noise.distributed.batch_norm import synchronised_batch_norm
from darts_noise.distributed.collectives import process_count


class EdgeNorm(_BatchNorm):
    """Batch norms without a learnt scale, for each of ``kinds`` operations on each of ``edges``.

    Channels are ordered (kind, edge, channel). The weight of an operation on an edge enters as the
    scale of the norm that ends it, weight · (x − mean) / deviation, in one pass over x.

    Attributes:
        synchronised: whether a batch is that of all processes together.
    """

    synchronised = False

    def __init__(self, kinds: int, edges: int, channels: int) -> None:
        super().__init__(kinds * edges * channels, affine=False)
        self.form = (kinds, edges, channels)

    @property
    def by_batch(self) -> bool:
        """Whether it normalises by the statistics of the batch."""
        return self.training or not self.track_running_stats

    @property
    def over_processes(self) -> bool:
        """Whether it normalises by statistics that other processes have a share in."""
        return self.synchronised and self.by_batch and process_count() > 1

    def forward(self, x: Tensor, weights: Tensor | None = None, track: bool = True) -> Tensor:
        """Normalises all channels.

        Args:
            x: (B, kinds · edges · channels, H, W).
            weights: (edges, kinds); None for 1.
            track: whether the running statistics follow in train mode.
        """
        scale = None
        if weights is not None:
            # A copy: the backward of batch norm returns garbage for an expanded view.
            scale = weights.t()[..., None].repeat(1, 1, self.form[2]).view(-1)
        mean, variance = self.running_mean, self.running_var
        if self.by_batch and not (track and self.track_running_stats):
            mean = variance = None
        momentum = self.momentum or 0.0
        if self.over_processes:
            return synchronised_batch_norm(x, mean, variance, scale, None, momentum, self.eps)
        return F.batch_norm(x, mean, variance, scale, None, self.by_batch, momentum, self.eps)

    def normalise(self, x: Tensor, kind: int, edge: int, scale: Tensor | None) -> list[Tensor]:
        """Normalises the channels of one operation on one edge, without a graph.

        Returns:
            The result, and the mean and inverse deviation that `gradients` asks for.
        """
        mean, variance = self._statistics(kind, edge)
        momentum = self.momentum or 0.0
        return list(
            torch.native_batch_norm(
                x, scale, None, mean, variance, self.by_batch, momentum, self.eps
            )
        )

    def gradients(
        self,
        gradient: Tensor,
        x: Tensor,
        kind: int,
        edge: int,
        scale: Tensor | None,
        saved: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor | None]:
        """The gradients of `normalise` by x and by the scale (channels,)."""
        mean, variance = (None, None) if self.by_batch else self._statistics(kind, edge)
        mask = [True, scale is not None, False]
        of_x, of_scale, _ = torch.ops.aten.native_batch_norm_backward(
            gradient, x, scale, mean, variance, *saved, self.by_batch, self.eps, mask
        )
        return of_x, of_scale

    def _statistics(self, kind: int, edge: int) -> tuple[Tensor | None, Tensor | None]:
        if not self.track_running_stats:
            return None, None
        return self._part(self.running_mean, kind, edge), self._part(self.running_var, kind, edge)

    def _part(self, statistic: Tensor | None, kind: int, edge: int) -> Tensor:
        """The view (channels,) of a running statistic."""
        assert statistic is not None
        return statistic.view(self.form)[kind, edge]

    def pairs(
        self, kind: int, edge: int, mean: Tensor | None, variance: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The running statistics of one operation beside those of a batch norm of its own."""
        for own, theirs in ((self.running_mean, mean), (self.running_var, variance)):
            assert theirs is not None
            yield self._part(own, kind, edge), theirs
