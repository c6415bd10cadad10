"""What must stay as it is while a study goes on: whatever decides a result on file.

Seeds, noise weights, families and controls may be added or left out between two starts.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from darts_noise.study.settings import CONTROLS, Script, StudySettings


def fixed_settings(settings: StudySettings) -> dict[str, Any]:
    """Key → JSON value; the files that are named stand there with what they say."""
    fixed: dict[str, Any] = {
        "search": _resolved(settings.search),
        "train": _resolved(settings.train),
        "noise_family": settings.noise_family,
        "converged": vars(settings.converged),
    }
    if settings.quick is not None:
        fixed["quick"] = vars(settings.quick)
    for name, own in settings.controls.items():
        fixed[f"controls.{name}"] = {
            "model": {**CONTROLS[name], **own.model},
            "stem_stride": own.stem_stride,
        }
    plain: dict[str, Any] = json.loads(json.dumps(fixed))
    return plain


def require_same(name: str, kept: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises the ``ValueError`` that names the first key of both that differs."""
    for key, value in kept.items():
        if key in now and now[key] != value:
            raise ValueError(
                f"{key}: {name!r} was begun with {json.dumps(value)}, got {json.dumps(now[key])}; "
                "take another name"
            )


def _resolved(script: Script) -> dict[str, Any]:
    """The keys of a script; where the data lie decides nothing."""
    file = yaml.safe_load(Path(script.config).read_text("utf-8")) or {}
    resolved = {
        group: {**(file.get(group) or {}), **getattr(script, group)}
        for group in ("data", "model", "trainer")
    }
    resolved["data"].pop("root", None)
    return resolved
