"""What a measurement of noise fit says: a `NoiseRun` for each training, one `NoiseFit` for all."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, get_args, get_type_hints

from darts_noise.space.shown import shown

CONTROL_ACCURACY = 0.99
"""What a positive control must reach, or the measurement was too weak to say anything."""


@dataclass(frozen=True)
class NoiseRun:
    """One training from scratch.

    Attributes:
        network: ``network`` for the one that is measured, or the name of a control.
        data: ``noise`` or ``real``.
        optimiser: ``sgd`` or ``adam``.
        learning_rate: at the start.
        seed: of the initial weights and of the order; the noise set is the same for all.
        accuracy: the largest on the training set, in eval mode; None where the loss was not finite
            before it was first read.
        epochs: passes over the set, the last one perhaps not whole.
        steps: of the optimiser.
        reached: steps after which the accuracy that was asked for was first read, or None.
        diverged: the loss became NaN or infinite. Such a run says nothing of what the network
            could have fitted.
        seconds: wall time; no part of equality.
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
    seconds: float = field(compare=False, default=0.0)

    @property
    def key(self) -> str:
        """What tells a run from the others of its measurement; see `run_key`."""
        return run_key(self.network, self.data, self.optimiser, self.learning_rate, self.seed)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_run(data: object) -> NoiseRun:
    """The run that a JSON object describes, as `NoiseRun.to_dict` gave it.

    Raises:
        ValueError: a field that is missing, unknown or of another type, or a number that is not
            finite or negative.
    """
    hints = get_type_hints(NoiseRun)
    if not isinstance(data, dict) or data.keys() != hints.keys():
        raise ValueError(f"run: expected {', '.join(hints)}")
    for key, hint in hints.items():
        value, kinds = data[key], {*(get_args(hint) or [hint])}
        kinds |= {int} if float in kinds else set()  # JSON does not tell 1 from 1.0
        if type(value) not in kinds:  # True is an int to isinstance
            raise ValueError(f"{key}: expected {hint}, got {shown(value)}")
        if type(value) in (int, float) and not 0 <= value < math.inf:
            raise ValueError(f"{key}: out of range: {shown(value)}")
    return NoiseRun(**data)


@dataclass(frozen=True)
class NoiseFit:
    """What came of training on noise.

    Attributes:
        protocol: ``quick``: the recipe and the epochs of a clean run, no augmentation or mixing.
            ``converged``: the largest accuracy over optimisers, learning rates and seeds.
            ``selectivity``: steps to fit half of the noise, by those for real data.
        family: of noise, with the data set where it is one; of several, with their shares.
        accuracy: on the noise set that was trained on, in eval mode: after the last epoch
            (``quick``), or as `accuracy_largest`. NaN where every run diverged.
        accuracy_largest: the largest of that figure over all epochs and all runs. With
            ``selectivity`` a run ends at the accuracy that is asked for.
        chance: what the best constant answer gets on the set: the largest class's share.
        samples: N.
        epochs: passes over the noise set, at most.
        seed: of the noise set; with ``quick`` also of the initial weights and of the order.
        fingerprint: of the noise set.
        seconds: wall time of all runs; no part of equality.
        runs: every training, those of the controls after the network's; empty with ``quick``.
        controls: the largest accuracy of each positive control on the same set.
        steps: with ``selectivity``, the fewest steps on noise and on real data; None where no run
            got there.
        selectivity: the first of them by the second, or the bound that it exceeds.
        is_bound: no run on noise got there, so the true figure is larger.
        curve: the accuracy after each epoch, with ``quick``.
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

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the runs, ascending."""
        return tuple(sorted({run.seed for run in self.runs}))

    @property
    def diverged(self) -> tuple[NoiseRun, ...]:
        """The runs that are no evidence."""
        return tuple(run for run in self.runs if run.diverged)

    @property
    def control_reached(self) -> bool | None:
        """Whether a control reached 99 %; None where there was none."""
        if not self.controls:
            return None
        return any(value >= CONTROL_ACCURACY for value in self.controls.values())

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
        """For a card; what follows from the fields stands beside them. No NaN."""
        record = asdict(self)
        for key in ("accuracy", "accuracy_largest"):
            record[key] = record[key] if math.isfinite(record[key]) else None
        return {
            **record,
            "seeds": list(self.seeds),
            "diverged": len(self.diverged),
            "control_reached": self.control_reached,
            "shown_selectivity": self.shown_selectivity,
        }


def run_key(network: str, data: str, optimiser: str, learning_rate: float, seed: int) -> str:
    """What tells a run from the others of its measurement.

    >>> run_key("network", "noise", "sgd", 0.1, 0)
    'network/noise/sgd/0.1/0'
    """
    return f"{network}/{data}/{optimiser}/{float(learning_rate)!r}/{seed}"


def largest_accuracy(runs: Iterable[NoiseRun]) -> float:
    """Over all runs that have one. What a run reached before it diverged was fitted and counts.

    NaN where every run diverged: what they reached says nothing of what could have been fitted.
    """
    runs = tuple(runs)
    if all(run.diverged for run in runs):
        return math.nan
    return max(run.accuracy for run in runs if run.accuracy is not None)
