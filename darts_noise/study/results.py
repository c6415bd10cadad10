"""What a study has found so far: a file per network and seed, the table, the plot."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from darts_noise.atomic import write_text
from darts_noise.noise.families import describe_noise
from darts_noise.report.card import describe_hardware, versions
from darts_noise.report.noise_plane import NetworkPoint, draw_noise_plane
from darts_noise.report.style import save_figure
from darts_noise.study.networks import Compared, compared_networks
from darts_noise.study.settings import POSITIVE_CONTROL, StudySettings
from darts_noise.study.units import Unit
from darts_noise.train.noise_record import CONTROL_ACCURACY

Record = dict[str, Any]


def records_of(units: Iterable[Unit], parts: Mapping[str, Mapping[str, Any]]) -> list[Record]:
    """One record per network and seed of which anything is known, in the order of the units."""
    records: dict[tuple[str, int], Record] = {}
    for unit in units:
        found = parts.get(unit.key, {})
        if not found:
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


def write_results(
    folder: Path,
    settings: StudySettings,
    config: Mapping[str, Any],
    command: str,
    records: list[Record],
) -> None:
    """Writes ``records/``, ``results.json``, ``table.md`` and ``plane.png`` below the folder.

    Args:
        folder: of the study.
        settings: of the study.
        config: the same, as JSON values.
        command: by which it was started.
        records: from `records_of`.
    """
    for record in records:
        name = f"{record['network']}-seed{record['seed']}.json"
        write_text(folder / "records" / name, _json(record))
    networks = [
        _summary(network, [r for r in records if r["network"] == network.key])
        for network in compared_networks(settings)
    ]
    networks = [summary for summary in networks if summary["seeds"]]
    result = {
        "command": command,
        "hardware": {
            "processor": describe_hardware(torch.device("cpu")),
            "threads": settings.threads,
        },
        "versions": versions(),
        "settings": config,
        "positive_control": positive_control(settings, records),
        "networks": networks,
    }
    write_text(folder / "results.json", _json(result))
    write_text(folder / "table.md", table(settings, result))
    if any("test_accuracy" in network for network in networks):
        save_figure(_plane(settings, networks, records), folder / "plane")


def positive_control(settings: StudySettings, records: list[Record]) -> Record:
    """By family: the largest noise accuracy of the positive control for each of its seeds."""
    of_control = [r for r in records if r["network"] == POSITIVE_CONTROL]
    found: Record = {}
    for family in map(describe_noise, settings.families):
        seeds = {
            str(r["seed"]): r["converged"][family]["accuracy_largest"]
            for r in of_control
            if family in r["converged"]
        }
        if seeds:
            reached = all((value or 0.0) >= CONTROL_ACCURACY for value in seeds.values())
            found[family] = {"network": POSITIVE_CONTROL, "seeds": seeds, "reached": reached}
    return found


def _summary(network: Compared, records: list[Record]) -> Record:
    """Mean, deviation and n of every figure of a network, and the figures of every seed."""
    seeds = [figures(record) for record in records]
    names = list(dict.fromkeys(name for seed in seeds for name in seed if name != "seed"))
    return {
        "network": network.key,
        "title": network.title,
        "noise_weight": network.noise_weight,
        **{name: _statistics([seed.get(name) for seed in seeds]) for name in names},
        "seeds": seeds,
    }


def figures(record: Record) -> Record:
    """The numbers of a network and seed that are compared; None where one diverged."""
    test = record["test"] or {}
    shown: Record = {"seed": record["seed"]}
    if test:
        shown["parameters"] = test["parameters"]
        shown["test_accuracy"] = None if test["diverged"] else test["test_accuracy"]
    for protocol in ("converged", "quick"):
        for family, fit in record[protocol].items():
            shown[f"{protocol}/{family}"] = fit["accuracy"]
    return shown


def _statistics(values: list[Any]) -> Record:
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "sd": statistics.stdev(known) if len(known) > 1 else None,
        "n": len(known),
    }


def table(settings: StudySettings, result: Record) -> str:
    """Markdown: a row per network, the mean ± standard deviation of every figure."""
    families = [describe_noise(family) for family in settings.families]
    columns = {f"converged/{family}": f"{family} noise" for family in families}
    if settings.quick is not None:
        columns[f"quick/{families[0]}"] = f"{families[0]} noise, quick"
    columns = {"test_accuracy": "test accuracy", **columns}
    names = ["network", "n", "parameters", *columns.values()]
    lines = [f"# {settings.name}", "", _row(names), _row(["---"] * len(names))]
    for summary in result["networks"]:
        parameters = summary.get("parameters", {}).get("mean")
        cells = [summary["title"], str(len(summary["seeds"]))]
        cells.append("" if parameters is None else f"{parameters:,.0f}")
        cells += [_shown(summary.get(column), len(summary["seeds"])) for column in columns]
        lines.append(_row(cells))
    how = settings.converged
    runs = len(how.grid())
    lines += [
        "",
        "Accuracies in per cent, mean ± standard deviation over the seeds. Noise accuracy: the "
        f"largest of {runs} trainings from scratch on {how.samples:,} fixed images, at most "
        f"{how.epochs} epochs; quick: on as many images as there are to train on, with the recipe "
        "of the test accuracy.",
        "",
    ]
    for family in families:
        lines.append(_control_line(family, result["positive_control"].get(family)))
    return "\n".join(lines) + "\n"


def _control_line(family: str, control: Record | None) -> str:
    if control is None:
        return f"- positive control on {family}: not measured yet, so nothing is shown for it"
    seeds = ", ".join(
        "diverged" if value is None else f"{100 * value:.1f} %"
        for value in control["seeds"].values()
    )
    line = f"- positive control on {family}: {control['network']} fits {seeds}"
    weak = f" — below {100 * CONTROL_ACCURACY:.0f} %: the measurement is too weak to say anything"
    return line if control["reached"] else line + weak


def _shown(figure: Mapping[str, Any] | None, seeds: int) -> str:
    if figure is None or figure["mean"] is None:
        return ""
    deviation = "" if figure["sd"] is None else f" ± {100 * figure['sd']:.2f}"
    count = "" if figure["n"] == seeds else f" (n = {figure['n']})"
    return f"{100 * figure['mean']:.2f}{deviation}{count}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plane(settings: StudySettings, networks: list[Record], records: list[Record]) -> Any:
    family = describe_noise(settings.noise_family)
    # The curve of the searches runs along λ.
    shown = [network for network in networks if "test_accuracy" in network]
    order = sorted(shown, key=lambda n: (not _is_search(n), n["noise_weight"] or 0.0))
    points = [
        NetworkPoint(
            summary["title"],
            [
                (_or_nan(seed.get("test_accuracy")), _or_nan(seed.get(f"converged/{family}")))
                for seed in summary["seeds"]
            ],
            curve="search" if _is_search(summary) else None,
        )
        for summary in order
    ]
    chances = [r["converged"][family]["chance"] for r in records if family in r["converged"]]
    return draw_noise_plane(points, max(chances, default=None), f"{settings.name}: {family} noise")


def _is_search(summary: Record) -> bool:
    return str(summary["network"]).startswith("lambda_")


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
