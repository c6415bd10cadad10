"""The interface of objectives, and their registry.

A search minimises

    F = L_val + λ · P + Σ weight · T

P is the noise-fit penalty. Each T is an objective: a number that is at least 0, of a supernet at
its α or of the network of one cell. To add one, write a class with ``@register_objective`` in a new
file of this folder, and import the file in ``__init__.py``. The keyword arguments of its
constructor are its settings in a config, beside its weight:

    model:
      objectives:
        adversarial: {weight: 1.0, eps: 0.1}

An objective of weight 0 is measured and not minimised: it is the control of a search with a weight.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from darts_noise.configured import Setting, configured, registering
from darts_noise.data.batches import Batch, BatchStream
from darts_noise.data.images import Normalisation
from darts_noise.errors import SettingError
from darts_noise.nets.gain import used_weights
from darts_noise.nets.network import Network
from darts_noise.reading import evaluating
from darts_noise.search.gradients import with_weights
from darts_noise.space.genotype import Genotype
from darts_noise.space.spaces import Space


@dataclass(frozen=True)
class SearchedNetworks:
    """The networks that a search chooses from.

    Attributes:
        space: the search space.
        channels: the channels of the supernet.
        image_shape: (C, H, W) of an image.
        make: (cell, channels) → its network with new weights.
    """

    space: Space
    channels: int
    image_shape: tuple[int, int, int]
    make: Callable[[Genotype, int], Network]


@dataclass(frozen=True)
class ObjectiveInputs:
    """The inputs of an objective: a network with a batch of validation images.

    Attributes:
        logits: (weights, images (B, C, H, W)) → (B, classes), in float32 or float64. A supernet
            uses the current α, and its batch norms the statistics of the batch.
        weights: the parameters of the network. Those of a convolution have four dimensions.
        batch: normalised images and labels.
        normalisation: the normalisation of the images.
        shares: the probability of each operation and macro choice, in the form of
            `Architecture.expected`, differentiable with respect to α. Empty for a discrete network.
        used: weights → the weights as the layers use them. They differ if the gain is bounded: the
            scale of the parameters then has no effect.
    """

    logits: Callable[[Sequence[Tensor], Tensor], Tensor]
    weights: Sequence[Tensor]
    batch: Batch
    normalisation: Normalisation
    shares: Mapping[str, Tensor]
    used: Callable[[Sequence[Tensor]], Sequence[Tensor]] = list


@dataclass(frozen=True)
class TrainedCell:
    """A discrete network after its training on the images that train w.

    Attributes:
        net: the network, in eval mode.
        make: makes the same network with new weights.
        validation: the images that train α, each once.
    """

    net: nn.Module
    make: Callable[[], Network]
    validation: BatchStream


class Objective(ABC):
    """A term T of what a search minimises. It is never negative.

    With several processes, each process gets its part of the batch, and the search uses the mean of
    the results.
    """

    def start(self, networks: SearchedNetworks) -> None:
        """Get to know the networks of the search, before the first value. It may be called twice.

        Raises:
            SettingError: the objective does not suit them.
        """
        self.networks = networks

    def keep(self, folder: Path) -> None:  # noqa: B027  # most have nothing to keep
        """Keep in the folder of a run what a resumed run must not compute anew."""

    @abstractmethod
    def __call__(self, inputs: ObjectiveInputs) -> Tensor:
        """Return a scalar, differentiable with respect to α and to `inputs.weights`.

        It may draw from torch's global generators, which are seeded before each call.
        """

    def of_cell(self, cell: TrainedCell) -> float:
        """Return the value of a trained network. Default: the mean over the validation images.

        With several processes, only the first one calls this method.
        """
        call = with_weights(cell.net)

        def logits(weights: Sequence[Tensor], images: Tensor) -> Tensor:
            return call(weights, images).float()

        weights = [p.detach() for p in cell.net.parameters()]
        used = partial(used_weights, cell.net)
        total, stream = 0.0, cell.validation
        for k in range(stream.batches_per_epoch):
            batch = stream.batch(k)
            inputs = ObjectiveInputs(logits, weights, batch, stream.normalisation, {}, used)
            total += float(self(inputs)) * len(batch[1])
        return total / len(stream.data)


class Objectives:
    """All objectives of a search with their weights. It is false if there are none.

    Args:
        weights: name → weight.
        terms: name → objective.
    """

    def __init__(self, weights: Mapping[str, float], terms: Mapping[str, Objective]) -> None:
        self.weights, self.terms = weights, terms

    def __bool__(self) -> bool:
        return bool(self.terms)

    @property
    def minimised(self) -> bool:
        """Whether a weight is above 0."""
        return any(self.weights.values())

    def start(self, networks: SearchedNetworks) -> None:
        """Start each objective; see `Objective.start`."""
        for term in self.terms.values():
            term.start(networks)

    def keep(self, folder: Path) -> None:
        """Show each objective the folder of the run; see `Objective.keep`."""
        for term in self.terms.values():
            term.keep(folder)

    def values(self, inputs: ObjectiveInputs) -> dict[str, Tensor]:
        """Return the value of each objective. Those of weight 0 have no gradient."""
        found = {}
        for name, term in self.terms.items():
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.weights[name] > 0):
                found[name] = term(inputs)
        return found

    def of_cell(self, cell: TrainedCell) -> dict[str, float]:
        """Return the value of each objective for a trained network.

        Raises:
            SettingError: a value is negative.
        """
        with evaluating(cell.net):
            found = {name: term.of_cell(cell) for name, term in self.terms.items()}
        for name, value in found.items():
            if value < 0:
                raise SettingError(f"objectives.{name}", f"expected values of at least 0: {value}")
        return found

    def total(self, values: Mapping[str, Any]) -> Any:
        """Return Σ weight · T of tensors or of numbers. An objective of weight 0 has no effect."""
        return sum(weight * values[name] for name, weight in self.weights.items() if weight)


O = TypeVar("O", bound=type[Objective])  # noqa: E741
_OBJECTIVES: dict[str, type[Objective]] = {}


def register_objective(name: str) -> Callable[[O], O]:
    """Return a decorator that registers an objective class by name.

    Raises:
        ValueError: the name is taken.
        TypeError: the decorated class is not an `Objective`.
    """
    return registering("objective", name, _OBJECTIVES, Objective)


def list_objectives() -> list[str]:
    """Return the names of all objectives beside the validation loss and the penalty, sorted."""
    return sorted(_OBJECTIVES)


def make_objectives(settings: Mapping[str, Mapping[str, Setting] | None]) -> Objectives:
    """Return the objectives of a config's ``model.objectives``.

    Raises:
        ValueError: an objective or setting is unknown, or a value is invalid. The message is one
            line and names the key.
    """
    weights, terms = {}, {}
    for name, given in settings.items():
        own = dict(given or {})
        weights[name] = float(own.pop("weight", 1.0))
        terms[name] = configured("objective", "objectives", _OBJECTIVES, name, own)
    return Objectives(weights, terms)
