"""Find planted wrong labels, by what a network does with them while it is trained.

A share of the labels is replaced. Each method gives every image a score, the larger the more
suspicious:

- ``loss``: the cross-entropy after the training.
- ``margin``: minus the area under the margin [1], the mean over the epochs of the logit of the
  label minus the largest other logit.
- ``self-influence``: the influence of the image on itself (TracIn, see `influence`).
- ``confident learning`` [2]: one minus the probability of the label by a network that was trained
  without the image. This method also says which labels are wrong.

References:
    [1] Pleiss, Zhang, Elenberg and Weinberger, Identifying mislabeled data using the area under the
        margin ranking, NeurIPS 2020, arXiv:2001.10528.
    [2] Northcutt, Jiang and Chuang, Confident learning: estimating uncertainty in dataset labels,
        JAIR 2021, arXiv:1911.00068.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from darts_noise.attacks.gradient import margins
from darts_noise.configured import require_at_least
from darts_noise.data.images import LabelledImages
from darts_noise.data.seeds import Stream, generator
from darts_noise.data.settings import WRONG_LABELS
from darts_noise.data.wrong_labels import with_wrong_labels
from darts_noise.errors import SettingError, unknown
from darts_noise.examine.influence import CHUNK, GRADIENT_STEPS, self_influence, trace
from darts_noise.examine.section import Pieces, Section, Subject, register_section
from darts_noise.report.card import percent
from darts_noise.report.lines import draw_lines
from darts_noise.report.page import Table

CHECKPOINTS = 3
"""Checkpoints of the self-influence."""
CONFIDENT = "confident learning"
METHODS = {
    "loss": "the loss after the training",
    "margin": "the margin over the training",
    "self-influence": "the self-influence",
    CONFIDENT: CONFIDENT,
}
"""The methods, each with its name in a sentence."""
TIE = 1e-6
"""A probability that is smaller than a threshold only by this counts as equal."""


@dataclass(frozen=True)
class Found:
    """How well a method found the wrong labels.

    Attributes:
        method: one of `METHODS`.
        kind: ``symmetric`` or ``pairwise``.
        share: share of the labels that were replaced.
        flagged: number of images that count as found: as many as were replaced, with the largest
            scores; for confident learning those that it names.
        precision: share of the flagged images whose label was replaced. 0 if none is flagged.
        recall: share of the replaced labels that are flagged.
        average_precision: precision, averaged over all numbers of flagged images.
    """

    method: str
    kind: str
    share: float
    flagged: int
    precision: float
    recall: float
    average_precision: float


@dataclass(frozen=True)
class WrongLabels:
    """The methods compared.

    Attributes:
        samples: number of images.
        found: each method on each planted set.
    """

    samples: int
    found: tuple[Found, ...]

    def best(self) -> tuple[str, float]:
        """Return the method with the largest mean average precision, and this figure."""
        means = {}
        for method in METHODS:
            values = [one.average_precision for one in self.found if one.method == method]
            means[method] = sum(values) / len(values)
        best = max(means, key=means.__getitem__)
        return best, means[best]


def confident_errors(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return which labels confident learning calls wrong, bool (N,) [2].

    A class is confident for an image if its probability reaches the mean probability of that class
    over the images that are labelled with it. An image without a confident class keeps its label.
    The guess is the confident class or, as in cleanlab, if there are several, the most probable of
    all classes. A label is wrong if it is neither the guess nor the most probable class.

    Args:
        probabilities: (N, classes), by networks that were not trained on the image.
        labels: (N,), int64.
    """
    classes = probabilities.shape[1]
    of_class = F.one_hot(labels, classes).to(probabilities)  # (N, classes)
    counts = of_class.sum(0)
    thresholds = (probabilities * of_class).sum(0) / counts.clamp_min(1)
    thresholds[counts == 0] = torch.inf
    confident = probabilities >= thresholds - TIE
    most = probabilities.argmax(1)
    guess = torch.where(confident.sum(1) > 1, most, confident.int().argmax(1))
    return confident.any(1) & (guess != labels) & (most != labels)


def held_out_probabilities(
    subject: Subject, data: LabelledImages, epochs: int, folds: int
) -> Tensor:
    """Return the probabilities (N, classes) of each image by a network trained on other folds."""
    random = generator(subject.config.seed, Stream.FOLDS)
    order = torch.randperm(len(data), generator=random)
    probabilities = torch.zeros(len(data), data.num_classes)
    for fold in range(folds):
        held_out = order[fold::folds]
        rest = data.subset(order[torch.arange(len(data)) % folds != fold])
        seed = folds * subject.config.seed + fold
        training = subject.trained(rest, recipe=replace(subject.recipe, epochs=epochs), seed=seed)
        subject.settle(training.net, rest)
        probabilities[held_out] = subject.logits(training.net, data.subset(held_out)).softmax(1)
    return probabilities


def scores(
    subject: Subject, data: LabelledImages, epochs: int, folds: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the scores of each method, (N,), and what confident learning calls wrong, bool (N,).

    Args:
        subject: the network and the settings.
        data: the images with their labels, of which some are wrong.
        epochs: passes over the images in each training.
        folds: number of networks that are trained on the other images.
    """
    labels = data.labels.cpu()
    areas: list[Tensor] = []

    def watch(net: nn.Module) -> None:
        subject.settle(net, data)
        areas.append(margins(subject.logits(net, data), labels))

    traced = trace(subject, data, epochs, CHECKPOINTS, watch)
    losses = F.cross_entropy(subject.logits(traced.net, data), labels, reduction="none")
    stream = subject.in_order(data, CHUNK)
    (own,) = traced.sum(lambda net: (self_influence(net, stream),))
    probabilities = held_out_probabilities(subject, data, epochs, folds)
    found = {
        "loss": losses,
        "margin": -torch.stack(areas).mean(0),
        "self-influence": own,
        CONFIDENT: 1 - probabilities.gather(1, labels[:, None])[:, 0],
    }
    return found, confident_errors(probabilities, labels)


def judged(
    method: str, kind: str, share: float, score: Tensor, flagged: Tensor, wrong: Tensor
) -> Found:
    """Return how well a method found the wrong labels; see `Found`."""
    from sklearn.metrics import average_precision_score  # the import takes a second

    hits = int((flagged & wrong).sum())
    return Found(
        method,
        kind,
        share,
        int(flagged.sum()),
        hits / max(1, int(flagged.sum())),
        hits / int(wrong.sum()),
        float(average_precision_score(wrong.numpy(), score.numpy())),
    )


@dataclass(frozen=True)
class _Case:
    """One planted set, as a finished piece."""

    found: tuple[Found, ...]


@register_section("wrong_labels")
class WrongLabelsSection(Section[WrongLabels]):
    """Plant wrong labels and find them.

    Args:
        shares: shares of the labels that are replaced.
        kinds: symmetric (any other class) and pairwise (the next class).
        epochs: passes over the images in each training.
        folds: number of networks of confident learning, each trained on the other images.
    """

    title = "Wrong labels"
    question = "Does the training of the network show which labels are wrong?"
    sources = (
        "Pleiss et al., Identifying mislabeled data using the area under the margin ranking, "
        "NeurIPS 2020, arXiv:2001.10528",
        "Northcutt et al., Confident learning, JAIR 2021, arXiv:1911.00068",
    )
    result = WrongLabels

    def __init__(
        self,
        shares: tuple[float, ...] = (0.1, 0.2, 0.4),
        kinds: tuple[str, ...] = WRONG_LABELS,
        epochs: int = 20,
        folds: int = 3,
    ) -> None:
        for share in shares:
            if not 0 < share < 1:
                raise SettingError("shares", f"expected more than 0 and less than 1, got {share}")
        for kind in kinds:
            if kind not in WRONG_LABELS:
                raise SettingError(
                    "kinds", unknown("kind of wrong labels", str(kind), WRONG_LABELS)
                )
        if not shares or not kinds:
            raise SettingError("shares, kinds", "expected one or more of each")
        if epochs <= CHECKPOINTS:
            raise SettingError("epochs", f"expected more than {CHECKPOINTS}, got {epochs}")
        require_at_least(2, folds=folds)
        self.shares, self.kinds = tuple(sorted({*shares})), tuple(dict.fromkeys(kinds))
        self.epochs, self.folds = epochs, folds

    def steps(self, subject: Subject) -> float:
        trainings = 4 / 3 + self.folds - 1  # the first is read after each epoch
        gradients = GRADIENT_STEPS * CHECKPOINTS / self.epochs
        each = (trainings + gradients) * subject.steps(len(subject.train), self.epochs)
        return len(self.shares) * len(self.kinds) * each

    def measure(self, subject: Subject, pieces: Pieces) -> WrongLabels:
        found: list[Found] = []
        for kind in self.kinds:
            for share in self.shares:
                case = partial(self._case, subject, kind, share)
                found += pieces(f"{100 * share:g}% {kind}", _Case, case).found
        return WrongLabels(len(subject.train), tuple(found))

    def _case(self, subject: Subject, kind: str, share: float) -> _Case:
        data = with_wrong_labels(subject.train, share, kind, subject.config.seed)
        wrong = (data.labels != subject.train.labels).cpu()
        if not wrong.any():
            raise ValueError(f"{share:g} of {len(data)} labels is less than one")
        every, errors = scores(subject, data, self.epochs, self.folds)
        found = []
        for method, score in every.items():
            largest = torch.zeros_like(wrong)
            largest[score.argsort(descending=True, stable=True)[: int(wrong.sum())]] = True
            flagged = errors if method == CONFIDENT else largest
            found.append(judged(method, kind, share, score, flagged, wrong))
        return _Case(tuple(found))

    def sentence(self, result: WrongLabels) -> str:
        method, precision = result.best()
        return (
            f"The wrong labels are found best by {METHODS[method]}: the average precision is "
            f"{percent(precision)}, averaged over the planted sets."
        )

    def figures(self, result: WrongLabels) -> Mapping[str, Figure]:
        return {
            f"Average precision of each method, {kind} wrong labels.": draw_lines(
                {
                    method: [
                        (100 * one.share, one.average_precision)
                        for one in result.found
                        if (one.method, one.kind) == (method, kind)
                    ]
                    for method in METHODS
                },
                "wrong labels (%)",
                "average precision",
                points=True,
                accuracy=True,
            )
            for kind in dict.fromkeys(one.kind for one in result.found)
        }

    def tables(self, result: WrongLabels) -> Sequence[Table]:
        rows = [
            (
                f"{100 * one.share:g}% {one.kind}, {one.method}",
                str(one.flagged),
                percent(one.precision),
                percent(one.recall),
                percent(one.average_precision),
            )
            for one in result.found
        ]
        head = ("Wrong labels, method", "Flagged", "Precision", "Recall", "Average precision")
        return [
            Table(
                f"Wrong labels among {result.samples:,}. Confident learning decides itself how "
                "many labels it flags; the other methods flag as many as are wrong.",
                head,
                rows,
                numbers=True,
            )
        ]
