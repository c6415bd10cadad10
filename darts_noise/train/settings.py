"""What the settings of a training may be; each refusal is one line that names the key.

A new key of `TrainModule` whose values have bounds gets them here.
"""

import math
from collections.abc import Mapping
from typing import Any

NOT_NEGATIVE = (
    "auxiliary_weight",
    "learning_rate",
    "momentum",
    "weight_decay",
    "mixup",
    "cutmix",
    "seed",
)
SHARES = ("drop_path", "label_smoothing", "ema_decay")


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` for the first setting that is out of bounds."""
    for key in NOT_NEGATIVE:
        if not 0 <= settings[key] < math.inf:  # written so that NaN is refused as well
            raise ValueError(f"model.{key}: expected 0 or more, got {settings[key]}")
    for key in SHARES:
        if not 0 <= settings[key] < 1:
            raise ValueError(
                f"model.{key}: expected 0 or more and less than 1, got {settings[key]}"
            )
    if (parameters := settings["parameters"]) is not None and parameters < 1:
        raise ValueError(f"model.parameters: expected 1 or more, or null, got {parameters}")
    decay = settings["learning_rate_decay"]
    if decay is not None and not 0 < decay <= 1:
        raise ValueError(
            f"model.learning_rate_decay: expected more than 0 and at most 1, got {decay}"
        )
