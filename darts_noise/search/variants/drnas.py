"""DrNAS: the weights of an edge are a sample from a Dirichlet distribution.

Source: Chen et al. 2021, arXiv:2006.10355.
"""

import torch
from torch import Tensor
from torch.distributions import Dirichlet

from darts_noise.search.architecture import Architecture
from darts_noise.search.variants.variant import Variant, register_variant


def log_concentration(alpha: Tensor) -> Tensor:
    """Return log β, where β = ELU(α) + 1 is the concentration of the Dirichlet distribution."""
    return torch.where(alpha > 0, alpha.clamp(min=0).log1p(), alpha)


def dirichlet(alpha: Tensor) -> Tensor:
    """Draw each row from Dirichlet(β), with the pathwise gradient: (edges, operations)."""
    concentration = log_concentration(alpha).exp()
    positive = concentration.clamp(min=torch.finfo(alpha.dtype).tiny)
    drawn: Tensor = Dirichlet(positive, validate_args=False).rsample()
    return drawn.masked_fill(concentration == 0, 0.0)  # operations that are not allowed


@register_variant("drnas")
class DrNas(Variant):
    """Weights from Dirichlet(β). The genotype is read from the mean, β / Σβ.

    The distance regulariser of the paper pulls β towards 1, that is α towards 0. The setting
    ``alpha_weight_decay`` of the search is this regulariser. The paper uses the default, 0.001.
    """

    relaxes = True

    def change_architecture(self, arch: Architecture) -> None:
        arch.relaxation = dirichlet
        arch.logits = log_concentration
