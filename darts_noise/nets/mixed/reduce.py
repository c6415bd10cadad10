"""The factorised reduction (`skip_connect` with stride 2) on all edges that leave some states."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.nets.mixed.norm import EdgeNorm
from darts_noise.nets.mixed.stacked import Pairs
from darts_noise.space.operations.identity import FactorizedReduce
from darts_noise.space.operations.pointwise import taken

HALVES = ("straight", "shifted")


class StackedReduce(nn.Module):
    """`FactorizedReduce` on all edges: for each state and half one convolution, and one norm.

    Args:
        operations: the textbook's, by state and then by node, whose weights are copied.
        states: how many states the edges leave.
        column: their column of α.
    """

    def __init__(self, operations: Sequence[FactorizedReduce], states: int, column: int) -> None:
        super().__init__()
        self.columns = [column]
        self.straight, self.shifted = (
            nn.Parameter(torch.cat([getattr(o, half).weight.detach() for o in operations]))
            for half in HALVES
        )
        self.num_states, self.num_nodes = states, len(operations) // states
        self.sizes = [len(half) // len(operations) for half in (self.straight, self.shifted)]
        self.norm = EdgeNorm(1, len(operations), sum(self.sizes))

    def forward(self, states: Sequence[Tensor], weights: Tensor) -> Tensor:
        """The weighted operation of every edge, added up by node.

        Args:
            states: after the ReLU, (B, C, H, W) each.
            weights: (edges, 1).

        Returns:
            What they bring to the nodes (nodes, B, ⌈H/2⌉, ⌈W/2⌉, C).
        """
        height, width = states[0].shape[-2:]
        odd = height % 2 or width % 2  # a padding by nothing would copy
        kernels = [half.chunk(self.num_states) for half in (self.straight, self.shifted)]
        found = []
        for s, x in enumerate(states):
            shifted = (F.pad(x, (0, width % 2, 0, height % 2)) if odd else x)[:, :, 1:, 1:]
            halves = []
            for image, of_state, size in zip((x, shifted), kernels, self.sizes, strict=True):
                pixels = F.conv2d(taken(image, 2), of_state[s]).permute(0, 2, 3, 1)
                halves.append(pixels.reshape(*pixels.shape[:3], self.num_nodes, size))
            found.append(torch.cat(halves, -1))
        together = torch.stack(found, 3)  # (B, H', W', states, nodes, C)
        y: Tensor = self.norm(together.flatten(3).permute(0, 3, 1, 2), weights)
        by_state = y.permute(0, 2, 3, 1).view(together.shape)
        return by_state.sum(3, dtype=y.dtype).permute(3, 0, 1, 2, 4)  # as in `edgewise.together`

    def pairs(self, operations: Sequence[FactorizedReduce]) -> Pairs:
        """Our weights and statistics beside those of the textbook's operations."""
        for e, theirs in enumerate(operations):
            for name, size in zip(HALVES, self.sizes, strict=True):
                yield getattr(self, name)[e * size : (e + 1) * size], getattr(theirs, name).weight
            yield from self.norm.pairs(0, e, theirs.norm.running_mean, theirs.norm.running_var)
