"""What a penalty on noise fit is, and the registry of their names.

A penalty P(α) says how well an architecture can be trained to fit noise. It is bounded, and flat
where the noise cannot be learnt at all: a negated cross-entropy is neither, and diverges. A new one
is one file beside this one with a class under ``@register_penalty``, imported in this package's
``__init__``. Its constructor's keyword arguments are its settings in a config:

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

from darts_noise.configured import configured
from darts_noise.data.batches import Batch
from darts_noise.distributed.collectives import average_over_processes
from darts_noise.errors import SettingError


@dataclass(frozen=True)
class Trial:
    """A supernet that faces noise, at one α.

    Attributes:
        logits: (weights, images (B, C, H, W)) → (B, classes), in float32 or float64; α enters it by
            closure, and it may be differentiated twice by α and by the weights.
        weights: those that face the noise: v or w, see `Penalty.weights`.
        noise: a batch of the fixed noise set.
        real: a batch of the validation images, on which α learns.
        num_classes: among how many classes a guess on noise is: log of it is the loss of a guess.
    """

    logits: Callable[[Sequence[Tensor], Tensor], Tensor]
    weights: Sequence[Tensor]
    noise: Batch
    real: Batch
    num_classes: int


OfLoss = Callable[[Tensor, int], Tensor]
"""A penalty as a function of the noise loss and the number of classes."""

G = TypeVar("G", covariant=True)


class Facing(Protocol[G]):
    """The weights that face the noise at one α, and two ways to differentiate a penalty there."""

    @property
    def is_first_order(self) -> bool:
        """Whether the gradient is that at the weights as they are."""

    def differentiate(self, penalty: "Penalty") -> G:
        """The gradient of any penalty, by the search's hypergradient; nothing is changed."""

    def in_one_pass(self, of_loss: OfLoss) -> G:
        """The gradient of a function of the twin's loss, to first order, and that of the twin.

        The pass is a training step of the twin: its batch norms gather statistics.
        """


def noise_fit_penalty(noise_loss: Tensor, num_classes: int) -> Tensor:
    """P = max(0, 1 − L_noise / log C), in [0, 1]: the share of a guess's loss that is removed.

    0 where the twin does no better than guess, 1 where it fits the noise perfectly.

    Args:
        noise_loss: scalar cross-entropy of the twin on noise, in nats.
        num_classes: C, at least 2, of the noise set, which may have fewer than the network; log C
            is the loss of a guess among them.

    >>> import torch
    >>> noise_fit_penalty(torch.tensor(0.0), 10)
    tensor(1.)
    >>> noise_fit_penalty(torch.tensor(5.0), 10)
    tensor(0.)
    """
    return (1 - noise_loss / math.log(num_classes)).clamp(min=0)


class Penalty(ABC):
    """P(α), to be made small.

    With several processes each is given its part of the batches, and the mean of what they return
    counts. A penalty that is not linear in a mean over the batch averages that mean itself, by
    `darts_noise.distributed.collectives.average_over_processes`.

    Attributes:
        weights: ``twin``: v, which learns nothing but the noise. ``own``: w as it stands; no twin
            is trained, and no other hypergradient than the first order is accepted.
        norms: batch norms use the statistics of the ``batch``, or the ``running`` ones, with which
            the output for an image does not depend on the others.
        mixed_batches: whether w itself is trained on noise as well, towards a small `of_fit`.
    """

    weights: ClassVar[Literal["twin", "own"]] = "twin"
    norms: ClassVar[Literal["batch", "running"]] = "batch"
    mixed_batches: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, trial: Trial) -> Tensor:
        """The penalty: a scalar that can be differentiated by α and by the trial's weights."""

    def gradient(self, facing: Facing[G]) -> G:
        """Its gradient with respect to α."""
        return facing.differentiate(self)

    def of_fit(self, noise_loss: Tensor, num_classes: int) -> Tensor:
        """The penalty of weights that have been trained on the noise down to a loss.

        It ranks the candidates of a search. `noise_fit_penalty`, unless this penalty itself is a
        function of the noise loss.
        """
        return noise_fit_penalty(noise_loss, num_classes)


class LossPenalty(Penalty):
    """A penalty that depends on the noise loss alone.

    One pass of the twin then gives α and v their gradients, to first order.
    """

    @abstractmethod
    def of_loss(self, noise_loss: Tensor, num_classes: int) -> Tensor:
        """The penalty at a noise loss: the scalar mean cross-entropy, in nats."""

    def __call__(self, trial: Trial) -> Tensor:
        images, labels = trial.noise
        [loss] = average_over_processes(
            [F.cross_entropy(trial.logits(trial.weights, images), labels)]
        )
        return self.of_loss(loss, trial.num_classes)

    def gradient(self, facing: Facing[G]) -> G:
        if facing.is_first_order and self.weights == "twin":
            return facing.in_one_pass(self.of_loss)
        return super().gradient(facing)

    def of_fit(self, noise_loss: Tensor, num_classes: int) -> Tensor:
        return self.of_loss(noise_loss, num_classes)


P = TypeVar("P", bound=type[Penalty])
_PENALTIES: dict[str, type[Penalty]] = {}


def register_penalty(name: str) -> Callable[[P], P]:
    """Makes a penalty known by a name; ``ValueError`` if the name is taken."""
    if name in _PENALTIES:
        raise ValueError(f"penalty {name!r} is registered already")

    def register(cls: P) -> P:
        _PENALTIES[name] = cls
        return cls

    return register


def list_penalties() -> list[str]:
    """The names of all penalties, sorted."""
    return sorted(_PENALTIES)


def penalty_name(setting: str | Mapping[str, Any]) -> str:
    """The name in a config's ``model.penalty``.

    Raises:
        ValueError: neither a name nor a mapping of one name to its settings.
    """
    if isinstance(setting, str):
        return setting
    if not isinstance(setting, Mapping) or len(setting) != 1:
        raise SettingError(
            "penalty",
            "expected the name of a penalty, or one with its settings as in "
            f"{{twin: {{form: log}}}}, got {setting!r}",
        )
    return str(next(iter(setting)))


def make_penalty(setting: str | Mapping[str, Any]) -> Penalty:
    """The penalty that a config's ``model.penalty`` stands for: ``twin``, ``{twin: {form: log}}``.

    Raises:
        ValueError: no such penalty or setting, or a value that it does not accept; one line that
            names the key.
    """
    name = penalty_name(setting)
    given = None if isinstance(setting, str) else setting[name]
    if not isinstance(given, Mapping | None):
        raise SettingError(
            f"penalty.{name}", f"expected settings, as in {{form: log}}, got {given!r}"
        )
    return configured("penalty", "penalty", _PENALTIES, name, given)
