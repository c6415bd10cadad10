"""The interface of penalties on noise fit, and their registry.

A penalty P(α) measures how well an architecture can be trained to fit noise. It must be bounded,
and flat if the noise cannot be learnt. A negated cross-entropy is neither, and diverges.

To add a penalty, write a class under ``@register_penalty`` in a new file of this folder, and import
the file in ``__init__``. The keyword arguments of its constructor are its settings in a config:

    model:
      penalty:
        lookahead: {learning_rate: 0.1}
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch.nn.functional as F
from torch import Tensor

from darts_noise.configured import Setting, configured, name_and_settings, registering
from darts_noise.data.batches import Batch
from darts_noise.distributed.collectives import average_over_processes


@dataclass(frozen=True)
class PenaltyInputs:
    """The inputs of a penalty: a supernet at one α, with a batch of noise and a batch of data.

    Attributes:
        logits: (weights, images (B, C, H, W)) → (B, classes), in float32 or float64. It uses the
            current α. It is twice differentiable with respect to α and to the weights.
        weights: the weights that see the noise: v or w, see `Penalty.weights`.
        noise: a batch of the fixed noise set.
        real: a batch of the validation images, on which α learns.
        num_classes: number of classes of the noise. Its log is the loss of a guess, in nats.
    """

    logits: Callable[[Sequence[Tensor], Tensor], Tensor]
    weights: Sequence[Tensor]
    noise: Batch
    real: Batch
    num_classes: int


OfLoss = Callable[[Tensor, int], Tensor]
"""A penalty as a function of the noise loss and the number of classes."""

G = TypeVar("G", covariant=True)


class OnNoise(Protocol[G]):
    """The weights that see the noise at one α, with two ways to differentiate a penalty."""

    @property
    def is_first_order(self) -> bool:
        """Whether the gradient is of first order: it treats the weights as constants."""

    def differentiate(self, penalty: "Penalty") -> G:
        """Return the gradient of any penalty by the search's hypergradient. Change no state."""

    def in_one_pass(self, of_loss: OfLoss) -> G:
        """Compute the first-order gradient of a function of the twin's loss, and the twin's own.

        The pass is a training step of the twin: it updates the statistics of its batch norms.
        """


def noise_fit_penalty(noise_loss: Tensor, num_classes: int) -> Tensor:
    """Compute P = max(0, 1 − L_noise / log C), in [0, 1].

    P is 0 if the twin is no better than a guess, and 1 if it fits the noise perfectly.

    Args:
        noise_loss: scalar cross-entropy of the twin on noise, in nats.
        num_classes: C, the number of classes of the noise set, at least 2. It may be smaller than
            the number of classes of the network. log C is the loss of a guess.

    >>> import torch
    >>> noise_fit_penalty(torch.tensor(0.0), 10)
    tensor(1.)
    >>> noise_fit_penalty(torch.tensor(5.0), 10)
    tensor(0.)
    """
    return (1 - noise_loss / math.log(num_classes)).clamp(min=0)


class Penalty(ABC):
    """A penalty P(α), which the search minimises.

    With several processes, each process gets its part of the batches, and the search uses the mean
    of the results. A penalty that is not linear in the mean over the batch must average this mean
    over the processes itself, by `darts_noise.distributed.collectives.average_over_processes`.

    Attributes:
        weights: ``twin``: v, which learns only the noise. ``own``: w; no twin is trained, and only
            the first-order hypergradient is accepted.
        norms: ``batch``: batch norms use batch statistics. ``running``: they use running
            statistics, so that the output for an image does not depend on the other images.
        mixed_batches: whether w is also trained on noise, to minimise `of_fit`.
    """

    weights: ClassVar[Literal["twin", "own"]] = "twin"
    norms: ClassVar[Literal["batch", "running"]] = "batch"
    mixed_batches: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        """Return a scalar, differentiable with respect to α and to `inputs.weights`."""

    def gradient(self, on_noise: OnNoise[G]) -> G:
        """Return the gradient of the penalty with respect to α."""
        return on_noise.differentiate(self)

    def of_fit(self, noise_loss: Tensor, num_classes: int) -> Tensor:
        """Return the penalty for weights that were trained on the noise to this loss, in nats.

        The search ranks candidates by it. The default is `noise_fit_penalty`; a penalty that is a
        function of the noise loss returns its own value.
        """
        return noise_fit_penalty(noise_loss, num_classes)


class LossPenalty(Penalty):
    """A penalty that depends only on the noise loss.

    One pass of the twin then gives the first-order gradients with respect to α and to v.
    """

    @abstractmethod
    def of_loss(self, noise_loss: Tensor, num_classes: int) -> Tensor:
        """Return the penalty for a noise loss, the scalar mean cross-entropy in nats."""

    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        images, labels = inputs.noise
        [loss] = average_over_processes(
            [F.cross_entropy(inputs.logits(inputs.weights, images), labels)]
        )
        return self.of_loss(loss, inputs.num_classes)

    def gradient(self, on_noise: OnNoise[G]) -> G:
        if on_noise.is_first_order and self.weights == "twin":
            return on_noise.in_one_pass(self.of_loss)
        return super().gradient(on_noise)

    def of_fit(self, noise_loss: Tensor, num_classes: int) -> Tensor:
        return self.of_loss(noise_loss, num_classes)


P = TypeVar("P", bound=type[Penalty])
_PENALTIES: dict[str, type[Penalty]] = {}


def register_penalty(name: str) -> Callable[[P], P]:
    """Return a decorator that registers a penalty class by name.

    Raises:
        ValueError: the name is taken.
        TypeError: the decorated class is not a `Penalty`.
    """
    return registering("penalty", name, _PENALTIES, Penalty)


def list_penalties() -> list[str]:
    """Return the names of all penalties, sorted."""
    return sorted(_PENALTIES)


def penalty_name(setting: str | Mapping[str, Any]) -> str:
    """Return the name in a config's ``model.penalty``.

    Raises:
        ValueError: the setting is neither a name nor a mapping of one name to its settings.
    """
    return _name_and_settings(setting)[0]


def make_penalty(setting: str | Mapping[str, Any]) -> Penalty:
    """Make the penalty of a config's ``model.penalty``: ``twin`` or ``{twin: {form: log}}``.

    Raises:
        ValueError: a penalty or setting is unknown, or a value is invalid. The message is one line
            and names the key.
    """
    return configured("penalty", "penalty", _PENALTIES, *_name_and_settings(setting))


def _name_and_settings(setting: object) -> tuple[str, Mapping[str, Setting] | None]:
    return name_and_settings("penalty", "penalty", "{twin: {form: log}}", setting)
