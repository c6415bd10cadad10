"""Early stopping: DARTS+ counts skip connections, RobustDARTS measures the curvature of L_val."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from darts_noise.configured import require_at_least
from darts_noise.search.architecture import Architecture
from darts_noise.search.variants.variant import Variant, register_variant


@register_variant("darts_plus")
class DartsPlus(Variant):
    """A stop when the normal cell has many skip connections (Liang et al., arXiv:1909.06035).

    Args:
        skips: number of skip connections in the discrete normal cell that stops the search.
    """

    def __init__(self, skips: int = 2) -> None:
        require_at_least(1, skips=skips)
        self.skips = skips

    def stop(self, arch: Architecture, curvature: Callable[[], float]) -> str | None:
        found = sum(op == "skip_connect" for node in arch.genotype().normal for op, _ in node)
        if found < self.skips:
            return None
        return f"the normal cell has {found} skip connections"


@register_variant("robust_darts")
class RobustDarts(Variant):
    """A stop when the dominant eigenvalue of ∇²_α L_val grows fast; it also sets α back.

    Source: Zela et al. 2020, arXiv:1909.09656, section 4.3.

    Args:
        window: epochs over which the eigenvalue is averaged. α is set back by as many epochs.
        ratio: stop when the average ``window`` epochs ago is less than this share of the current
            average.
    """

    def __init__(self, window: int = 5, ratio: float = 0.75) -> None:
        if window < 1 or not 0 < ratio < 1:
            raise ValueError(f"expected window ≥ 1 and 0 < ratio < 1, got {window} and {ratio}")
        self.window, self.ratio = window, ratio
        self.eigenvalues: list[float] = []
        self.alphas: list[dict[str, Tensor]] = []

    def stop(self, arch: Architecture, curvature: Callable[[], float]) -> str | None:
        self.eigenvalues.append(curvature())
        self.alphas.append({k: v.detach().cpu().clone() for k, v in arch.state_dict().items()})
        self.alphas = self.alphas[-self.window - 1 :]
        if len(self.eigenvalues) < 2 * self.window:
            return None
        now = sum(self.eigenvalues[-self.window :]) / self.window
        before = sum(self.eigenvalues[-2 * self.window : -self.window]) / self.window
        if not 0 < before < self.ratio * now:
            return None
        arch.load_state_dict(self.alphas[0])
        return f"the dominant eigenvalue rose from {before:.3g} to {now:.3g}; α is set back"

    def state(self) -> dict[str, Any]:
        return {"eigenvalues": self.eigenvalues, "alphas": self.alphas}

    def load(self, state: Mapping[str, Any]) -> None:
        self.eigenvalues = list(state["eigenvalues"])
        self.alphas = list(state["alphas"])
