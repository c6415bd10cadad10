"""How long a network takes to fit true labels, random labels and images without structure.

Each set is fitted by the same training from the same initial weights [1]. Partly random labels lie
between the true and the random ones.

References:
    [1] Zhang, Bengio, Hardt, Recht and Vinyals, Understanding deep learning requires rethinking
        generalization, ICLR 2017, arXiv:1611.03530, section 2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from darts_noise.data.images import LabelledImages
from darts_noise.data.wrong_labels import with_random_labels
from darts_noise.errors import SettingError
from darts_noise.examine.section import Pieces, Section, Subject, register_section
from darts_noise.noise.families import make_noise
from darts_noise.report.card import percent
from darts_noise.report.lines import draw_lines
from darts_noise.report.page import Table
from darts_noise.train.loop import each_epoch, each_tenth

TRUE, RANDOM = "true labels", "random labels"
WITHOUT_STRUCTURE = {
    "shuffled pixels": "shuffled_pixels:own",
    "pixels shuffled per image": "random_pixels:own",
    "Gaussian noise": "gaussian",
}
"""Name of a set → its noise family. Shuffled images keep their labels, as in [1]."""
READINGS = 4 / 3
"""Time of a training with its readings, divided by the time of its steps."""


@dataclass(frozen=True)
class Fitted:
    """A training on one set.

    Attributes:
        name: name of the set.
        random_share: share of the labels that are random, or None if the images are not the real
            ones.
        accuracies: largest accuracy on the set so far, after each epoch.
        steps: steps of the optimiser until the set was fitted. None: it was not fitted.
        diverged: whether the loss became NaN or infinite.
    """

    name: str
    random_share: float | None
    accuracies: tuple[float, ...]
    steps: int | None
    diverged: bool


@dataclass(frozen=True)
class TimeToFit:
    """The trainings of `time_to_fit`.

    Attributes:
        target: accuracy at which a set is fitted.
        samples: images in each set.
        per_epoch: steps of an epoch.
        epochs: largest number of epochs.
        fits: the trainings. The first is on the true labels.
    """

    target: float
    samples: int
    per_epoch: int
    epochs: int
    fits: tuple[Fitted, ...]

    def __getitem__(self, name: str) -> Fitted:
        return next(fit for fit in self.fits if fit.name == name)

    def epochs_of(self, fit: Fitted) -> float | None:
        """Return the epochs that a set took, or None."""
        return None if fit.steps is None else fit.steps / self.per_epoch


def fit_set(
    subject: Subject, name: str, data: LabelledImages, share: float | None, target: float
) -> Fitted:
    """Train on a set until its accuracy reaches the target."""
    accuracies: list[float] = []
    run = subject.fit(
        data,
        target=target,
        due=lambda step, per_epoch: each_epoch(step, per_epoch) or each_tenth(step, per_epoch),
        watch=lambda epoch, accuracy: accuracies.append(accuracy),
    )
    if run.accuracy is not None and len(accuracies) < run.epochs:
        accuracies.append(run.accuracy)  # the training stopped within this epoch
    return Fitted(name, share, tuple(accuracies), run.reached, run.diverged)


@register_section("time_to_fit")
class TimeToFitSection(Section[TimeToFit]):
    """Train on the true labels and on sets that are harder to fit, and count the steps.

    Args:
        shares: shares of random labels. 0 and 1 are always there.
        target: accuracy at which a set is fitted.
    """

    title = "Time to fit"
    question = "How long does the network take to fit noise, compared with the real images?"
    sources = (
        "Zhang et al., Understanding deep learning requires rethinking generalization, ICLR 2017, "
        "arXiv:1611.03530",
    )
    result = TimeToFit

    def __init__(
        self, shares: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8), target: float = 0.99
    ) -> None:
        for share in shares:
            if not 0 <= share <= 1:
                raise SettingError("shares", f"expected 0 to 1, got {share}")
        if not 0 < target <= 1:
            raise SettingError("target", f"expected more than 0 and at most 1, got {target}")
        self.shares = tuple(sorted({0.0, *shares, 1.0}))
        self.target = target

    def steps(self, subject: Subject) -> float:
        sets = len(self.shares) + len(WITHOUT_STRUCTURE)
        return READINGS * sets * subject.steps(len(subject.train))

    def measure(self, subject: Subject, pieces: Pieces) -> TimeToFit:
        data, seed = subject.train, subject.config.seed
        sets: dict[str, tuple[LabelledImages, float | None]] = {}
        for share in self.shares:
            name = {0.0: TRUE, 1.0: RANDOM}.get(share, f"{100 * share:g}% random labels")
            sets[name] = with_random_labels(data, share, seed), share
        for name, family in WITHOUT_STRUCTURE.items():
            sets[name] = make_noise(family, len(data), data, seed), None
        fits = []
        for name, (images, known) in sets.items():
            fit = partial(fit_set, subject, name, images, known, self.target)
            fits.append(pieces(name, Fitted, fit))
        per_epoch = round(subject.steps(len(data), 1))
        return TimeToFit(self.target, len(data), per_epoch, subject.config.epochs, tuple(fits))

    def sentence(self, result: TimeToFit) -> str:
        true, random = result[TRUE], result[RANDOM]
        for fit in (true, random):
            if fit.diverged and fit.steps is None:
                return (
                    f"The training on {fit.name} diverged, so the times say nothing; try a smaller "
                    "--learning_rate."
                )
        if true.steps is None:
            return (
                f"The network does not fit the true labels within {result.epochs} epochs "
                f"({_largest(true)}), so the time to fit the other sets says nothing."
            )
        start = f"The network fits the true labels after {result.epochs_of(true):.1f} epochs"
        if random.steps is None:
            return (
                f"{start} and does not fit random labels within {result.epochs} epochs: "
                f"the largest accuracy is {_largest(random)}."
            )
        ratio = random.steps / true.steps
        return (
            f"{start} and random labels after {result.epochs_of(random):.1f} epochs: "
            f"{ratio:.1f} times as long."
        )

    def figures(self, result: TimeToFit) -> Mapping[str, Figure]:
        curves = {
            fit.name: list(enumerate(fit.accuracies, 1))
            for fit in result.fits
            if fit.random_share in (None, 0.0, 1.0)
        }
        partly = [fit for fit in result.fits if fit.random_share is not None]
        points = [
            (100 * (fit.random_share or 0.0), result.epochs_of(fit) or result.epochs)
            for fit in partly
        ]
        bounds = [p for p, fit in zip(points, partly, strict=True) if fit.steps is None]
        return {
            "Largest accuracy on each set so far. A line ends where the set is fitted.": draw_lines(
                curves,
                "epoch",
                "accuracy on the set",
                accuracy=True,
            ),
            "Epochs to fit by the share of random labels. A cross is a lower bound: the set was "
            "not fitted.": draw_lines(
                {"epochs to fit": points},
                "random labels (%)",
                "epochs to fit",
                bounds=bounds,
                points=True,
            ),
        }

    def tables(self, result: TimeToFit) -> Sequence[Table]:
        rows = []
        for fit in result.fits:
            steps = f"> {result.per_epoch * result.epochs:,}"
            epochs = f"> {result.epochs}"
            if fit.steps is not None:
                steps, epochs = f"{fit.steps:,}", f"{result.epochs_of(fit):.1f}"
            elif fit.diverged:
                steps = epochs = "diverged"
            rows.append((fit.name, steps, epochs, _largest(fit)))
        return [
            Table(
                f"Training until {percent(result.target)} of {result.samples:,} images are fitted",
                ("Set", "Steps", "Epochs", "Largest accuracy"),
                rows,
                numbers=True,
            )
        ]


def _largest(fit: Fitted) -> str:
    return percent(max(fit.accuracies)) if fit.accuracies else "none"
