"""SmoothDARTS: w trains at a perturbed relaxed α (Chen & Hsieh 2020, arXiv:2002.05283)."""

from collections.abc import Callable

import torch
from torch import Tensor

from darts_noise.configured import require_at_least
from darts_noise.errors import SettingError
from darts_noise.search.gradients import gradients
from darts_noise.search.variants.variant import Variant, Weights, register_variant


class Perturbed(Variant):
    """A perturbation whose radius ε grows linearly over the search from 0.1 of its final value."""

    def __init__(self, radius: float = 0.3) -> None:
        if not 0 < radius <= 1:
            raise SettingError("radius", f"expected more than 0 and at most 1, got {radius}")
        self.final_radius = radius
        self.radius = radius / 10

    def start_epoch(self, epoch: int, epochs: int) -> None:
        first = self.final_radius / 10
        self.radius = first + (self.final_radius - first) * epoch / epochs

    def _around(self, weights: Weights) -> Weights:
        return {
            kind: (w + torch.empty_like(w).uniform_(-self.radius, self.radius)).clamp(min=0)
            for kind, w in weights.items()
        }


@register_variant("smooth_darts_random")
class SmoothRandom(Perturbed):
    """SDARTS-RS: uniform noise between −ε and ε on every relaxed weight.

    Args:
        radius: ε at the end of the search.
    """

    def perturb(self, weights: Weights, loss: Callable[[Weights], Tensor]) -> Weights:
        return self._around(weights)


@register_variant("smooth_darts_adversarial")
class SmoothAdversarial(Perturbed):
    """SDARTS-ADV: projected gradient ascent to the relaxed weights within ±ε with the largest loss.

    Args:
        radius: ε at the end of the search.
        steps: number of ascent steps. Each step computes one gradient of w's loss.
    """

    def __init__(self, radius: float = 0.3, steps: int = 7) -> None:
        super().__init__(radius)
        require_at_least(1, steps=steps)
        self.steps = steps

    def perturb(self, weights: Weights, loss: Callable[[Weights], Tensor]) -> Weights:
        found = self._around(weights)
        size = 2 * self.radius / self.steps
        for _ in range(self.steps):
            leaves = {kind: w.detach().requires_grad_() for kind, w in found.items()}
            ascent = gradients(loss(leaves), list(leaves.values()))
            found = {
                kind: self._project(w + size * g.sign(), weights[kind])
                for (kind, w), g in zip(leaves.items(), ascent, strict=True)
            }
        return found

    def _project(self, w: Tensor, centre: Tensor) -> Tensor:
        nearest = torch.minimum(torch.maximum(w, centre - self.radius), centre + self.radius)
        return nearest.clamp(min=0).detach()
