"""The record of a measurement of noise fit: a `NoiseRun` per training, one `NoiseFit` for all."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, get_args, get_type_hints

from darts_noise.shown import shown
from darts_noise.train.settings import GridPoint

CONTROL_ACCURACY = 0.99
"""A positive control must reach this accuracy. Otherwise the measurement proves nothing."""
REAL = "real"
"""The name of the set of real images."""
REAL_ACCURACY = 0.9
"""The same trainings must fit real images to this accuracy. Otherwise they prove nothing."""


@dataclass(frozen=True)
class NoiseRun:
    """One training from scratch.

    Attributes:
        network: ``network`` for the measured network, or the name of a control.
        data: ``noise`` or ``real``.
        optimiser: ``sgd``, ``adam`` or ``muon``.
        learning_rate: learning rate at the start.
        seed: seed of the initial weights and of the order of the samples. The noise set is the same
            for all runs.
        accuracy: largest accuracy on the training set, in eval mode. None if the loss was not
            finite before the first evaluation.
        epochs: passes over the set. The last pass may be incomplete.
        steps: steps of the optimiser.
        reached: number of steps at the first evaluation that found the target accuracy, or None.
        diverged: whether the loss became NaN or infinite. Such a run is no evidence of what the
            network can fit.
        initial_scale: factor on the initial weights of convolutions and linear layers.
        seconds: wall time; ignored by ``==``.
    """

    network: str
    data: str
    optimiser: str
    learning_rate: float
    seed: int
    accuracy: float | None
    epochs: int
    steps: int
    reached: int | None
    diverged: bool
    initial_scale: float = 1.0
    seconds: float = field(compare=False, default=0.0)

    @property
    def key(self) -> str:
        """The key that identifies the run within its measurement; see `run_key`."""
        return run_key(self.network, self.data, self.point)

    @property
    def point(self) -> GridPoint:
        """The settings of the training."""
        return GridPoint(self.optimiser, self.learning_rate, self.initial_scale, self.seed)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_run(data: object) -> NoiseRun:
    """Return the run of a JSON object that `NoiseRun.to_dict` made.

    Older files have no ``initial_scale``.

    Raises:
        ValueError: a field is missing, unknown or of another type, or a number is negative or not
            finite.
    """
    hints = get_type_hints(NoiseRun)
    if isinstance(data, dict):
        data = {"initial_scale": 1.0, **data}
    if not isinstance(data, dict) or data.keys() != hints.keys():
        raise ValueError(f"run: expected {', '.join(hints)}")
    for key, hint in hints.items():
        value, kinds = data[key], {*(get_args(hint) or [hint])}
        kinds |= {int} if float in kinds else set()  # JSON may hold 1 for 1.0
        if type(value) not in kinds:  # not isinstance, for which True is an int
            raise ValueError(f"{key}: expected {hint}, got {shown(value)}")
        if type(value) in (int, float) and not 0 <= value < math.inf:
            raise ValueError(f"{key}: out of range: {shown(value)}")
    return NoiseRun(**data)


@dataclass(frozen=True)
class NoiseFit:
    """The result of a measurement of noise fit.

    Attributes:
        protocol: ``quick``: one training with the recipe and the `max_epochs` of a clean run,
            without augmentation, mixing or early stopping. ``converged``: the largest accuracy over
            optimisers, learning rates, initial scales and seeds. ``selectivity``: steps to fit half
            of the noise, divided by the steps to fit half of the real data.
        family: the noise family. It includes the data set if the family needs one, and the shares
            of a mixture of families.
        accuracy: accuracy on the noise set used for training, in eval mode. With ``quick``: after
            the last epoch. Else: the same as `accuracy_largest`. NaN if every run diverged.
        accuracy_largest: the largest accuracy on the noise set over all epochs and runs. With
            ``selectivity`` a run ends at the target accuracy.
        chance: accuracy of the best constant answer: the share of the largest class.
        samples: N, the number of images in the noise set.
        epochs: largest number of passes over the noise set.
        seed: seed of the noise set. With ``quick`` also the seed of the initial weights and of the
            order of the samples.
        fingerprint: fingerprint of the noise set.
        seconds: wall time of all runs; ignored by ``==``.
        runs: all trainings, first of the network on noise, then on real images, then of the
            controls. Empty with ``quick``.
        controls: the largest accuracy of each positive control on the same noise set.
        real_accuracy: with ``converged``, the largest accuracy of the same trainings on real
            images. The trainings stop after the first that reaches 90%. None if every one of them
            diverged, and with the other protocols.
        real_samples: with ``converged``, the number of these real images.
        steps: with ``selectivity``, the fewest steps on noise and on real data. None if no run
            reached the target accuracy.
        selectivity: steps on noise divided by steps on real data, or a lower bound of the ratio.
        is_bound: whether `selectivity` is a lower bound: no run on noise reached the target.
        curve: with ``quick``, the accuracy after each epoch.
    """

    protocol: str
    family: str
    accuracy: float
    accuracy_largest: float
    chance: float
    samples: int
    epochs: int
    seed: int
    fingerprint: str
    seconds: float = field(compare=False)
    runs: tuple[NoiseRun, ...] = ()
    controls: Mapping[str, float] = field(default_factory=dict, hash=False)
    steps: tuple[int | None, int | None] = (None, None)
    selectivity: float | None = None
    is_bound: bool = False
    curve: tuple[float, ...] = ()
    real_accuracy: float | None = None
    real_samples: int | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the runs in ascending order."""
        return tuple(sorted({run.seed for run in self.runs}))

    @property
    def diverged(self) -> tuple[NoiseRun, ...]:
        """The runs that diverged."""
        return tuple(run for run in self.runs if run.diverged)

    @property
    def control_reached(self) -> bool | None:
        """Whether a control reached 99%, or None without controls."""
        if not self.controls:
            return None
        return any(value >= CONTROL_ACCURACY for value in self.controls.values())

    @property
    def real_reached(self) -> bool | None:
        """Whether real images were fitted to 90%, or None if the protocol has no such trainings.

        If not, the trainings were too short or too weak for this network, and a low noise accuracy
        proves nothing.
        """
        if self.real_samples is None:
            return None
        return self.real_accuracy is not None and self.real_accuracy >= REAL_ACCURACY

    @property
    def shown_selectivity(self) -> str | None:
        """``12.5``, or ``> 43`` for a lower bound.

        >>> NoiseFit("selectivity", "uniform", 0.2, 0.2, 0.1, 100, 5, 0, "", 1.0,
        ...          selectivity=43.0, is_bound=True).shown_selectivity
        '> 43'
        """
        if self.selectivity is None:
            return None
        return f"{'> ' if self.is_bound else ''}{self.selectivity:.3g}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the derived values for a card. NaN becomes None."""
        record = asdict(self)
        for key in ("accuracy", "accuracy_largest"):
            record[key] = _finite(record[key])
        record["controls"] = {name: _finite(value) for name, value in self.controls.items()}
        return {
            **record,
            "seeds": list(self.seeds),
            "diverged": len(self.diverged),
            "control_reached": self.control_reached,
            "real_reached": self.real_reached,
            "shown_selectivity": self.shown_selectivity,
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def run_key(network: str, data: str, point: GridPoint) -> str:
    """Return the key that identifies a run within its measurement.

    >>> run_key("network", "noise", GridPoint("sgd", 0.1, 4, seed=0))
    'network/noise/sgd/0.1/4.0/0'
    """
    rate, scale = float(point.learning_rate), float(point.initial_scale)
    return f"{network}/{data}/{point.optimiser}/{rate!r}/{scale!r}/{point.seed}"


def largest_accuracy(runs: Iterable[NoiseRun]) -> float:
    """Return the largest accuracy over all runs.

    The accuracy that a run reached before it diverged counts too. If every run diverged, return
    NaN: such runs are no evidence of what the network can fit.
    """
    runs = tuple(runs)
    if all(run.diverged for run in runs):
        return math.nan
    return max(run.accuracy for run in runs if run.accuracy is not None)
