"""The interface of the sections of an examination, and their registry.

A section asks one question about a network, measures the answer, and shows it. To add one, write a
class with ``@register_section`` in a new file of this folder and import the file in `sections`, or
write it in a plugin. The constructor's keyword arguments are the settings of the section:
``--set capacity.labellings=3``.
"""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor, nn

from darts_noise.atomic import write_text
from darts_noise.configured import configured, registering
from darts_noise.data.batches import BatchStream, leaves_one
from darts_noise.data.images import LabelledImages, Normalisation
from darts_noise.data.seeds import drawing
from darts_noise.errors import SettingError, unknown
from darts_noise.examine.record import as_json, from_json
from darts_noise.examine.settings import ExamineConfig
from darts_noise.reading import (
    EVALUATION_BATCH,
    evaluating,
    laid_out,
    recompute_statistics,
    whole_set,
)
from darts_noise.report.page import Table
from darts_noise.shown import readable_duration
from darts_noise.space.json_file import read_text
from darts_noise.train.loop import Due, Recipe, Training, each_epoch, train_from_scratch
from darts_noise.train.noise_record import NoiseRun
from darts_noise.train.noise_training import TrainingSet, measure_fit

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MOST_PIECES = 64 << 20
"""Largest size of a file of pieces, in bytes."""
TIMED_STEPS = 7
"""Steps whose median time is the time of a step. The first steps are slower."""

R = TypeVar("R")
T = TypeVar("T")


def diverged(recipe: Recipe) -> ValueError:
    """Return the error of a training whose loss or weights became NaN or infinite."""
    return ValueError(
        f"a training with learning rate {recipe.learning_rate:g} diverged; try a smaller one"
    )


@dataclass(frozen=True, eq=False)
class Subject:
    """The network that is examined, and the images.

    Attributes:
        make: returns a new module, normalised images (B, C, H, W) → logits (B, num_classes). It
            draws the initial weights from torch's global generator.
        train: the training images, in memory.
        test: test images, in memory.
        normalisation: normalisation of all images.
        config: the settings of the examination.
        fabric: device and precision.
        make_with_cells: returns a new network with this number of cells, and otherwise as `make`.
            None: the network is not made of cells.
        root: folder of the data sets that a noise family names.
    """

    make: Callable[[], nn.Module]
    train: LabelledImages
    test: LabelledImages
    normalisation: Normalisation
    config: ExamineConfig
    fabric: "Fabric"
    make_with_cells: Callable[[int], nn.Module] | None = None
    root: str | Path = "data"

    @property
    def recipe(self) -> Recipe:
        """How the settings train a network."""
        c = self.config
        return Recipe(c.optimiser, c.learning_rate, c.epochs)

    def steps(self, images: int, epochs: float | None = None) -> float:
        """Return the steps of a training. `epochs` None: as many epochs as the settings say."""
        batch = self.config.batch_size
        per_epoch = -(-images // batch) - leaves_one(images, batch)
        return per_epoch * (epochs or self.config.epochs)

    def fit(
        self,
        data: LabelledImages,
        *,
        target: float = 1.0,
        recipe: Recipe | None = None,
        due: Due = each_epoch,
        seed: int = 0,
        watch: Callable[[int, float], None] | None = None,
    ) -> NoiseRun:
        """Train a new network on images until it has fitted them; see `measure_fit`."""
        return measure_fit(
            self.make,
            self._set(data, target, due),
            recipe or self.recipe,
            self.fabric,
            network="network",
            seed=seed,
            base_seed=self.config.seed,
            watch=watch,
        )

    def trained(
        self,
        data: LabelledImages,
        look: Callable[[nn.Module, int, float], bool] = lambda net, step, loss: False,
        *,
        recipe: Recipe | None = None,
        due: Due = each_epoch,
        seed: int = 0,
    ) -> Training:
        """Train a new network on images; see `train_from_scratch` for `look` and `due`.

        Raises:
            ValueError: the training diverged.
        """
        stream, recipe = self.stream(data, seed), recipe or self.recipe
        training = train_from_scratch(
            self.make, stream, recipe, self.fabric, seed=seed, look=look, due=due
        )
        if training.diverged:
            raise diverged(recipe)
        return training

    def stream(self, data: LabelledImages, seed: int) -> BatchStream:
        """Return the batches of a training on images."""
        return self._set(data, 1.0, each_epoch).stream(self.fabric.device, seed)

    def in_order(self, data: LabelledImages, batch_size: int = EVALUATION_BATCH) -> BatchStream:
        """Return the batches of images in their order, on the device."""
        return BatchStream(
            data,
            batch_size,
            self.normalisation,
            shuffle=False,
            drop_last=False,
            device=self.fabric.device,
        )

    def untrained(self) -> nn.Module:
        """Return a new network with the initial weights of the seed of the settings."""
        device = self.fabric.device
        with drawing(self.config.seed, device=device):
            return self.make().to(device)

    def inputs(self, data: LabelledImages) -> Tensor:
        """Return all images in their order, normalised and on the device: (N, C, H, W)."""
        images = self.normalisation(data.images[torch.arange(len(data))])
        return images.to(self.fabric.device)

    def settle(self, net: nn.Module, data: LabelledImages) -> None:
        """Give the batch norms the statistics of images, before the network is read on them."""
        stream = whole_set(data, self.normalisation, self.fabric.device)
        recompute_statistics(net, (stream.batch(k)[0] for k in range(stream.batches_per_epoch)))

    @torch.no_grad()
    def logits(self, net: nn.Module, data: LabelledImages) -> Tensor:
        """Return the logits of images in eval mode: float32 (N, classes), on the CPU."""
        stream = self.in_order(data)
        with evaluating(net):
            batches = (stream.batch(k)[0] for k in range(stream.batches_per_epoch))
            return torch.cat([net(laid_out(images)).float().cpu() for images in batches])

    def _set(self, data: LabelledImages, target: float, due: Due) -> TrainingSet:
        return TrainingSet("set", data, self.normalisation, self.config.batch_size, target, due)

    def seconds_per_step(self) -> float:
        """Return the measured time of a training step, to say beforehand how long a section takes.

        The last images of an epoch make a smaller batch, so only one epoch of whole batches counts.
        """
        size = min(len(self.train), self.config.batch_size)
        times: list[float] = []

        def look(net: nn.Module, step: int, loss: float) -> bool:
            times.append(time.perf_counter())
            return len(times) > TIMED_STEPS

        recipe = Recipe(self.config.optimiser, self.config.learning_rate, 2 * TIMED_STEPS)
        self.trained(
            self.train.subset(range(size)), look, recipe=recipe, due=lambda step, per_epoch: True
        )
        return median(after - before for before, after in pairwise(times))


class Pieces:
    """The finished pieces of a section, such as trainings, in a file. A later call continues.

    Args:
        path: the JSON file. None: no file.
        prefix: text before each line of progress.
        console: where to show progress. None: no progress.

    Raises:
        ValueError: the file is damaged.
    """

    def __init__(
        self, path: Path | None = None, prefix: str = "", console: Console | None = None
    ) -> None:
        self.path, self.prefix, self.console = path, prefix, console
        self._kept: dict[str, Any] = {}
        if path is not None and path.is_file():
            content = json.loads(read_text(path, MOST_PIECES))
            if not isinstance(content, dict):
                raise ValueError(f"{path}: expected the pieces of an examination; delete the file")
            self._kept = content

    def __call__(self, name: str, kind: type[T], make: Callable[[], T]) -> T:
        """Return a piece: from the file, or made now and kept.

        Args:
            name: name of the piece, for the file and for the line of progress.
            kind: type of the piece, plain or a dataclass; see `from_json`.
            make: makes the piece.
        """
        if name in self._kept:
            found: T = from_json(kind, self._kept[name], name)
            return found
        started = time.perf_counter()
        made = make()
        self._kept[name] = as_json(made)
        if self.path is not None:
            write_text(self.path, json.dumps(self._kept) + "\n")
        if self.console is not None:
            took = readable_duration(time.perf_counter() - started)
            self.console.print(f"{self.prefix}{name} ({took})")
        return made


class Section(ABC, Generic[R]):
    """A question about a network, how it is measured, and how the result is shown.

    Attributes:
        title: title on the page.
        question: the question, in one sentence.
        sources: the papers.
        result: class of the result, a dataclass of plain values; see `from_json`.
    """

    title: ClassVar[str]
    question: ClassVar[str]
    sources: ClassVar[tuple[str, ...]]
    result: ClassVar[type[Any]]

    @abstractmethod
    def steps(self, subject: Subject) -> float:
        """Return about how many training steps of a whole batch the section takes at most."""

    @abstractmethod
    def measure(self, subject: Subject, pieces: Pieces) -> R:
        """Measure, and return the result.

        Raises:
            ValueError: the images or the network do not suit the section.
        """

    @abstractmethod
    def sentence(self, result: R) -> str:
        """Return what the result says, in one sentence."""

    @abstractmethod
    def figures(self, result: R) -> Mapping[str, Figure]:
        """Return the figures of the result by their captions."""

    @abstractmethod
    def tables(self, result: R) -> Sequence[Table]:
        """Return the numbers of the figures."""


S = TypeVar("S", bound=type[Section[Any]])
_SECTIONS: dict[str, type[Section[Any]]] = {}


def register_section(name: str) -> Callable[[S], S]:
    """Return a decorator that registers a section class by name.

    Raises:
        ValueError: the name is taken.
        TypeError: the decorated class is not a `Section`.
    """
    return registering("section", name, _SECTIONS, Section)


def list_sections() -> list[str]:
    """Return the names of all sections, in the order of the page."""
    return list(_SECTIONS)


def make_sections(
    only: Sequence[str], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, Section[Any]]:
    """Return the sections with these names, by name and in the order of the page.

    Args:
        only: names. Empty: all sections.
        settings: settings of single sections by name.

    Raises:
        SettingError: a section or a setting does not exist, or a value is invalid.
    """
    for name in only:
        if name not in _SECTIONS:
            raise SettingError("only", unknown("section", name, _SECTIONS))
    made = {
        name: configured("section", "sections", _SECTIONS, name, settings.get(name))
        for name in dict.fromkeys([*_SECTIONS, *settings])
    }
    return {name: section for name, section in made.items() if name in (only or made)}
