"""Weights that are samples: GDAS draws one operation per edge and step, SNAS a soft mixture.

Both draw from the Gumbel-softmax (concrete) distribution softmax((α + g) / τ), where g is Gumbel
noise. For τ → 0 a sample is one-hot, with the probabilities softmax(α).
"""

from functools import partial
from typing import ClassVar

import torch.nn.functional as F

from darts_noise.search.architecture import Architecture
from darts_noise.search.variants.variant import Variant, register_variant


@register_variant("gdas")
class Gdas(Variant):
    """Straight-through Gumbel-softmax: one-hot weights forward, softmax weights backward.

    Source: Dong & Yang 2019, arXiv:1910.04465.

    Args:
        temperature: τ in the first epoch. τ falls linearly over the epochs.
        final_temperature: τ in the last epoch.
    """

    relaxes = True
    hard: ClassVar[bool] = True
    arch: Architecture

    def __init__(self, temperature: float = 10.0, final_temperature: float = 0.1) -> None:
        if not temperature >= final_temperature > 0:
            raise ValueError(
                f"expected temperature ≥ final_temperature > 0, got {temperature} and "
                f"{final_temperature}"
            )
        self.start, self.end = temperature, final_temperature

    def change_architecture(self, arch: Architecture) -> None:
        self.arch = arch
        self._set(self.start)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        self._set(self.start + (self.end - self.start) * epoch / max(epochs - 1, 1))

    def _set(self, temperature: float) -> None:
        self.temperature = temperature
        self.arch.relaxation = partial(F.gumbel_softmax, tau=temperature, hard=self.hard)


@register_variant("snas")
class Snas(Gdas):
    """Gumbel-softmax: the same soft weights forward and backward.

    Source: Xie et al. 2019, arXiv:1812.09926. There, the training loss also trains α. Here, α is
    trained on validation data, as in every variant.

    Args:
        temperature: τ in the first epoch. τ falls linearly over the epochs.
        final_temperature: τ in the last epoch.
    """

    hard = False

    def __init__(self, temperature: float = 1.0, final_temperature: float = 0.03) -> None:
        super().__init__(temperature, final_temperature)
