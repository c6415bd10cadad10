"""How many random labels a network can fit: its capacity, found by bisection [1].

For each number of images N, new networks are trained on N images with random labels, with several
optimisers, learning rates and initial scales. The largest accuracy counts, as in the protocol
``converged``.

References:
    [1] Arpit et al., A closer look at memorization in deep networks, ICML 2017, arXiv:1706.05394.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from matplotlib.figure import Figure

from darts_noise.data.seeds import Stream, derive_seed
from darts_noise.errors import SettingError
from darts_noise.examine.section import Pieces, Section, Subject, register_section
from darts_noise.noise.families import make_noise, require_noise
from darts_noise.report.card import percent
from darts_noise.report.lines import draw_lines
from darts_noise.report.page import Table
from darts_noise.train.loop import Recipe
from darts_noise.train.settings import MUON_RATES, GridPoint, NoiseGrid


@dataclass(frozen=True)
class Trial:
    """The trainings on one number of images.

    Attributes:
        images: number of images N.
        accuracies: for each random labelling, the largest accuracy of its trainings.
        is_fitted: whether at least half of the labellings are fitted.
    """

    images: int
    accuracies: tuple[float, ...]
    is_fitted: bool


@dataclass(frozen=True)
class Capacity:
    """The capacity of a network.

    Attributes:
        family: the noise family.
        target: accuracy at which a labelling is fitted.
        trials: the numbers of images that were tried, ascending.
        fitted: the largest number of images that is fitted. None: none is.
        not_fitted: the smallest number of images that is not fitted. None: all are.
    """

    family: str
    target: float
    trials: tuple[Trial, ...]
    fitted: int | None
    not_fitted: int | None

    @property
    def images(self) -> float | None:
        """The geometric mean of both numbers, or None if there is only a bound."""
        if self.fitted is None or self.not_fitted is None:
            return None
        return math.sqrt(self.fitted * self.not_fitted)


def bisect(
    is_fitted: Callable[[int], bool], least: int, most: int, precision: float
) -> tuple[int | None, int | None]:
    """Return the largest number that is fitted, and the smallest that is not; None: there is none.

    Args:
        is_fitted: whether a number is fitted. It should be True up to some number, then False.
        least: the smallest number to try.
        most: the largest number to try.
        precision: stop when the two numbers differ by at most this share.

    >>> bisect(lambda n: n <= 77, 10, 1000, 0.1)
    (75, 81)
    >>> bisect(lambda n: True, 10, 1000, 0.1), bisect(lambda n: False, 10, 1000, 0.1)
    ((1000, None), (None, 10))
    """
    if is_fitted(most):
        return most, None
    if least >= most or not is_fitted(least):
        return None, least
    while most - least > 1 and most > least * (1 + precision):
        middle = min(max(round(math.sqrt(least * most)), least + 1), most - 1)
        if is_fitted(middle):
            least = middle
        else:
            most = middle
    return least, most


@register_section("capacity")
class CapacitySection(Section[Capacity]):
    """Find the number of images whose random labels can just be fitted.

    Args:
        share: how many labels must be fitted, from a guess (0) to all labels (1). 0.5 is the
            accuracy half-way between 1 / classes and 1.
        labellings: random labellings of each number of images. Half of them must be fitted.
        least: the smallest number of images to try.
        most: the largest number of images to try, at most the images that the settings allow.
        precision: stop when the answer is known to this share.
        family: the noise, such as random_labels or uniform.
        adam_rates: learning rates of Adam.
        muon_rates: learning rates of Muon.
        sgd_rates: learning rates of SGD.
        scales: factors on the initial weights.
    """

    title = "Capacity"
    question = "Of how many images can the network fit random labels?"
    sources = (
        "Arpit et al., A closer look at memorization in deep networks, ICML 2017, arXiv:1706.05394",
    )
    result = Capacity

    def __init__(
        self,
        share: float = 0.5,
        labellings: int = 1,
        least: int = 20,
        most: int | None = None,
        precision: float = 0.25,
        family: str = "random_labels",
        adam_rates: tuple[float, ...] = (3e-3, 1e-2),
        muon_rates: tuple[float, ...] = MUON_RATES,
        sgd_rates: tuple[float, ...] = (),
        scales: tuple[float, ...] = (1.0, 4.0),
    ) -> None:
        if not 0 < share <= 1:
            raise SettingError("share", f"expected more than 0 and at most 1, got {share}")
        for key, value in (("labellings", labellings), ("least", least), ("most", most)):
            if value is not None and value < 1:
                raise SettingError(key, f"expected 1 or more, got {value}")
        if not precision > 0:
            raise SettingError("precision", f"expected more than 0, got {precision}")
        require_noise(family)
        self.share, self.labellings, self.family = share, labellings, family
        self.least, self.most, self.precision = least, most, precision
        rates = (tuple(sgd_rates), tuple(adam_rates))
        self.grid = NoiseGrid(*rates, 1, scales=tuple(scales), muon_rates=tuple(muon_rates))

    def steps(self, subject: Subject) -> float:
        total = 0.0
        most = self._most(subject)

        def count(images: int) -> bool:  # the largest cost: only the most images are not fitted
            nonlocal total
            total += self.labellings * len(self.grid) * subject.steps(images)
            return images < most

        bisect(count, min(self.least, most), most, self.precision)
        return total * 4 / 3  # each epoch ends with a reading

    def measure(self, subject: Subject, pieces: Pieces) -> Capacity:
        guess = 1 / subject.train.num_classes
        target = guess + self.share * (1 - guess)
        trials: list[Trial] = []
        points = list(self.grid)

        def fitted(images: int) -> bool:
            make = partial(self._trial, subject, images, target, points)
            trials.append(pieces(f"{images} images", Trial, make))
            return trials[-1].is_fitted

        most = self._most(subject)
        found = bisect(fitted, min(self.least, most), most, self.precision)
        ordered = tuple(sorted(trials, key=lambda trial: trial.images))
        return Capacity(self.family, target, ordered, *found)

    def _most(self, subject: Subject) -> int:
        return min(self.most or len(subject.train), len(subject.train))

    def _trial(
        self, subject: Subject, images: int, target: float, points: list[GridPoint]
    ) -> Trial:
        """Train on each labelling until one point of the grid fits it."""
        accuracies = []
        for number in range(self.labellings):
            seed = derive_seed(subject.config.seed, Stream.EXAMINATION, number)
            noise = make_noise(self.family, images, subject.train, seed, subject.root)
            best = 0.0
            for point in list(points):
                recipe = Recipe(
                    point.optimiser,
                    point.learning_rate,
                    subject.config.epochs,
                    point.initial_scale,
                    gradient_clip=self.grid.gradient_clip,
                )
                run = subject.fit(noise, target=target, recipe=recipe, seed=number)
                best = max(best, run.accuracy or 0.0)
                if best >= target:
                    points.remove(point)
                    points.insert(0, point)  # what fitted these labels comes first for the next
                    break
            accuracies.append(best)
        fitted = sum(accuracy >= target for accuracy in accuracies)
        return Trial(images, tuple(accuracies), 2 * fitted >= len(accuracies))

    def sentence(self, result: Capacity) -> str:
        what, share = result.family.replace("_", " "), f"{100 * result.target:.0f}%"
        if result.not_fitted is None:
            return (
                f"The network fits {what} of {result.fitted:,} images to {share}, the most that "
                "were tried: its capacity is larger."
            )
        if result.images is None:
            return f"The network fits {what} of {result.not_fitted:,} images to less than {share}."
        return (
            f"The network fits {what} of about {result.images:,.0f} images to {share}: of "
            f"{result.fitted:,}, but not of {result.not_fitted:,}."
        )

    def figures(self, result: Capacity) -> Mapping[str, Figure]:
        points = [(t.images, fmean(t.accuracies)) for t in result.trials]
        ends = (points[0][0], points[-1][0])
        lines = {
            "largest accuracy": points,
            "fitted": [(end, result.target) for end in dict.fromkeys(ends)],
        }
        return {
            "Largest accuracy on images with random labels, by the number of images.": draw_lines(
                lines, "images", "accuracy", points=True, log_across=True, accuracy=True
            )
        }

    def tables(self, result: Capacity) -> Sequence[Table]:
        rows = [
            (
                f"{trial.images:,}",
                ", ".join(map(percent, trial.accuracies)),
                "yes" if trial.is_fitted else "no",
            )
            for trial in result.trials
        ]
        head = ("Images", "Largest accuracy of each labelling", "Fitted")
        return [Table("The numbers of images that were tried", head, rows, numbers=True)]
