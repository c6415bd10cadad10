"""The loss and the accuracy of a network on a set of images, as a record and as JSON."""

import math
from typing import NamedTuple

from darts_noise.shown import shown


class Reading(NamedTuple):
    """Mean cross-entropy in nats (infinite if it is NaN), and accuracy from 0 to 1."""

    loss: float
    accuracy: float

    def __str__(self) -> str:
        return f"{self.accuracy:.3f} (loss {self.loss:.3f})"


def reading_to_json(reading: Reading) -> list[float | None]:
    """Return a loss and an accuracy. An infinite loss becomes None."""
    return [reading.loss if math.isfinite(reading.loss) else None, reading.accuracy]


def reading_from_json(value: object) -> Reading:
    """Return the reading that `reading_to_json` wrote. Raise ``ValueError`` for another value."""
    if isinstance(value, list) and len(value) == 2 and type(value[1]) is float:
        loss, accuracy = value
        if loss is None or type(loss) is float:
            return Reading(math.inf if loss is None else loss, accuracy)
    raise ValueError(f"expected a loss and an accuracy, got {shown(value)}")
