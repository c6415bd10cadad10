"""The settings that a started study cannot change, and the records from which it continues.

``results.json`` holds these settings, ``records/`` the results. A study continues from these files
if its database is lost, or if they were copied from another study.
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
"""Keys that the record of a cell, of a training and of a noise fit must have."""
DEFAULT = "the default"
"""Text for a value that a study does not state."""


def fixed_settings(config: StudyConfig) -> dict[str, Any]:
    """Return the settings that decide the results, as JSON values by key.

    Seeds, noise weights, families, controls, strategies and cells may be added or removed between
    two starts.
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
    for name, settings in config.strategies.items():
        fixed[f"strategies.{name}"] = settings
    for network in compared_networks(config):
        for seed, source in enumerate(network.sources):
            genotype = load_genotype(source).to_dict()
            fixed[f"cells.{network.title}.{seed}"] = {**genotype, "meta": None}
    values: dict[str, Any] = plain(fixed)
    for setup in ("search", "train"):
        del values[setup]["data"]["root"]  # the folder of the data does not affect results
    return values


def require_same(name: str, kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise a `SettingError` for the first setting that differs between two starts of a study.

    Args:
        name: name of the study.
        kept: the earlier result of `fixed_settings`. Empty for a new study. Older studies leave out
            settings with their default value.
        now: the present result of `fixed_settings`. A key that only one of the two has, such as a
            control, is no difference.
    """
    both = kept.keys() & now.keys()
    defaults = _flat(fixed_settings(StudyConfig()))
    before, after = (_flat({key: side[key] for key in now if key in both}) for side in (kept, now))
    for key in {**before, **after}:
        was, is_ = (side.get(key, defaults.get(key, DEFAULT)) for side in (before, after))
        if was != is_:
            was, is_ = (v if v == DEFAULT else json.dumps(v) for v in (was, is_))
            raise SettingError(key, f"{name!r} was started with {was}, got {is_}; use another name")


def _flat(settings: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{place}{key}.")
        else:
            flat[f"{place}{key}"] = value
    return flat


def written_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of the results in a study's folder. Empty if there are no results.

    Raises:
        ValueError: the file is not a results file, or there are records without it. The message
            names the file.
    """
    file = folder / "results.json"
    if not file.is_file():
        if any((folder / "records").glob("*.json")):
            raise ValueError(
                f"{shown_path(file)}: expected beside records/, because it holds the settings of "
                "the records; copy it there or use another name"
            )
        return {}
    results = read_json(file)
    settings = results.get("settings") if isinstance(results, Mapping) else None
    if not isinstance(settings, Mapping):
        raise ValueError(f"{shown_path(file)}: expected the settings of a study")
    if results.get("proposals"):
        raise ValueError(
            f"{shown_path(file)}: has proposals, and only study.db holds what they are made of; "
            "copy study.db there or use another name"
        )
    return dict(settings)


def written(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the results in a study's folder, each with the key of its unit.

    Raises:
        ValueError: a file is not a record. The message names it.
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
