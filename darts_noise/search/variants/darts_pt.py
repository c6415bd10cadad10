"""DARTS-PT: choose the operations whose removal from the supernet hurts most, not by α.

Source: Wang et al. 2021, arXiv:2108.04392.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from darts_noise.configured import require_at_least
from darts_noise.errors import SettingError
from darts_noise.noise.penalties.penalty import make_penalty
from darts_noise.search.architecture import Architecture
from darts_noise.search.settings import SearchConfig
from darts_noise.search.variants.variant import Variant, Weights, register_variant
from darts_noise.space.spaces import Space

T = TypeVar("T")
STOPPING = ("darts_plus", "robust_darts")


@register_variant("darts_pt")
class DartsPt(Variant):
    """Perturbation-based selection in the last steps of the search, while w, v and α train on.

    The edges are decided in random order, one in each kind of cell at a time. Then each node keeps
    its edges whose removal hurts most. What is hurt is F = L_val + λ · P, where the paper uses the
    validation accuracy. Removal sets weights to 0 and leaves the other weights as they are. α
    decides the macro choices.

    Args:
        share: share of the search's steps over which the decisions are spread, up to the last step.
        batches: number of batches, of validation data and of noise, on which F is computed.
    """

    def __init__(self, share: float = 0.5, batches: int = 4) -> None:
        if not 0 < share <= 1:
            raise SettingError("share", f"expected more than 0 and at most 1, got {share}")
        require_at_least(1, batches=batches)
        self.share, self.batches = share, batches

    def check(self, config: SearchConfig) -> None:
        stopping = [name for name in STOPPING if name in (config.variants or {})]
        if stopping:
            raise SettingError(
                "variants",
                f"expected darts_pt without {stopping[0]}, which can stop the search before "
                "darts_pt has decided the edges",
            )
        penalty = make_penalty(config.penalty)
        if config.noise_weight and penalty.weights == "own" and not penalty.mixed_batches:
            raise SettingError(
                "penalty",
                "expected a penalty whose weights learn the noise (lookahead, shared, twin) with "
                f"variant darts_pt, got {config.penalty!r}",
            )

    def change_architecture(self, arch: Architecture) -> None:
        arch.add_decisions()

    def decide(
        self, arch: Architecture, step: int, steps: int, objective: Callable[[Weights, int], float]
    ) -> None:
        start = round((1 - self.share) * steps)
        rounds = len(arch.space.edges) + len(crowded_nodes(arch.space))
        due = min((step - start + 1) * rounds // max(steps - start, 1), rounds)
        if due <= 0:
            return  # without a look at the decisions, for which a GPU would be waited for
        for kind in arch.alpha:
            decided: Tensor = getattr(arch, f"{kind}_decided")

            def without(place: tuple[int, ...], kind: str = kind) -> float:
                """Return F without an edge, (edge,), or without an operation, (edge, operation)."""
                weights = {name: w.detach().clone() for name, w in arch.expected().items()}
                weights[kind][place] = 0.0
                return objective(weights, self.batches)

            while rounds_left(arch.space, decided) > rounds - due:
                _decide_one(arch.space, kind, decided, without)


def undecided_edges(decided: Tensor) -> list[int]:
    """Return the numbers of the edges that are not decided."""
    found: list[int] = (decided < 0).any(-1).nonzero().flatten().tolist()
    return found


def crowded_nodes(space: Space, decided: Tensor | None = None) -> list[list[int]]:
    """Return the numbers of the edges of each node that has more edges than a cell keeps."""
    is_kept = [True] * len(space.edges) if decided is None else (decided != 0).any(-1).tolist()
    edges: list[list[int]] = [[] for _ in range(space.nodes)]
    for number, (_, node) in enumerate(space.edges):
        if is_kept[number]:
            edges[node].append(number)
    return [of_node for of_node in edges if len(of_node) > space.kept_edges]


def rounds_left(space: Space, decided: Tensor) -> int:
    """Return the number of edges and nodes of a cell that are not decided."""
    return len(undecided_edges(decided)) + len(crowded_nodes(space, decided))


def _decide_one(
    space: Space, kind: str, decided: Tensor, without: Callable[[tuple[int, ...]], float]
) -> None:
    """Decide a random edge of a cell, or, if all edges are decided, which edges a node keeps."""
    if edges := undecided_edges(decided):
        edge = _drawn(edges)
        allowed = [space.operations.index(o) for o in space.candidates(kind)[edge] if o != "none"]
        best = max(allowed, key=lambda operation: without((edge, operation)))
        decided[edge] = 0.0
        decided[edge, best] = 1.0
    else:
        node = _drawn(crowded_nodes(space, decided))
        weakest = sorted(node, key=lambda edge: without((edge,)))
        decided[weakest[: -space.kept_edges]] = 0.0


def _drawn(choices: Sequence[T]) -> T:
    return choices[int(torch.randint(len(choices), ()))]
