"""What must stay as it is while a study goes on: whatever decides a result on file.

Seeds, noise weights, families, controls and cells may be added or left out between two starts.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from darts_noise.space.published import load_genotype
from darts_noise.study.networks import compared_networks
from darts_noise.study.settings import CONTROLS, Script, StudySettings


def fixed_settings(settings: StudySettings) -> dict[str, Any]:
    """Key → JSON value; the files that are named stand there with what they say."""
    fixed: dict[str, Any] = {
        "search": _resolved(settings.search),
        "train": _resolved(settings.train),
        "parameters": settings.parameters,
        "noise_family": settings.noise_family,
        "converged": asdict(settings.converged),
    }
    if settings.quick is not None:
        fixed["quick"] = asdict(settings.quick)
    if settings.sample.trials:
        fixed["sample"] = {**asdict(settings.sample), "trials": None}
    for name in settings.controls:
        own = settings.control(name)
        fixed[f"controls.{name}"] = {
            "model": {**CONTROLS[name], **own.model},
            "stem_stride": own.stem_stride,
        }
    for network in compared_networks(settings):
        for seed, source in enumerate(network.sources):
            genotype = load_genotype(source).to_dict()
            fixed[f"cells.{network.title}.{seed}"] = {**genotype, "meta": None}
    plain: dict[str, Any] = json.loads(json.dumps(fixed))
    return plain


def require_same(name: str, kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises the ``ValueError`` that names the first key in which two starts of a study differ.

    Args:
        name: of the study.
        kept: what `fixed_settings` gave before; empty for a study that begins.
        now: what it gives. What only one of the two has, such as a control, is no difference.
    """
    both = kept.keys() & now.keys()
    before, after = (_flat({key: side[key] for key in now if key in both}) for side in (kept, now))
    for key in {**before, **after}:
        if before.get(key) != after.get(key):
            was, is_ = (
                json.dumps(side[key]) if key in side else "the default" for side in (before, after)
            )
            raise ValueError(f"{key}: {name!r} was begun with {was}, got {is_}; take another name")


def _flat(settings: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Dotted keys of all values."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{place}{key}.")
        else:
            flat[f"{place}{key}"] = value
    return flat


def _resolved(script: Script) -> dict[str, Any]:
    """The keys of a script; where the data lie decides nothing."""
    file = yaml.safe_load(Path(script.config).read_text("utf-8")) or {}
    resolved = {
        group: {**(file.get(group) or {}), **getattr(script, group)}
        for group in ("data", "model", "trainer")
    }
    resolved["data"].pop("root", None)
    return resolved
