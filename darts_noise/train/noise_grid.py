"""Which trainings a measurement of noise fit consists of: optimisers × learning rates × seeds.

The question is whether *some* ordinary training fits the noise, so each rate stands for a factor of
about three around its optimiser's usual one: 0.1 is SGD's for networks with batch norm, and a
network without norms diverges there or dies and needs 0.01; 1e-3 is Adam's own default, and small
networks, which are far from where they could be after 1,600 steps of it, get there with ten times
that. Smaller rates than these move too little in 100 epochs of 1,000 samples to add anything.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

SGD_RATES = (0.01, 0.03, 0.1)
ADAM_RATES = (1e-3, 3e-3, 1e-2)
SEEDS = 3
MOMENTUM = 0.9
"""Of SGD."""
GRADIENT_CLIP = 5.0
"""Largest norm of the gradient, as in DARTS's own trainings."""


GridPoint = tuple[str, float, int]
"""Optimiser, learning rate and seed of a training."""


@dataclass(frozen=True)
class NoiseGrid:
    """The trainings of a measurement; all rates fall to 0 on a cosine over the epochs.

    SGD has a momentum of 0.9. Weight decay stays where it belongs to what is measured, as in a
    control with it. ``enough=1.0`` saves time and changes no largest accuracy.

    Attributes:
        sgd_rates: learning rates of SGD; empty for no SGD.
        adam_rates: of Adam; empty for no Adam.
        seeds: so many of the initial weights and of the order, 0 onwards.
        weight_decay: of both; hides capacity, so 0 unless it is measured.
        gradient_clip: largest norm of the gradient; 0 for none.
        enough: leave out what follows a run of this accuracy; null for none.

    Raises:
        ValueError: no training is left, or a value out of range; the message names the key.
    """

    sgd_rates: tuple[float, ...] = SGD_RATES
    adam_rates: tuple[float, ...] = ADAM_RATES
    seeds: int = SEEDS
    weight_decay: float = 0.0
    gradient_clip: float = GRADIENT_CLIP
    enough: float | None = None

    def __post_init__(self) -> None:
        for key in ("sgd_rates", "adam_rates"):
            rates = tuple(getattr(self, key))
            object.__setattr__(self, key, rates)
            if not all(0 < rate < math.inf for rate in rates) or len(set(rates)) < len(rates):
                raise ValueError(f"{key}: expected distinct rates of more than 0, got {rates}")
        if not self.sgd_rates and not self.adam_rates:
            raise ValueError("sgd_rates, adam_rates: expected a rate in one of them, got none")
        if self.seeds < 1:
            raise ValueError(f"seeds: expected 1 or more, got {self.seeds}")
        for key in ("weight_decay", "gradient_clip"):
            if not 0 <= getattr(self, key) < math.inf:
                raise ValueError(f"{key}: expected 0 or more, got {getattr(self, key)}")
        if self.enough is not None and not 0 < self.enough <= 1:
            raise ValueError(f"enough: expected more than 0 and at most 1, got {self.enough}")

    def __iter__(self) -> Iterator[GridPoint]:
        """(optimiser, learning rate, seed); all of seed 0 first.

        >>> list(NoiseGrid(sgd_rates=(0.1,), adam_rates=(0.01,), seeds=1))
        [('sgd', 0.1, 0), ('adam', 0.01, 0)]
        """
        for seed in range(self.seeds):
            yield from (("sgd", rate, seed) for rate in self.sgd_rates)
            yield from (("adam", rate, seed) for rate in self.adam_rates)

    def __str__(self) -> str:
        """As a card shows it.

        >>> print(NoiseGrid(adam_rates=(), seeds=1))
        SGD 0.01, 0.03, 0.1; 1 seed each; weight decay 0; gradients clipped at 5
        """
        rates = {"SGD": self.sgd_rates, "Adam": self.adam_rates}
        optimisers = [f"{k} {', '.join(f'{r:g}' for r in v)}" for k, v in rates.items() if v]
        seeds = f"{self.seeds} seed{'s' if self.seeds > 1 else ''} each"
        clip = (
            f"gradients clipped at {self.gradient_clip:g}" if self.gradient_clip else "no clipping"
        )
        return "; ".join([*optimisers, seeds, f"weight decay {self.weight_decay:g}", clip])

    def __len__(self) -> int:
        return self.seeds * (len(self.sgd_rates) + len(self.adam_rates))
