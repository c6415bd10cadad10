"""The settings of a training and of the noise measurement, without torch or Lightning.

The learning rates of the grid: the measurement asks whether *some* ordinary training fits the
noise. So the rates cover the usual rates of each optimiser in steps of about a factor of three. 0.1
is usual for SGD on networks with batch norm. A network without norms diverges or dies at 0.1 and
needs 0.01. 1e-3 is the default of Adam. Small networks have not converged after 1,600 steps at
1e-3, but they converge at 1e-2. Smaller rates change the weights too little in 100 epochs of 1,000
samples to find a better fit. 0.02 is the usual rate of Muon, whose steps do not depend on the scale
of the gradient. It fits most noise, and networks of bounded gain much more than Adam does.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from darts_noise.attacks.settings import EPS, require_size
from darts_noise.configured import Setting, naming_arguments, require_fields, require_seed
from darts_noise.errors import SettingError, counted, unknown

NoiseFamily = dict[str, Any] | str
"""A noise family's name, or several families with a weight each: one noise set."""
NoiseFamilies = list[NoiseFamily] | NoiseFamily | None
"""One noise set or a list of them; None: the family of the search that found the cell."""


OPTIMISERS = ("sgd", "adam", "muon")
ALL = "none"
"""The value of ``noisy_labels`` for a training on all samples."""


@naming_arguments
@dataclass(frozen=True)
class TrainConfig:
    """The settings of a discrete network and of its training.

    Args:
        genotype: the cell: a published name, a .json file or a run directory. train.py also accepts
            the name of a search. null: the newest search.
        init: start from the weights of this trained network: a training run, a bundle or the name
            of a shipped network. The classifier is new if the number of classes differs. null:
            random weights.
        channels: channels of a state before the first reduction.
        parameters: target number of parameters, without the auxiliary head; sets the channels to
            the nearest match. null: use ``channels``.
        num_cells: cells of the network, with reductions at one and two thirds.
        stem: stem of the network: small (images of 8×8 to 28×28 pixels), cifar or imagenet.
        stem_stride: stride of the small or cifar stem: 1, 2 or 4.
        auxiliary_weight: weight of the auxiliary head's loss. 0: no auxiliary head.
        drop_path: probability of dropping an operation in the last epoch; rises linearly from 0.
        label_smoothing: share of the label that is spread evenly over all classes.
        mixup: α of the Beta distribution with which MixUp mixes the images and labels of a batch.
            0: no MixUp.
        cutmix: α of the Beta distribution with which CutMix mixes rectangles of images. 0: no
            CutMix. With mixup too, each batch uses one of the two at random.
        noisy_labels: which samples of a batch train, if some labels are wrong; see
            darts_noise.list_noisy_labels(). none: all of them. With settings:
            {co_teaching: {forget_rate: 0.4}}.
        adversarial_eps: adversarial training: largest change of each image, with pixels from 0 to
            1. 0: train on the images as they are.
        adversarial_steps: gradient steps that make an example of adversarial training.
        adversarial_norm: how its change is measured: linf, the largest change of a pixel, or l2.
        ema_decay: decay of the moving average of the weights; the average is evaluated and saved.
            0: no average. It covers about 1 / (1 − ema_decay) steps and starts at the first
            weights, so a short run needs a smaller value.
        optimiser: sgd, adam or muon. null: muon for a cell whose gain is bounded, else sgd.
        muon_learning_rate: largest learning rate of Muon. It changes as Adam's.
        adam_learning_rate: largest learning rate of Adam. It rises to it over the first 30% of the
            steps and then falls to 0.
        learning_rate: learning rate of SGD at the start.
        learning_rate_decay: factor on the learning rate after each epoch. null: a cosine to 0.
        momentum: momentum of SGD.
        weight_decay: weight decay of SGD.
        channels_last: keep the channels of a pixel together in memory; same results, faster.
        compile: torch.compile the network for training; starts slowly, then runs faster.
        seed: seed of MixUp and CutMix, of adversarial training, and of the second network of
            co_teaching.

    Raises:
        SettingError: a value out of range.
    """

    genotype: str | None = None
    init: str | None = None
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
    noisy_labels: dict[str, dict[str, Setting] | None] | str = ALL
    adversarial_eps: float = 0.0
    adversarial_steps: int = 7
    adversarial_norm: str = "linf"
    ema_decay: float = 0.0
    optimiser: str | None = None
    muon_learning_rate: float = 0.02
    adam_learning_rate: float = 3e-3
    learning_rate: float = 0.025
    learning_rate_decay: float | None = None
    momentum: float = 0.9
    weight_decay: float = 3e-4
    channels_last: bool = True
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimiser is not None and self.optimiser not in OPTIMISERS:
            raise SettingError("optimiser", unknown("optimiser", self.optimiser, OPTIMISERS))
        require_fields(self, auxiliary_weight=0, momentum=0, weight_decay=0, num_cells=1)
        require_fields(self, muon_learning_rate=0, adam_learning_rate=0, learning_rate=0)
        require_fields(self, mixup=0, cutmix=0, adversarial_eps=0, adversarial_steps=1)
        for key in ("drop_path", "label_smoothing", "ema_decay"):
            value = getattr(self, key)
            if not 0 <= value < 1:
                raise SettingError(key, f"expected 0 or more and less than 1, got {value}")
        if self.noisy_labels != ALL and (self.mixup or self.cutmix):
            raise SettingError(
                "noisy_labels",
                f"expected {ALL} with mixup or cutmix, which mix right and wrong labels, "
                f"got {self.noisy_labels}",
            )
        if self.adversarial_norm not in EPS:
            raise SettingError("adversarial_norm", unknown("norm", self.adversarial_norm, EPS))
        if self.adversarial_eps:
            require_size("adversarial_eps", self.adversarial_norm, self.adversarial_eps)
        if self.adversarial_eps and (self.mixup or self.cutmix or self.noisy_labels != ALL):
            raise SettingError(
                "adversarial_eps",
                "expected 0 with mixup, cutmix or noisy_labels, because an example is attacked "
                f"away from one label that is right, got {self.adversarial_eps:g}",
            )
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
MUON_RATES = (0.02,)
SCALES = (1.0, 4.0)
SEEDS = 3
MOMENTUM = 0.9
"""Momentum of SGD."""
GRADIENT_CLIP = 5.0
"""Largest norm of the gradient, as in the trainings of DARTS."""


class GridPoint(NamedTuple):
    """The settings of one training of a grid."""

    optimiser: str
    learning_rate: float
    initial_scale: float
    seed: int

    def __str__(self) -> str:
        """Return the text that progress shows.

        >>> print(GridPoint("sgd", 0.1, 1, 0), GridPoint("adam", 0.003, 4, 2), sep=" | ")
        sgd 0.1, seed 0 | adam 0.003, initial weights × 4, seed 2
        """
        scale = "" if self.initial_scale == 1 else f", initial weights × {self.initial_scale:g}"
        return f"{self.optimiser} {self.learning_rate:g}{scale}, seed {self.seed}"


@naming_arguments
@dataclass(frozen=True)
class NoiseGrid:
    """The grid of trainings of a measurement: optimisers, learning rates, initial scales and seeds.

    All learning rates fall to 0 on a cosine over the epochs. SGD has a momentum of 0.9.
    ``enough=1.0`` saves time and does not change the largest accuracy.

    Args:
        sgd_rates: learning rates of SGD. Empty: no SGD.
        adam_rates: learning rates of Adam. Empty: no Adam.
        muon_rates: learning rates of Muon. Empty: no Muon.
        seeds: number of seeds, counted from 0, of the initial weights and of the order of samples.
        weight_decay: weight decay of all optimisers. It hides capacity; keep it at 0 unless you
            measure its effect.
        gradient_clip: largest norm of the gradient. 0: no clipping.
        enough: stop the grid after a training with this accuracy. null: make all trainings.
        scales: factors on the initial weights of convolutions and linear layers. A network without
            norms fits more noise from large initial weights.

    Raises:
        SettingError: the grid has no training, or a value out of range.
    """

    sgd_rates: tuple[float, ...] = SGD_RATES
    adam_rates: tuple[float, ...] = ADAM_RATES
    seeds: int = SEEDS
    weight_decay: float = 0.0
    gradient_clip: float = GRADIENT_CLIP
    enough: float | None = None
    scales: tuple[float, ...] = SCALES
    muon_rates: tuple[float, ...] = MUON_RATES

    def __post_init__(self) -> None:
        for key in ("sgd_rates", "adam_rates", "muon_rates", "scales"):
            values = tuple(getattr(self, key))
            object.__setattr__(self, key, values)
            if not all(0 < value < math.inf for value in values) or len(set(values)) < len(values):
                raise SettingError(key, f"expected distinct numbers of more than 0, got {values}")
        if not self.scales:
            raise SettingError("scales", "expected one or more, got none")
        if not any(self.rates.values()):
            raise SettingError(
                "sgd_rates, adam_rates, muon_rates", "expected a rate in one of them, got none"
            )
        require_fields(self, seeds=1, weight_decay=0, gradient_clip=0)
        if self.enough is not None and not 0 < self.enough <= 1:
            raise SettingError("enough", f"expected more than 0 and at most 1, got {self.enough}")

    def __iter__(self) -> Iterator[GridPoint]:
        """Yield each training, first all with seed 0.

        >>> for point in NoiseGrid(sgd_rates=(0.1,), adam_rates=(), seeds=1):
        ...     print(point)
        sgd 0.1, seed 0
        muon 0.02, seed 0
        sgd 0.1, initial weights × 4, seed 0
        muon 0.02, initial weights × 4, seed 0
        """
        for seed in range(self.seeds):
            for scale in self.scales:
                for optimiser, rates in self.rates.items():
                    yield from (GridPoint(optimiser, rate, scale, seed) for rate in rates)

    def __str__(self) -> str:
        """Return the text that a card shows.

        >>> print(NoiseGrid(adam_rates=(), sgd_rates=(0.1,), seeds=1, gradient_clip=0))
        SGD 0.1; Muon 0.02; initial weights × 1, 4; 1 seed each; weight decay 0; no clipping
        """
        names = {"sgd": "SGD", "adam": "Adam", "muon": "Muon"}
        optimisers = [
            f"{names[k]} {', '.join(f'{r:g}' for r in v)}" for k, v in self.rates.items() if v
        ]
        seeds = f"{counted(self.seeds, 'seed')} each"
        clipped = f"gradients clipped at {self.gradient_clip:g}"
        clip = clipped if self.gradient_clip else "no clipping"
        scales = f"initial weights × {', '.join(f'{scale:g}' for scale in self.scales)}"
        decay = f"weight decay {self.weight_decay:g}"
        return "; ".join([*optimisers, scales, seeds, decay, clip])

    def __len__(self) -> int:
        return self.seeds * len(self.scales) * sum(map(len, self.rates.values()))

    @property
    def rates(self) -> dict[str, tuple[float, ...]]:
        """The learning rates of each optimiser."""
        return {"sgd": self.sgd_rates, "adam": self.adam_rates, "muon": self.muon_rates}


class Protocol(NamedTuple):
    """The defaults of a protocol and the arguments that it does not use."""

    samples: int | None  # None: the number of real images
    epochs: int
    unused: tuple[str, ...]


PROTOCOLS: Mapping[str, Protocol] = {
    "quick": Protocol(None, 10, ("grid", "controls", "progress")),
    "converged": Protocol(1000, 100, ("callbacks",)),
    "selectivity": Protocol(1000, 100, ("callbacks", "controls")),
}


def require_protocol(protocol: str) -> None:
    """Raise a `SettingError` that lists the valid protocols if ``protocol`` is not one of them."""
    if protocol not in PROTOCOLS:
        raise SettingError("protocol", unknown("protocol", protocol, PROTOCOLS))


@naming_arguments
@dataclass(frozen=True)
class NoiseConfig:
    """The settings of the noise check: how well the trained cell fits noise.

    Args:
        check: also train the cell on noise.
        family: noise family; see darts_noise.list_noise(). Several families with a weight each:
            {uniform: 2, random_pixels: 1}. A list, [uniform, random_labels]: each is measured.
            null: the family of the search that found the cell, or uniform.
        protocol: quick (one training with the recipe of the clean run), converged or selectivity
            (grids of trainings).
        samples: images in the noise set. null: the number of real images (quick) or 1000 (grids).
        epochs: passes over the noise set. null: trainer.max_epochs (quick) or at most 100 (grids).
        controls: positive controls of converged: names of control networks or of cells. null:
            resnet18. With quick, null trains the same cell with batch norm beside it, on the data
            and on noise, unless the cell has batch norm and sees the whole image. []: no control.
        runs: noise_runs.json of an interrupted run; the measurement resumes from it.
        grid: the grid of trainings of converged and selectivity.

    Raises:
        SettingError: a value out of range, an unknown protocol, or a setting that the protocol does
            not use.
    """

    check: bool = True
    family: NoiseFamilies = None
    protocol: str = "quick"
    samples: int | None = None
    epochs: int | None = None
    controls: list[str] | None = None
    runs: str | None = None
    grid: NoiseGrid = field(default_factory=NoiseGrid)

    def __post_init__(self) -> None:
        require_protocol(self.protocol)
        require_fields(self, samples=1, epochs=1)
        if isinstance(self.family, list) and not self.family:
            raise SettingError("family", "expected a noise family or more, got []")
        if isinstance(self.family, list) and len(self.family) > 1 and self.runs is not None:
            raise SettingError("runs", "expected none with several families")
        unused = PROTOCOLS[self.protocol].unused
        left_out = self.protocol == "quick" and self.controls == []
        stated = {
            "controls": self.controls is not None and not left_out,
            "grid": self.grid != NoiseGrid(),
        }
        for key, is_stated in stated.items():
            if is_stated and key in unused:
                problem = f"expected none with the protocol {self.protocol}"
                if key == "controls" and self.protocol == "quick":
                    problem = (
                        "expected null, or [] to leave its control out, with the protocol quick; "
                        "converged takes other controls"
                    )
                raise SettingError(key, problem)
        if self.runs is not None and self.protocol == "quick":
            raise SettingError("runs", "expected none with the protocol quick")

    def families(self, meta: Mapping[str, Any]) -> list[NoiseFamily]:
        """Return the noise families to measure. Default: the family of the cell's search.

        Args:
            meta: the ``meta`` of the cell's genotype.

        >>> NoiseConfig().families({})
        ['uniform']
        """
        if isinstance(self.family, list):
            return self.family
        return [self.family or meta.get("noise_family") or "uniform"]
