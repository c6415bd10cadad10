"""OLES: an operation stops training when it begins to overfit.

Source: Jiang et al., Operation-Level Early Stopping for Robustifying Differentiable NAS, NeurIPS
2023.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_noise.configured import require_at_least
from darts_noise.errors import SettingError
from darts_noise.nets.mixed.textbook import MixedOperation
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.settings import SearchConfig
from darts_noise.search.variants.variant import Variant, register_variant


def mean_cosine(some: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Return the cosine of two gradients, averaged over the tensors that they consist of."""
    pairs = zip(some, others, strict=True)
    return torch.stack([F.cosine_similarity(a.flatten(), b.flatten(), 0) for a, b in pairs]).mean()


def operations(net: SuperNet) -> list[list[int]]:
    """Return the positions in ``net.parameters()`` of the parameters of each operation."""
    place = {parameter: index for index, parameter in enumerate(net.parameters())}
    mixed = [module for module in net.modules() if isinstance(module, MixedOperation)]
    found = [[place[p] for p in op.parameters()] for edge in mixed for op in edge.candidates]
    return [places for places in found if places]


@register_variant("oles")
class Oles(Variant):
    """Freeze an operation when its gradients on training and on validation data disagree.

    The measure is the `mean_cosine` of the two gradients of the operation, averaged over a window
    of steps. Each step computes one more gradient of w. The twin is never frozen. A step in which
    an operation has no gradient, because it was not sampled, does not count.

    Args:
        threshold: an operation is frozen when its average is below this value.
        window: number of steps in a window. The next window begins where the last one ends.
    """

    implementation = "textbook"

    def __init__(self, threshold: float = 0.4, window: int = 20) -> None:
        if not -1 <= threshold <= 1:
            raise SettingError("threshold", f"expected -1 to 1, got {threshold}")
        require_at_least(1, window=window)
        self.threshold, self.window = threshold, window
        self.frozen: list[int] = []  # numbers of operations
        self.cosines: list[Tensor] = []  # (operations,) for each step of the window

    def check(self, config: SearchConfig) -> None:
        if config.hypergradient != "first_order":
            raise SettingError(
                "hypergradient",
                "expected first_order with variant oles, because the other methods differentiate "
                f"through a step of all weights, got {config.hypergradient!r}",
            )

    def freeze(
        self, net: SuperNet, gradients: list[Tensor], on_validation: Callable[[], list[Tensor]]
    ) -> Collection[int]:
        places, others = operations(net), on_validation()
        now = [mean_cosine([gradients[i] for i in op], [others[i] for i in op]) for op in places]
        self.cosines.append(torch.stack(now))
        if len(self.cosines) == self.window:
            window = torch.stack([cosines.to(now[0].device) for cosines in self.cosines])
            below = window.sum(0) < self.threshold * (window != 0).sum(0)
            self.frozen = sorted({*self.frozen, *below.nonzero().flatten().tolist()})
            self.cosines = []
        return [place for number in self.frozen for place in places[number]]

    def state(self) -> dict[str, Any]:
        return {"frozen": self.frozen, "cosines": self.cosines}

    def load(self, state: Mapping[str, Any]) -> None:
        self.frozen, self.cosines = list(state["frozen"]), list(state["cosines"])
