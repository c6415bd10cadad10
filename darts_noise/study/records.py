"""What is known of each network and seed, and the mean, deviation and n of each network."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from darts_noise.noise.families import describe_noise
from darts_noise.space.json_file import read_json
from darts_noise.study.networks import Compared
from darts_noise.study.settings import POSITIVE_CONTROL, StudySettings
from darts_noise.study.units import Unit
from darts_noise.train.noise_record import CONTROL_ACCURACY

Record = dict[str, Any]


def records_of(units: Iterable[Unit], parts: Mapping[str, Mapping[str, Any]]) -> list[Record]:
    """One record per network and seed of which anything is known, in the order of the units."""
    records: dict[tuple[str, int], Record] = {}
    for unit in units:
        found = parts.get(unit.key, {})
        if not found or unit.kind == "sample":
            continue
        record = records.setdefault(
            (unit.network.key, unit.seed),
            {
                "network": unit.network.key,
                "title": unit.network.title,
                "seed": unit.seed,
                "cell": None,
                "test": None,
                "converged": {},
                "quick": {},
            },
        )
        record |= {part: found[part] for part in ("cell", "test") if part in found}
        if "noise" in found:
            record[unit.protocol][describe_noise(unit.family)] = found["noise"]
    return list(records.values())


def with_earlier(record: Record, file: Path) -> Record:
    """The record with what its file has besides: of families that this start does not ask for."""
    if not file.is_file():
        return record
    earlier = read_json(file)
    if not isinstance(earlier, Mapping):
        return record
    joined = dict(record)
    for part in ("cell", "test"):
        joined[part] = record[part] or earlier.get(part)
    for protocol in ("converged", "quick"):
        fits = earlier.get(protocol)
        joined[protocol] = {**(fits if isinstance(fits, Mapping) else {}), **record[protocol]}
    return joined


def figures_of(record: Record) -> Record:
    """The numbers of a network and seed that are compared; None for a training that diverged."""
    figures: Record = {"seed": record["seed"]}
    if test := record["test"]:
        figures["parameters"] = test["parameters"]
        figures["test_accuracy"] = None if test["diverged"] else test["test_accuracy"]
    for protocol in ("converged", "quick"):
        for family, fit in record[protocol].items():
            figures[f"{protocol}/{family}"] = fit["accuracy"]
    return figures


def summary_of(network: Compared, records: Iterable[Record]) -> Record:
    """Mean, deviation and n of every figure of a network, and the figures of every seed."""
    seeds = [figures_of(record) for record in records if record["network"] == network.key]
    names = list(dict.fromkeys(name for seed in seeds for name in seed if name != "seed"))
    return {
        "network": network.key,
        "title": network.title,
        "noise_weight": network.noise_weight if network.control is None else None,
        **{name: mean_and_deviation([seed.get(name) for seed in seeds]) for name in names},
        "seeds": seeds,
    }


def mean_and_deviation(values: Sequence[float | None]) -> Record:
    """Over the values that there are; the deviation is the sample's, None for fewer than two.

    >>> mean_and_deviation([0.25, None, 0.75])
    {'mean': 0.5, 'sd': 0.3535533905932738, 'n': 2}
    """
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "sd": statistics.stdev(known) if len(known) > 1 else None,
        "n": len(known),
    }


def positive_control(settings: StudySettings, records: Iterable[Record]) -> Record:
    """By family: the positive control's noise accuracy for each of its seeds, and whether all of
    them reach 99 %."""
    of_control = [record for record in records if record["network"] == POSITIVE_CONTROL]
    control: Record = {}
    for family in map(describe_noise, settings.families):
        seeds = {
            str(record["seed"]): record["converged"][family]["accuracy_largest"]
            for record in of_control
            if family in record["converged"]
        }
        if seeds:
            reached = all((value or 0.0) >= CONTROL_ACCURACY for value in seeds.values())
            control[family] = {"network": POSITIVE_CONTROL, "seeds": seeds, "reached": reached}
    return control


def proposals_of(units: Iterable[Unit], parts: Mapping[str, Mapping[str, Any]]) -> list[Record]:
    """The proposals that are measured; ``best`` says that none is better in both figures."""
    found: list[Record] = []
    for unit in units:
        of_unit = parts.get(unit.key, {})
        if unit.kind == "sample" and "noise" in of_unit:
            validation = of_unit["validation"]
            found.append(
                {
                    "number": unit.seed,
                    "settings": of_unit["proposal"],
                    "validation_accuracy": None
                    if validation["diverged"]
                    else validation["validation_accuracy"],
                    "noise_accuracy": of_unit["noise"]["accuracy"],
                    "parameters": validation["parameters"],
                    "genotype": of_unit["cell"]["genotype"],
                }
            )
    for proposal in found:
        proposal["best"] = _is_whole(proposal) and not any(
            _is_whole(other) and _dominates(other, proposal) for other in found
        )
    return found


def _is_whole(proposal: Record) -> bool:
    return None not in (proposal["validation_accuracy"], proposal["noise_accuracy"])


def _dominates(one: Record, other: Record) -> bool:
    figures = [(p["validation_accuracy"], -p["noise_accuracy"]) for p in (one, other)]
    return figures[0] != figures[1] and all(a >= b for a, b in zip(*figures, strict=True))
