"""Settings of attacks, without torch or Lightning."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from darts_noise.configured import naming_arguments, require_fields, require_seed
from darts_noise.errors import SettingError, unknown

ATTACK, CERTIFICATE, ENSEMBLE = (
    f"darts_noise.{kind}/1" for kind in ("attack", "certificate", "ensemble")
)
"""Formats of the results that the commands ``attack``, ``certify`` and ``ensemble`` write."""
ATTACKS = ("fgsm", "pgd", "square")
"""The attacks. Only `square` uses no gradients."""
EPS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {"linf": (0.01, 0.02, 0.05, 0.1, 0.2), "l2": (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)}
)
"""Each norm with the default sizes of a change."""
MADE_ON = MappingProxyType(
    {
        "member": "the first member",
        "outside": "the network outside",
        "itself": "what classifies them",
    }
)
"""Where the examples for an ensemble were made."""


def require_size(key: str, norm: str, size: float) -> None:
    """Raise a `SettingError` if a size of a change, with pixels from 0 to 1, is out of range."""
    largest = 1.0 if norm == "linf" else math.inf
    if not 0 < size <= largest or size == math.inf:  # written so that NaN is refused as well
        limit = " and at most 1" if norm == "linf" else ""
        raise SettingError(
            key, f"expected more than 0{limit}, with pixels from 0 to 1, got {size:g}"
        )


@naming_arguments
@dataclass(frozen=True)
class AttackConfig:
    """Settings of the attacks on a trained network.

    Args:
        norm: how a change of an image is measured: linf, the largest change of a pixel, or l2, the
            root of the sum of the squared changes.
        eps: largest sizes of a change, with pixels from 0 to 1. null: 0.01, 0.02, 0.05, 0.1 and 0.2
            for linf; 0.02, 0.05, 0.1, 0.2, 0.5 and 1 for l2.
        attacks: fgsm, pgd and square, or some of them.
        steps: gradient steps of pgd.
        starts: random starts of pgd.
        queries: number of times that square may ask the network about an image.
        samples: number of test images, with the proportions of the classes. null: all.
        batch_size: images that are attacked at once.
        seed: seed of the choice of images and of the attacks.

    Raises:
        SettingError: a value is out of range.
    """

    norm: str = "linf"
    eps: tuple[float, ...] | None = None
    attacks: tuple[str, ...] = ATTACKS
    steps: int = 40
    starts: int = 2
    queries: int = 500
    samples: int | None = 500
    batch_size: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        if self.norm not in EPS:
            raise SettingError("norm", unknown("norm", str(self.norm), EPS))
        for name in self.attacks:
            if name not in ATTACKS:
                raise SettingError("attacks", unknown("attack", str(name), ATTACKS))
        if not self.attacks:
            raise SettingError("attacks", f"expected one of {', '.join(ATTACKS)}, got none")
        for size in self.sizes:
            require_size("eps", self.norm, size)
        require_fields(self, steps=1, starts=1, queries=1, samples=1, batch_size=1)
        require_seed(self.seed)

    @property
    def sizes(self) -> tuple[float, ...]:
        """The sizes of a change in ascending order, each once."""
        return tuple(sorted({*(EPS[self.norm] if self.eps is None else self.eps)}))
