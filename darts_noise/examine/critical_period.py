"""Critical periods: what a network cannot make up for that it has not seen in its first epochs.

A network trains for some epochs on images with a deficit, such as blur, and then on the real
images. If its final accuracy on real test images stays lower, however long the rest of the training
is, then the deficit fell into a critical period [1]. The learning rate is constant, so that a late
epoch counts as much as an early one.

Reference:
    [1] Achille, Rovere and Soatto, Critical learning periods in deep networks, ICLR 2019,
        arXiv:1711.08856, section 2.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from torch import nn

from darts_noise.configured import require_at_least
from darts_noise.data.batches import Batch, BatchStream
from darts_noise.data.images import LabelledImages
from darts_noise.data.seeds import drawing
from darts_noise.errors import SettingError, counted
from darts_noise.examine.section import Pieces, Section, Subject, diverged, register_section
from darts_noise.noise.families import make_noise, require_noise
from darts_noise.reading import read, whole_set
from darts_noise.report.card import percent
from darts_noise.report.lines import draw_lines
from darts_noise.report.page import Table
from darts_noise.train.loop import Recipe, train_from_scratch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

DEFICITS = ("blur", "vertical_flip", "label_permutation", "uniform")
"""The deficits of [1] as noise families. `uniform` takes away what is seen altogether."""
NO_DEFICIT = "no deficit"
LEARNT = 0.1
"""How far the baseline must be above the best constant answer."""


class DeficitStream(BatchStream):
    """The batches of a training in which the images have a deficit in some epochs.

    Args:
        clean: the batches of the real images.
        deficit: as many images with the deficit, of the same shape.
        epochs: the epochs whose batches have the deficit, counted from 0.

    Raises:
        ValueError: the numbers of images differ.
    """

    def __init__(self, clean: BatchStream, deficit: LabelledImages, epochs: range) -> None:
        if len(deficit) != len(clean.data):
            raise ValueError(
                f"deficit: expected as many images as the {len(clean.data)} real ones, got "
                f"{len(deficit)}"
            )
        super().__init__(
            deficit,
            clean.batch_size,
            clean.normalisation,
            seed=clean.seed,
            augmentation=clean.augmentation,
            crop_pct=clean.crop_pct,
            shuffle=clean.shuffle,
            drop_last=clean.drop_last,
            device=clean.device,
        )
        self.clean, self.epochs = clean, epochs

    def batch(self, k: int) -> Batch:
        """Return batch `k`, with the deficit in its epochs; see `BatchStream.batch`."""
        if k // self.batches_per_epoch in self.epochs:
            return super().batch(k)
        return self.clean.batch(k)


def accuracy_after_deficit(
    make: Callable[[], nn.Module],
    clean: BatchStream,
    deficit: LabelledImages,
    epochs: range,
    test: LabelledImages,
    recipe: Recipe,
    fabric: "Fabric",
    *,
    seed: int = 0,
) -> float:
    """Return the accuracy on real test images after a training with a temporary deficit.

    With an empty range this is a training without a deficit, and with all epochs of the recipe it
    is a training on the images with the deficit alone, each bit for bit.

    Args:
        make: returns a new module; see `train_from_scratch`.
        clean: the batches of the real training images.
        deficit: as many images with a deficit; see `darts_noise.make_noise`.
        epochs: the epochs with the deficit, counted from 0.
        test: the real test images.
        recipe: optimiser, rate and the length of the whole training. Its learning rate is constant.
        fabric: device and precision.
        seed: seed of the initial weights and of dropout.

    Returns:
        From 0 to 1; NaN if the training diverged.
    """
    stream = DeficitStream(clean, deficit, epochs)
    constant = replace(recipe, final_rate=recipe.learning_rate)
    training = train_from_scratch(make, stream, constant, fabric, seed=seed)
    if training.diverged:
        return math.nan
    return read(training.net, whole_set(test, clean.normalisation, fabric.device)).accuracy


@dataclass(frozen=True)
class DeficitRun:
    """A training with a deficit in the epochs from `start` to before `stop`.

    Attributes:
        deficit: the noise family.
        start: first epoch with the deficit, counted from 0.
        stop: first epoch after the deficit.
        accuracy: accuracy on real test images at the end, from 0 to 1; NaN if it diverged.
    """

    deficit: str
    start: int
    stop: int
    accuracy: float


@dataclass(frozen=True)
class Depth:
    """The trainings of a network with another number of cells.

    Attributes:
        cells: number of cells.
        accuracies: accuracy on real test images at the end, from 0 to 1, with `NO_DEFICIT` and
            after each deficit in the first epochs.
    """

    cells: int
    accuracies: Mapping[str, float]


@dataclass(frozen=True)
class CriticalPeriod:
    """The trainings of `CriticalPeriodSection`.

    Attributes:
        epochs: clean epochs after each deficit.
        window: epochs of a deficit that begins late.
        chance: accuracy of the best constant answer on the test images, from 0 to 1.
        baseline: accuracy on the test images after `epochs` clean epochs, from 0 to 1.
        floors: each deficit with the accuracy if all of `epochs` have it.
        early: trainings with the deficit in the first epochs.
        late: trainings with the deficit in a window that begins at epoch 0 or later.
        by_depth: networks of other depths. The deficits last for the longest of `early`.
    """

    epochs: int
    window: int
    chance: float
    baseline: float
    floors: Mapping[str, float]
    early: tuple[DeficitRun, ...]
    late: tuple[DeficitRun, ...]
    by_depth: tuple[Depth, ...] = ()


@register_section("critical_period")
class CriticalPeriodSection(Section[CriticalPeriod]):
    """Train with a deficit in the first epochs or in a later window, then on the real images.

    After the deficit, every network gets the same number of clean epochs.

    Args:
        deficits: noise families.
        lengths: numbers of epochs with the deficit from the start.
        starts: epochs at which a window with the deficit begins.
        window: epochs of that window.
        epochs: clean epochs after the deficit.
        seeds: trainings of each kind. Their accuracies are averaged.
        depths: numbers of cells. A network of each depth trains without a deficit, and with each
            deficit in the first epochs, as many as the largest of `lengths`.
    """

    title = "Critical period"
    question = "Can the network make up for a deficit of the images in its first epochs?"
    sources = (
        "Achille, Rovere and Soatto, Critical learning periods in deep networks, ICLR 2019, "
        "arXiv:1711.08856",
    )
    result = CriticalPeriod

    def __init__(
        self,
        deficits: tuple[str, ...] = DEFICITS,
        lengths: tuple[int, ...] = (2, 5, 10, 20),
        starts: tuple[int, ...] = (0, 5, 10, 20),
        window: int = 5,
        epochs: int = 30,
        seeds: int = 1,
        depths: tuple[int, ...] = (),
    ) -> None:
        for deficit in deficits:
            require_noise(deficit)
        require_at_least(1, window=window, epochs=epochs, seeds=seeds, deficits=len(deficits))
        require_at_least(1, lengths=min(lengths, default=0))
        require_at_least(0, starts=min(starts, default=-1))
        require_at_least(1, depths=min(depths, default=1))
        self.deficits = tuple(dict.fromkeys(deficits))
        self.lengths, self.starts = sorted(set(lengths)), sorted(set(starts))
        self.window, self.epochs, self.seeds = window, epochs, seeds
        self.depths = sorted(set(depths))

    def _ranges(self) -> tuple[list[range], list[range]]:
        """Return the epochs with the deficit: from the start, and in later windows."""
        late = [range(start, start + self.window) for start in self.starts]
        return [range(length) for length in self.lengths], late

    def steps(self, subject: Subject) -> float:
        early, late = self._ranges()
        unlike = {(each.start, each.stop) for each in early + late}
        each = self.epochs + sum(stop + self.epochs for _, stop in unlike)
        epochs: float = self.epochs + len(self.deficits) * each
        deep = self.epochs + len(self.deficits) * (self.lengths[-1] + self.epochs)
        with drawing(subject.config.seed):
            size = len(list(subject.make().modules()))
            makes = self._makes_by_depth(subject).values()
            epochs += deep * sum(len(list(make().modules())) for make in makes) / size
        return self.seeds * subject.steps(len(subject.train), epochs)

    def _makes_by_depth(self, subject: Subject) -> dict[int, Callable[[], nn.Module]]:
        """Return what makes the network of each depth."""
        make = subject.make_with_cells
        if not self.depths:
            return {}
        if make is None:
            problem = "expected a network of cells, whose number of cells can be changed"
            raise SettingError("depths", problem)
        return {cells: partial(make, cells) for cells in self.depths}

    def measure(self, subject: Subject, pieces: Pieces) -> CriticalPeriod:
        config, data = subject.config, subject.train

        def accuracy(
            deficit: LabelledImages,
            epochs: range,
            total: int,
            make: Callable[[], nn.Module] = subject.make,
        ) -> float:
            recipe = replace(subject.recipe, epochs=total)
            reached = fmean(
                accuracy_after_deficit(
                    make,
                    subject.stream(data, seed),
                    deficit,
                    epochs,
                    subject.test,
                    recipe,
                    subject.fabric,
                    seed=seed,
                )
                for seed in range(config.seed, config.seed + self.seeds)
            )
            if math.isnan(reached):
                raise diverged(recipe)
            return reached

        def run(deficit: str, epochs: range) -> DeficitRun:
            name = f"{deficit} in epochs {epochs.start} to {epochs.stop - 1}"
            total = epochs.stop + self.epochs
            reached = pieces(name, float, lambda: accuracy(made[deficit], epochs, total))
            return DeficitRun(deficit, epochs.start, epochs.stop, reached)

        def of_depth(cells: int, make: Callable[[], nn.Module]) -> Depth:
            length, found = self.lengths[-1], {}
            for name, each in {NO_DEFICIT: data, **made}.items():
                epochs = range(length if name in made else 0)
                train = partial(accuracy, each, epochs, epochs.stop + self.epochs, make)
                found[name] = pieces(f"{counted(cells, 'cell')}, {name}", float, train)
            return Depth(cells, found)

        makes = self._makes_by_depth(subject)
        made = {
            name: make_noise(name, len(data), data, config.seed, subject.root)
            for name in self.deficits
        }
        early, late = self._ranges()
        return CriticalPeriod(
            self.epochs,
            self.window,
            subject.test.chance,
            pieces(NO_DEFICIT, float, lambda: accuracy(data, range(0), self.epochs)),
            {
                name: pieces(
                    f"{name} in all epochs",
                    float,
                    partial(accuracy, each, range(self.epochs), self.epochs),
                )
                for name, each in made.items()
            },
            tuple(run(deficit, epochs) for deficit in self.deficits for epochs in early),
            tuple(run(deficit, epochs) for deficit in self.deficits for epochs in late),
            tuple(of_depth(cells, make) for cells, make in makes.items()),
        )

    def sentence(self, result: CriticalPeriod) -> str:
        if result.baseline < result.chance + LEARNT:
            return (
                f"The network reaches only {percent(result.baseline)} in {result.epochs} epochs "
                f"without a deficit, so deficits say nothing; give it more with "
                "--set critical_period.epochs=100."
            )
        worst = min(result.early, key=lambda run: run.accuracy)
        return (
            f"Without a deficit the network reaches {percent(result.baseline)}. The first "
            f"{worst.stop} epochs with {worst.deficit} cost most: {percent(worst.accuracy)} after "
            f"{result.epochs} more clean epochs, and {percent(result.floors[worst.deficit])} "
            "without any clean epoch."
        )

    def figures(self, result: CriticalPeriod) -> Mapping[str, Figure]:
        early = {name: [(0, 100 * result.baseline)] for name in result.floors}
        late = {name: list[tuple[int, float]]() for name in result.floors}
        for run in result.early:
            early[run.deficit].append((run.stop, 100 * run.accuracy))
        for run in result.late:
            late[run.deficit].append((run.start, 100 * run.accuracy))
        then = f"then {result.epochs} clean epochs"
        up = "test accuracy (%)"
        drawn = {
            f"A deficit in the first epochs, {then}. At 0 there is no deficit.": draw_lines(
                early, "epochs with the deficit", up, points=True
            ),
            f"A deficit in a window of {result.window} epochs, {then}.": draw_lines(
                late, "first epoch with the deficit", up, points=True
            ),
        }
        if result.by_depth:
            lines = {
                name: [(one.cells, 100 * one.accuracies[name]) for one in result.by_depth]
                for name in result.by_depth[0].accuracies
            }
            drawn[f"{self._by_depth(result)}."] = draw_lines(lines, "cells", up, points=True)
        return drawn

    @staticmethod
    def _by_depth(result: CriticalPeriod) -> str:
        longest = max(run.stop for run in result.early)
        return (
            f"Networks of other depths: a deficit in the first {longest} epochs, then "
            f"{result.epochs} clean epochs"
        )

    def tables(self, result: CriticalPeriod) -> Sequence[Table]:
        rows = [
            ("none", "none", percent(result.baseline)),
            *(
                (run.deficit, f"{run.start} to {run.stop - 1}", percent(run.accuracy))
                for run in (*result.early, *result.late)
            ),
            *((name, "all", percent(floor)) for name, floor in result.floors.items()),
        ]
        head = ("Deficit", "Epochs with the deficit", "Test accuracy")
        caption = f"Test accuracy after {result.epochs} clean epochs; none where all have a deficit"
        made = [Table(caption, head, list(dict.fromkeys(rows)), numbers=True)]
        if result.by_depth:
            deep = [
                (str(one.cells), *map(percent, one.accuracies.values())) for one in result.by_depth
            ]
            columns = ("Cells", *result.by_depth[0].accuracies)
            made.append(Table(self._by_depth(result), columns, deep, numbers=True))
        return made
