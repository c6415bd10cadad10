"""Which samples of a batch train a network, if some of the labels are wrong.

Networks learn right labels before they memorise wrong ones. So a sample with a small loss probably
has a right label, and a method trains on these samples only.

To add a method, write a subclass of `SampleSelection` under ``@register_noisy_labels``. The keyword
arguments of its constructor are its settings in a config:

    model:
      noisy_labels:
        co_teaching: {forget_rate: 0.4}

Reference:
    [1] Han et al., Co-teaching: robust training of deep neural networks with extremely noisy
        labels, NeurIPS 2018, arXiv:1804.06872, algorithm 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from darts_noise.configured import configured, name_and_settings, registering, require_at_least
from darts_noise.errors import SettingError
from darts_noise.train.settings import ALL


@dataclass(frozen=True)
class BatchLosses:
    """The inputs of a selection: one batch of a training. With several processes, their own part.

    Attributes:
        losses: (networks, B), float32 without a gradient: the training loss of each sample in each
            network.
        labels: (B,), the given labels, some of which are wrong.
        epoch: number of finished epochs, from 0.
        wrong_labels: share of wrong labels that was planted in the training images. 0: none, so the
            share is unknown.
    """

    losses: Tensor
    labels: Tensor
    epoch: int
    wrong_labels: float


class SampleSelection(ABC):
    """A method that selects the samples that train each network.

    Attributes:
        networks: number of networks, 1 or 2. The first is evaluated and saved. The second has other
            initial weights.
    """

    networks: ClassVar[int] = 1

    @abstractmethod
    def __call__(self, batch: BatchLosses) -> Sequence[Tensor]:
        """Return the indices (K,) of the samples that train each network, K of 1 to B.

        The order of the samples in a batch should stay: sums of floating-point numbers depend on
        it. The losses are on the device of the training. Reading their values would wait for it.
        """


def remember_rate(forget_rate: float, epoch: int, gradual_epochs: int) -> float:
    """Return R(T) = 1 − τ · min(T / T_k, 1), the share of a batch that is kept [1].

    Args:
        forget_rate: τ, the share of a batch that is forgotten in the end.
        epoch: T, the number of finished epochs.
        gradual_epochs: T_k, the epochs over which the forgotten share rises from 0.

    >>> [round(remember_rate(0.4, epoch, 10), 2) for epoch in (0, 1, 5, 10, 50)]
    [1.0, 0.96, 0.8, 0.6, 0.6]
    """
    return 1 - forget_rate * min(epoch / gradual_epochs, 1)


def smallest(losses: Tensor, share: float) -> Tensor:
    """Return the indices of the smallest losses (B,), in the order of the batch.

    Their number is `share` times B, rounded, and at least 1.

    >>> smallest(Tensor([3, 1, 2, 4]), 0.5)
    tensor([1, 2])
    """
    count = max(1, round(share * len(losses)))
    return losses.topk(count, largest=False).indices.sort().values


S = TypeVar("S", bound=type[SampleSelection])
_METHODS: dict[str, type[SampleSelection]] = {}


def register_noisy_labels(name: str) -> Callable[[S], S]:
    """Return a decorator that registers a `SampleSelection` by name.

    Raises:
        ValueError: the name is taken.
        TypeError: the decorated class is not a `SampleSelection`.
    """
    return registering("method for noisy labels", name, _METHODS, SampleSelection, ALL)


def list_noisy_labels() -> list[str]:
    """Return the names of all methods, sorted. ``none``, the default, trains on all samples."""
    return sorted([ALL, *_METHODS])


def make_selection(setting: str | Mapping[str, Any]) -> SampleSelection | None:
    """Return the method of a config's ``model.noisy_labels``, or None for ``none``.

    Raises:
        ValueError: a method or setting is unknown, or a value is invalid. The message is one line
            and names the key.
    """
    example = "{co_teaching: {forget_rate: 0.4}}"
    name, given = name_and_settings("method", "noisy_labels", example, setting)
    registry: dict[str, Callable[..., SampleSelection | None]] = {**_METHODS, ALL: lambda: None}
    return configured("method", "noisy_labels", registry, name, given)


def shown_method(setting: str | Mapping[str, Any]) -> str:
    """Return a valid ``model.noisy_labels`` as text for a card.

    >>> shown_method("none"), shown_method({"co_teaching": {"forget_rate": 0.2}})
    ('none', 'co_teaching (forget_rate 0.2)')
    """
    if isinstance(setting, str):
        return setting
    [(name, given)] = setting.items()
    return (
        f"{name} ({', '.join(f'{key} {value}' for key, value in given.items())})" if given else name
    )


@register_noisy_labels("small_loss")
class SmallLoss(SampleSelection):
    """One network, which trains on the R(T) · B samples of a batch with its own smallest losses.

    Args:
        forget_rate: τ, at least 0 and less than 1. None: the planted share of wrong labels.
        gradual_epochs: T_k, 1 or more. [1] uses 10.

    Raises:
        SettingError: a value out of range; later, no τ and no planted labels.
    """

    def __init__(self, forget_rate: float | None = None, gradual_epochs: int = 10) -> None:
        if forget_rate is not None and not 0 <= forget_rate < 1:
            raise SettingError(
                "forget_rate", f"expected 0 or more and less than 1, got {forget_rate}"
            )
        require_at_least(1, gradual_epochs=gradual_epochs)
        self.forget_rate, self.gradual_epochs = forget_rate, gradual_epochs

    def __call__(self, batch: BatchLosses) -> Sequence[Tensor]:
        forget_rate = batch.wrong_labels if self.forget_rate is None else self.forget_rate
        if self.forget_rate is None and not forget_rate:
            raise SettingError(
                "noisy_labels",
                "expected a forget_rate, as in {co_teaching: {forget_rate: 0.2}}, because the "
                "share of wrong labels is unknown (data.wrong_labels is 0)",
            )
        share = remember_rate(forget_rate, batch.epoch, self.gradual_epochs)
        return self.exchange([smallest(losses, share) for losses in batch.losses])

    def exchange(self, chosen: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the samples that train each network, given those that each network has chosen."""
        return chosen


@register_noisy_labels("co_teaching")
class CoTeaching(SmallLoss):
    """Two networks: each trains on the samples that have the smallest losses in the other [1].

    The errors of a network's own choice would add up. The other network, which makes other errors,
    filters them. The settings are those of `SmallLoss`.
    """

    networks = 2

    def exchange(self, chosen: Sequence[Tensor]) -> Sequence[Tensor]:
        """Exchange the choices of the two networks."""
        return chosen[::-1]
