"""A study goes on from its results and records where its database is lost or was another's.

What decides the results stands in ``results.json``, and every part of a unit in ``records/``: they
can be kept, shared and put into the folder of a study that is to go on elsewhere.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from darts_noise.noise.families import describe_noise
from darts_noise.space.genotype import Genotype
from darts_noise.space.json_file import read_json, shown_path
from darts_noise.study.units import Unit

NEEDED = {
    "cell": {"genotype", "model"},
    "test": {"test_accuracy", "diverged", "parameters"},
    "noise": {"accuracy", "accuracy_largest", "chance"},
}
"""The keys of a part that a study itself reads."""


def written_settings(folder: Path) -> dict[str, Any]:
    """The settings that the results in a study's folder were made with; empty without results.

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


def written_parts(folder: Path, units: Iterable[Unit]) -> Iterator[tuple[Unit, dict[str, Any]]]:
    """Each unit of which the records in a study's folder have parts, with those parts.

    Raises:
        ValueError: a record that is none; the message names the file.
    """
    for unit in units:
        file = folder / "records" / f"{unit.network.key}-seed{unit.seed}.json"
        if unit.kind == "sample" or not file.is_file():
            continue
        record = read_json(file)
        if not isinstance(record, Mapping):
            raise ValueError(f"{shown_path(file)}: expected a record, got another JSON value")
        of_protocol = record.get(unit.protocol)
        fits = of_protocol if isinstance(of_protocol, Mapping) else {}
        known = {**record, "noise": fits.get(describe_noise(unit.family))}
        found: dict[str, Any] = {
            part: known[part] for part in unit.parts if known.get(part) is not None
        }
        for part, value in found.items():
            if not isinstance(value, Mapping) or not NEEDED[part] <= value.keys():
                keys = ", ".join(sorted(NEEDED[part]))
                raise ValueError(f"{shown_path(file)}: {part}: expected an object with {keys}")
        try:
            if "cell" in found:
                Genotype.from_dict(found["cell"]["genotype"])
        except ValueError as error:
            raise ValueError(f"{shown_path(file)}: cell: {error}") from None
        if found:
            yield unit, found
