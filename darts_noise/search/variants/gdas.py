"""GDAS: each step samples one operation per edge (Dong & Yang 2019, arXiv:1910.04465)."""

from functools import partial

import torch.nn.functional as F

from darts_noise.search.architecture import Architecture
from darts_noise.search.variants.variant import Variant, register_variant


@register_variant("gdas")
class Gdas(Variant):
    """Straight-through Gumbel-softmax: one-hot weights forward, softmax weights backward.

    Args:
        temperature: τ in the first epoch. τ falls linearly over the epochs.
        final_temperature: τ in the last epoch.
    """

    def __init__(self, temperature: float = 10.0, final_temperature: float = 0.1) -> None:
        if not temperature >= final_temperature > 0:
            raise ValueError(
                f"expected temperature ≥ final_temperature > 0, got {temperature} and "
                f"{final_temperature}"
            )
        self.start, self.end = temperature, final_temperature
        self.temperature = temperature
        self.arch: Architecture | None = None

    def change_architecture(self, arch: Architecture) -> None:
        self.arch = arch
        self._set(self.start)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        self._set(self.start + (self.end - self.start) * epoch / max(epochs - 1, 1))

    def _set(self, temperature: float) -> None:
        self.temperature = temperature
        assert self.arch is not None
        self.arch.relaxation = partial(F.gumbel_softmax, tau=temperature, hard=True)
