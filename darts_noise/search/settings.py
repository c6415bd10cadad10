"""What the settings of a search may be; each refusal is one line that names the key.

A new key of `SearchModule` whose values have bounds gets them here.
"""

import math
from collections.abc import Mapping
from typing import Any

from darts_noise.naming import unknown
from darts_noise.nets.supernet import require_implementation
from darts_noise.noise.families import require_noise
from darts_noise.noise.penalties.penalty import Penalty, penalty_name
from darts_noise.search.hypergradients import require_method
from darts_noise.search.networks import WEIGHT_OPTIMISERS

LEAST = {
    "noise_weight": 0,
    "noise_samples": 1,
    "twin_steps": 1,
    "twin_restart": 0,
    "candidates": 1,
    "candidate_epochs": 1,
    "warmup_epochs": 0,
    "learning_rate": 0,
    "learning_rate_min": 0,
    "momentum": 0,
    "weight_decay": 0,
    "gradient_clip": 0,
    "alpha_learning_rate": 0,
    "alpha_weight_decay": 0,
    "seed": 0,
    "num_cells": 3,  # two are reductions, and α of the normal cell needs one too
}

WITHOUT_TWIN = {
    "hypergradient": "first_order",
    "twin_steps": 1,
    "twin_optimiser": None,
    "twin_learning_rate": None,
    "twin_restart": 0,
}
"""What is left to be said of a twin that there is not, and of the step that it would make."""


def check_settings(settings: Mapping[str, Any], penalty: Penalty) -> None:
    """Raises ``ValueError`` for the first setting that is out of bounds or an unknown name.

    Args:
        settings: those of `SearchModule`.
        penalty: what ``model.penalty`` stands for.
    """
    require_noise(settings["noise_family"])
    require_method(settings["hypergradient"])
    require_implementation(settings["supernet"])
    for key, least in LEAST.items():
        if not least <= settings[key] < math.inf:  # written so that NaN is refused as well
            raise ValueError(f"model.{key}: expected {least} or more, got {settings[key]}")
    if (parameters := settings["candidate_parameters"]) is not None and parameters < 1:
        raise ValueError(
            f"model.candidate_parameters: expected 1 or more, or null, got {parameters}"
        )
    _check_optimisers(settings)
    if not all(0 <= beta < 1 for beta in settings["alpha_betas"]):
        raise ValueError(
            f"model.alpha_betas: expected two numbers from 0 to 1, got {settings['alpha_betas']}"
        )
    if settings["noise_weight"] > 0 and penalty.weights == "own":
        for key, only in WITHOUT_TWIN.items():
            if settings[key] != only:
                raise ValueError(
                    f"model.{key}: expected {only} with penalty "
                    f"{penalty_name(settings['penalty'])!r}, which has no twin, got {settings[key]}"
                )


def _check_optimisers(settings: Mapping[str, Any]) -> None:
    rate, method = settings["twin_learning_rate"], settings["hypergradient"]
    if rate is not None and not rate >= 0:
        raise ValueError(f"model.twin_learning_rate: expected 0 or more, or null, got {rate}")
    for key in ("optimiser", "twin_optimiser"):
        kind = settings[key]
        if kind is None:
            continue
        if kind not in WEIGHT_OPTIMISERS:
            raise ValueError(f"model.{key}: {unknown('optimiser', kind, WEIGHT_OPTIMISERS)}")
        if kind != "sgd" and method != "first_order":
            raise ValueError(
                f"model.{key}: expected 'sgd' with hypergradient {method!r}, which looks through "
                f"a step of SGD, got {kind!r}"
            )
