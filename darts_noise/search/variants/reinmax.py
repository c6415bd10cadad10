"""ReinMax: one operation per edge and step, with a gradient of second-order accuracy.

Source: Liu et al. 2023, arXiv:2304.08612.
"""

from functools import partial

import torch
from torch import Tensor

from darts_noise.configured import require_at_least
from darts_noise.search.architecture import Architecture
from darts_noise.search.variants.variant import Variant, register_variant


def reinmax(alpha: Tensor, sample: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the sample, with a gradient with respect to α that estimates the gradient of E[f].

    With J(p) = diag(p) − ppᵀ, the gradient is (2 J((p' + sample) / 2) − J(p) / 2) ∂f, where p is
    softmax(α) and p' is softmax(α / τ). If τ is 1, its mean over samples from p is the exact
    gradient for every quadratic f. The mean of the straight-through gradient J(p) ∂f is not.

    Shapes: (edges, operations) for all tensors.

    Args:
        alpha: α; −∞ for an operation that is not allowed.
        sample: a one-hot sample from softmax(α) in each row.
        temperature: τ.
    """
    finite = alpha.masked_fill(alpha.isinf(), 0.0)

    def surrogate(weights: Tensor) -> Tensor:
        """Return a tensor whose Jacobian with respect to α is J(weights)."""
        return weights * (finite - (weights * finite).sum(-1, keepdim=True))

    probabilities = alpha.detach().softmax(-1)
    middle = ((alpha.detach() / temperature).softmax(-1) + sample) / 2
    soft = 2 * surrogate(middle) - surrogate(probabilities) / 2
    return sample + (soft - soft.detach())


def sampled(alpha: Tensor, temperature: float) -> Tensor:
    """Draw one operation per edge from softmax(α): (edges, operations) → one-hot rows."""
    drawn = torch.multinomial(alpha.detach().softmax(-1), 1)
    sample = torch.zeros_like(alpha).scatter_(-1, drawn, 1.0)
    return reinmax(alpha, sample, temperature)


@register_variant("reinmax")
class ReinMax(Variant):
    """One-hot samples from softmax(α) with the gradient of `reinmax`.

    Args:
        temperature: τ, at least 1. A larger τ reduces the variance of the gradient and adds a bias.
    """

    relaxes = True

    def __init__(self, temperature: float = 1.0) -> None:
        require_at_least(1, temperature=temperature)
        self.temperature = temperature

    def change_architecture(self, arch: Architecture) -> None:
        arch.relaxation = partial(sampled, temperature=self.temperature)
