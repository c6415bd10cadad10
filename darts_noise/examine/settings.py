"""Settings of an examination, without torch or Lightning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from darts_noise.configured import naming_arguments, require_seed
from darts_noise.errors import SettingError, unknown
from darts_noise.train.settings import OPTIMISERS


@naming_arguments
@dataclass(frozen=True)
class ExamineConfig:
    """Settings of an examination of what a network memorises, and how.

    Args:
        only: the sections. Empty: all sections.
        samples: largest number of training images, and of test images, that the sections use.
        epochs: largest number of passes over the images in a training.
        batch_size: images in a batch.
        optimiser: adam, sgd or muon.
        learning_rate: learning rate at the start of a training. It falls to 0 on a cosine.
        seed: seed of the choice of images, the initial weights and all other draws.
        sections: settings of single sections: name of the section → its settings.

    Raises:
        SettingError: a value is out of range.
    """

    only: tuple[str, ...] = ()
    samples: int = 500
    epochs: int = 100
    batch_size: int = 64
    optimiser: str = "adam"
    learning_rate: float = 3e-3
    seed: int = 0
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, least in (("samples", 2), ("epochs", 1), ("batch_size", 2)):
            value = getattr(self, key)
            if type(value) is not int or value < least:
                raise SettingError(key, f"expected a whole number from {least}, got {value!r}")
        if self.optimiser not in OPTIMISERS:
            raise SettingError("optimiser", unknown("optimiser", str(self.optimiser), OPTIMISERS))
        if not 0 < self.learning_rate < float("inf"):
            raise SettingError("learning_rate", f"expected more than 0, got {self.learning_rate}")
        require_seed(self.seed)
