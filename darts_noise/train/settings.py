"""The settings of a training and of the noise measurement. Nothing heavy is imported here.

The grid's rates: the question is whether *some* ordinary training fits the noise, so each rate
stands for a factor of about three around its optimiser's usual one. 0.1 is SGD's for networks with
batch norm; a network without norms diverges there or dies, and needs 0.01. 1e-3 is Adam's own
default, and small networks, which are far from where they could be after 1,600 steps of it, get
there with ten times that. Smaller rates than these move too little in 100 epochs of 1,000 samples
to add anything.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from darts_noise.configured import require_seed
from darts_noise.errors import SettingError, unknown

NoiseFamily = dict[str, Any] | str
"""A noise family's name, or several families with a weight each."""


@dataclass(frozen=True)
class TrainConfig:
    """How a discrete network is made and trained.

    Args:
        genotype: the cell: a published name, a .json file, or a run directory; for train.py also
            the name of a search. null for the newest search.
        channels: channels of a state before the first reduction.
        parameters: the number of parameters, without auxiliary head; the channels that come nearest
            are used in place of ``channels``. null uses ``channels``.
        num_cells: cells of the network, with reductions at one and two thirds.
        stem: small (images of 8×8 to 28×28 pixels), cifar or imagenet.
        stem_stride: 1, 2 or 4, of the small or cifar stem.
        auxiliary_weight: weight of the auxiliary head's loss; 0 for no head.
        drop_path: probability of dropping an operation at the end; rises linearly from 0.
        label_smoothing: share of the label's mass that is spread over all classes.
        mixup: α of the Beta distribution that mixes the images and labels of a batch (MixUp); 0 for
            none.
        cutmix: the same for rectangles (CutMix); with both, one of the two per batch at random.
        ema_decay: decay of the weights' moving average, which is then evaluated and saved; 0 for
            none. It averages over about 1 / (1 − ema_decay) steps and starts at the first weights,
            so a short run needs a smaller value.
        learning_rate: at the start (SGD).
        learning_rate_decay: factor on the rate after each epoch; null for a cosine to 0.
        momentum: of SGD.
        weight_decay: of SGD.
        channels_last: keep the channels of a pixel together in memory; the same figures, faster.
        compile: torch.compile the network for training; slow to start, then faster.
        seed: of MixUp and CutMix.

    Raises:
        SettingError: a value out of range.
    """

    genotype: str | None = None
    channels: int = 36
    parameters: int | None = None
    num_cells: int = 20
    stem: str = "cifar"
    stem_stride: int = 1
    auxiliary_weight: float = 0.4
    drop_path: float = 0.2
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema_decay: float = 0.0
    learning_rate: float = 0.025
    learning_rate_decay: float | None = None
    momentum: float = 0.9
    weight_decay: float = 3e-4
    channels_last: bool = True
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        rates = ("auxiliary_weight", "learning_rate", "momentum", "weight_decay")
        for key in (*rates, "mixup", "cutmix"):
            value = getattr(self, key)
            if not 0 <= value < math.inf:  # written so that NaN is refused as well
                raise SettingError(key, f"expected 0 or more, got {value}")
        for key in ("drop_path", "label_smoothing", "ema_decay"):
            value = getattr(self, key)
            if not 0 <= value < 1:
                raise SettingError(key, f"expected 0 or more and less than 1, got {value}")
        require_seed(self.seed)
        if self.parameters is not None and self.parameters < 1:
            raise SettingError("parameters", f"expected 1 or more, or null, got {self.parameters}")
        decay = self.learning_rate_decay
        if decay is not None and not 0 < decay <= 1:
            raise SettingError(
                "learning_rate_decay", f"expected more than 0 and at most 1, got {decay}"
            )


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

    Args:
        sgd_rates: learning rates of SGD; empty for no SGD.
        adam_rates: learning rates of Adam; empty for no Adam.
        seeds: how many seeds of the initial weights and of the order, counted from 0.
        weight_decay: of both optimisers; hides capacity, so 0 unless it is measured.
        gradient_clip: largest norm of the gradient; 0 for none.
        enough: make no further training after one of this accuracy; null makes all.

    Raises:
        SettingError: no training is left, or a value out of range.
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
                raise SettingError(key, f"expected distinct rates of more than 0, got {rates}")
        if not self.sgd_rates and not self.adam_rates:
            raise SettingError("sgd_rates, adam_rates", "expected a rate in one of them, got none")
        if self.seeds < 1:
            raise SettingError("seeds", f"expected 1 or more, got {self.seeds}")
        for key in ("weight_decay", "gradient_clip"):
            if not 0 <= getattr(self, key) < math.inf:
                raise SettingError(key, f"expected 0 or more, got {getattr(self, key)}")
        if self.enough is not None and not 0 < self.enough <= 1:
            raise SettingError("enough", f"expected more than 0 and at most 1, got {self.enough}")

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


class Protocol(NamedTuple):
    """What a protocol takes where nothing is said, and the arguments that it has no use for."""

    samples: int | None  # None for as many as there are real images
    epochs: int
    unused: tuple[str, ...]


PROTOCOLS: Mapping[str, Protocol] = {
    "quick": Protocol(None, 10, ("grid", "controls", "progress")),
    "converged": Protocol(1000, 100, ("callbacks",)),
    "selectivity": Protocol(1000, 100, ("callbacks", "controls")),
}


def require_protocol(protocol: str) -> None:
    """Raises the `SettingError` that lists what is valid unless ``protocol`` is."""
    if protocol not in PROTOCOLS:
        raise SettingError("protocol", unknown("protocol", protocol, PROTOCOLS))


@dataclass(frozen=True)
class NoiseConfig:
    """How well the trained cell fits noise, measured after the training.

    Args:
        check: also train the cell on noise.
        family: what the noise check trains on; see darts_noise.list_noise(). Several with a weight
            each: {uniform: 2, random_pixels: 1}.
        protocol: quick (one training as the clean run), converged or selectivity (grids).
        samples: images of noise; null for as many as there are real images (quick) or 1000 (grids).
        epochs: passes over them; null for trainer.max_epochs (quick) or at most 100 (grids).
        controls: positive controls of converged: a list of networks or names of cells; null for
            resnet18.
        runs: noise_runs.json of an interrupted run, to go on from it.
        grid: the trainings of converged and selectivity.

    Raises:
        SettingError: a value out of range, an unknown protocol, or a setting that the protocol does
            not use.
    """

    check: bool = True
    family: NoiseFamily = "uniform"
    protocol: str = "quick"
    samples: int | None = None
    epochs: int | None = None
    controls: list[str] | None = None
    runs: str | None = None
    grid: NoiseGrid = field(default_factory=NoiseGrid)

    def __post_init__(self) -> None:
        require_protocol(self.protocol)
        for key in ("samples", "epochs"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise SettingError(key, f"expected 1 or more, got {value}")
        unused = PROTOCOLS[self.protocol].unused
        stated = {"controls": self.controls is not None, "grid": self.grid != NoiseGrid()}
        for key, is_stated in stated.items():
            if is_stated and key in unused:
                raise SettingError(key, f"expected none with the protocol {self.protocol}")
        if self.runs is not None and self.protocol == "quick":
            raise SettingError("runs", "expected none with the protocol quick")
