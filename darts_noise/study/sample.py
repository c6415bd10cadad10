"""Settings that Optuna's sampler proposes: λ, the width of the cells, the learning rate of α ...

A proposal is searched and trained like any other network, and judged by the accuracy on validation
images and by its noise fit. The test set has no say in it and is not looked at.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from darts_noise.study.settings import StudySettings

if TYPE_CHECKING:  # an extra, without which a study says so itself
    from optuna.trial import Trial

WEIGHT = "noise_weight"
RANGE = {"low", "high", "log"}


def check_sample(settings: StudySettings) -> None:
    """Raises ``ValueError`` for the first proposal that is none; the message names its key."""
    sample = settings.sample
    if sample.trials and not sample.settings:
        raise ValueError("sample.settings: expected noise_weight or another setting, got none")
    for key, values in sample.settings.items():
        place = f"sample.settings.{key}"
        script, _, rest = key.partition(".")
        known = script in ("search", "train") and rest.partition(".")[0] in (
            "data",
            "model",
            "trainer",
        )
        if key != WEIGHT and not (known and rest.count(".") == 1):
            raise ValueError(
                f"{place}: expected noise_weight, search.<group>.<key> or train.<group>.<key>"
            )
        if isinstance(values, list) and values:
            if key == WEIGHT and not all(_is_number(value) for value in values):
                raise ValueError(f"{place}: expected numbers, got {values}")
            continue
        is_range = isinstance(values, Mapping) and {"low", "high"} <= set(values) <= RANGE
        if (
            not is_range
            or not (_is_number(values["low"]) and _is_number(values["high"]))
            or not values["low"] < values["high"]
        ):
            raise ValueError(
                f"{place}: expected a list of values, or low, high and perhaps log, got {values}"
            )
        if values.get("log") and values["low"] <= 0:
            raise ValueError(f"{place}: expected a low of more than 0 with log, got {values}")


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def propose(settings: StudySettings, trial: "Trial") -> dict[str, Any]:
    """The proposal of a trial by key; the same each time that it is asked for."""
    return {
        key: trial.suggest_categorical(key, values)
        if isinstance(values, list)
        else _number(trial, key, values)
        for key, values in settings.sample.settings.items()
    }


def first_proposal(settings: StudySettings) -> dict[str, Any]:
    """The first or lowest value of every key, to see whether the keys are right."""
    return {
        key: values[0] if isinstance(values, list) else values["low"]
        for key, values in settings.sample.settings.items()
    }


def _number(trial: "Trial", key: str, values: Mapping[str, Any]) -> float:
    low, high, log = values["low"], values["high"], bool(values.get("log"))
    if isinstance(low, int) and isinstance(high, int) and key != WEIGHT:
        return trial.suggest_int(key, low, high, log=log)
    return trial.suggest_float(key, low, high, log=log)


def proposed_settings(settings: StudySettings, proposal: Mapping[str, Any]) -> StudySettings:
    """The settings of a study of this proposal alone, which holds out images to judge it."""
    scripts: dict[str, Any] = {"search": settings.search, "train": settings.train}
    for key, value in proposal.items():
        if key != WEIGHT:
            script, group, name = key.split(".")
            own = {**getattr(scripts[script], group), name: value}
            scripts[script] = replace(scripts[script], **{group: own})
    held_out = {**scripts["train"].data, "validation_fraction": settings.sample.validation_fraction}
    scripts["train"] = replace(scripts["train"], data=held_out)
    weight = proposal.get(WEIGHT, 1.0)
    return replace(settings, noise_weights=[weight], controls={}, **scripts)
