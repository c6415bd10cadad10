"""Histories of α for the tests of what is drawn from them."""

import torch

from darts_noise.report.alpha_history import AlphaHistory, Moment
from darts_noise.search.architecture import Architecture
from darts_noise.space.macro import as_text


def history_of(space: str = "noise", epochs: int = 6, nodes: int = 2) -> AlphaHistory:
    """A random walk of α."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        arch = Architecture(space, nodes)
        found = AlphaHistory(
            operations=arch.space.operations,
            edges=tuple(arch.space.edges),
            macro={name: tuple(map(as_text, values)) for name, values in arch.space.macro},
        )
        for epoch in range(1, epochs + 1):
            with torch.no_grad():
                for row in arch.parameters():
                    row.add_(0.4 * torch.randn_like(row))
            weights = {kind: w.tolist() for kind, w in arch.expected().items()}
            found = found.with_moment(Moment(epoch, arch.genotype(), weights))
    return found
