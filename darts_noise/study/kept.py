"""What a study keeps to and goes on from: settings that are fixed once begun, results, records.

What decides the results stands in ``results.json``, and all that was found in ``records/``: a
study whose database is lost goes on from them, and so does another's that is copied.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from darts_noise.errors import SettingError
from darts_noise.runs.run import plain
from darts_noise.space.genotype import Genotype
from darts_noise.space.json_file import read_json, shown_path
from darts_noise.space.published import load_genotype
from darts_noise.study.settings import StudyConfig
from darts_noise.study.units import PROTOCOLS, compared_networks

NEEDED = {"cell": {"genotype", "model"}, "test": {"test_accuracy", "diverged", "parameters"}}
OF_NOISE = {"accuracy", "accuracy_largest", "chance"}
"""What a study itself reads of a cell, a training and a noise fit."""
BEFORE = {"converged.scales": [1.0]}
"""What older studies did where they state nothing and the default has changed since."""
DEFAULT = "the default"
"""Stands for a value that is not there."""


def fixed_settings(config: StudyConfig) -> dict[str, Any]:
    """Return whatever decides a result on file, as JSON values by key.

    Seeds, noise weights, families, controls and cells may be added or left out between two starts.
    """
    fixed: dict[str, Any] = {
        "search": config.search,
        "train": config.train,
        "parameters": config.parameters,
        "noise_family": config.noise_family,
        "converged": config.converged,
    }
    if config.quick is not None:
        fixed["quick"] = config.quick
    if config.sample.trials:
        fixed["sample"] = {**vars(config.sample), "trials": None}
    for name, own in config.controls.items():
        fixed[f"controls.{name}"] = {"model": own.model, "stem_stride": own.stem_stride}
    for network in compared_networks(config):
        for seed, source in enumerate(network.sources):
            genotype = load_genotype(source).to_dict()
            fixed[f"cells.{network.title}.{seed}"] = {**genotype, "meta": None}
    values: dict[str, Any] = plain(fixed)
    for setup in ("search", "train"):
        del values[setup]["data"]["root"]  # where the data lie decides nothing
    return values


def require_same(name: str, kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise the error of the first key in which two starts of a study differ.

    Args:
        name: of the study.
        kept: what `fixed_settings` gave before; empty for a study that begins. Older studies leave
            out what has its default.
        now: what it gives. What only one of the two has, such as a control, is no difference.
    """
    both = kept.keys() & now.keys()
    defaults = _flat(fixed_settings(StudyConfig()))
    before, after = (_flat({key: side[key] for key in now if key in both}) for side in (kept, now))
    for key in {**before, **after}:
        was, is_ = (
            side.get(key, default.get(key, DEFAULT))
            for side, default in ((before, {**defaults, **BEFORE}), (after, defaults))
        )
        if was != is_:
            was, is_ = (v if v == DEFAULT else json.dumps(v) for v in (was, is_))
            raise SettingError(key, f"{name!r} was begun with {was}, got {is_}; take another name")


def _flat(settings: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Return all values by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{place}{key}.")
        else:
            flat[f"{place}{key}"] = value
    return flat


def written_settings(folder: Path) -> dict[str, Any]:
    """Return the settings that the results in a study's folder were made with.

    Empty without results.

    Raises:
        ValueError: results that are none, or records without results; the message names the file.
    """
    file = folder / "results.json"
    if not file.is_file():
        if any((folder / "records").glob("*.json")):
            raise ValueError(
                f"{shown_path(file)}: expected beside records/, since it says with what settings "
                "they were made; copy it there or take another name"
            )
        return {}
    results = read_json(file)
    settings = results.get("settings") if isinstance(results, Mapping) else None
    if not isinstance(settings, Mapping):
        raise ValueError(f"{shown_path(file)}: expected the settings of a study")
    return dict(settings)


def written(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what the records in a study's folder have, each with the key of its unit.

    Raises:
        ValueError: a record that is none; the message names the file.
    """
    for file in sorted((folder / "records").glob("*-seed*.json")):
        record = read_json(file)
        if not isinstance(record, Mapping) or not {"network", "seed"} <= record.keys():
            raise ValueError(f"{shown_path(file)}: expected a record of a network and seed")
        unit = f"{record['network']}/{record['seed']}"
        parts = {part: record.get(part) for part in ("cell", "test")}
        for protocol in PROTOCOLS:
            fits = record.get(protocol)
            for family, fit in fits.items() if isinstance(fits, Mapping) else ():
                parts[f"{protocol}/{family}"] = fit
        for part, found in parts.items():
            needed = NEEDED.get(part, OF_NOISE)
            if found is None:
                continue
            if not isinstance(found, Mapping) or not needed <= found.keys():
                keys = ", ".join(sorted(needed))
                raise ValueError(f"{shown_path(file)}: {part}: expected an object with {keys}")
            try:
                if part == "cell":
                    Genotype.from_dict(found["genotype"])
            except ValueError as error:
                raise ValueError(f"{shown_path(file)}: cell: {error}") from None
            yield f"{unit}/{part}", dict(found)
