"""What a penalty on noise fit is, and the registry of their names.

A penalty P(α) says how well an architecture can be trained to fit noise. It is bounded, and flat
where the noise cannot be learnt at all: a negated cross-entropy is neither, and diverges. A new one
is one file beside this one with a class under ``@register_penalty``, imported in this package's
``__init__``. Its constructor's keyword arguments are its settings in a config:

    model:
      penalty:
        lookahead: {learning_rate: 0.1}
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

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
    """

    weights: ClassVar[Literal["twin", "own"]] = "twin"
    norms: ClassVar[Literal["batch", "running"]] = "batch"

    @abstractmethod
    def __call__(self, trial: Trial) -> Tensor:
        """The penalty: a scalar that can be differentiated by α and by the trial's weights."""


class LossPenalty(Penalty):
    """A penalty that depends on the noise loss alone.

    One pass of the twin then gives α and v their gradients, to first order.

    Attributes:
        mixed_batches: whether w itself is trained on noise as well, towards a small penalty.
    """

    mixed_batches: ClassVar[bool] = False

    @abstractmethod
    def of_loss(self, noise_loss: Tensor, num_classes: int) -> Tensor:
        """The penalty at a noise loss: the scalar mean cross-entropy, in nats."""

    def __call__(self, trial: Trial) -> Tensor:
        images, labels = trial.noise
        [loss] = average_over_processes(
            [F.cross_entropy(trial.logits(trial.weights, images), labels)]
        )
        return self.of_loss(loss, trial.num_classes)


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
