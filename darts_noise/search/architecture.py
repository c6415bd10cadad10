"""The architecture weights α as parameters."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from darts_noise.search.discretise import discretise
from darts_noise.space.genotype import Genotype
from darts_noise.space.spaces import Space, get_space

INITIAL_DEVIATION = 1e-3


class Architecture(nn.Module):
    """α: one row per edge, one column per candidate, for each kind of cell.

    Attributes:
        normal: α of the normal cells, (edges, operations).
        reduce: α of the reduction cells, (edges, operations).

    Args:
        space: the name of a search space, or a `Space`.
        nodes: nodes of a cell; the space's own number when absent.

    >>> arch = Architecture(space="darts")
    >>> arch()["normal"].shape, float(arch()["normal"][0].sum().round(decimals=4))
    (torch.Size([14, 8]), 1.0)
    """

    def __init__(self, space: str | Space = "darts", nodes: int | None = None) -> None:
        super().__init__()
        self.space = get_space(space, nodes)
        shape = (len(self.space.edges), len(self.space.operations))
        self.normal = nn.Parameter(INITIAL_DEVIATION * torch.randn(shape))
        self.reduce = nn.Parameter(INITIAL_DEVIATION * torch.randn(shape))

    def forward(self) -> dict[str, Tensor]:
        """The relaxed weights: a softmax over each edge's candidates (DARTS, equation 2)."""
        return {kind: alpha.softmax(-1) for kind, alpha in self.named_parameters()}

    def genotype(self, meta: Mapping[str, Any] | None = None) -> Genotype:
        """The discrete cells that α stands for now."""
        with torch.no_grad():
            return discretise(self.space, self(), meta)


def entropy(weights: Tensor) -> Tensor:
    """Mean over the edges of the entropy of an edge's weights, in nats: (edges, ops) → scalar.

    log(operations) where nothing is decided, 0 where every edge has one operation.
    """
    per_edge: Tensor = torch.special.entr(weights).sum(-1)
    return per_edge.mean()
