"""The files of a study's results, made anew from what is known at the time."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from darts_noise.atomic import write_text
from darts_noise.noise.families import describe_noise
from darts_noise.report.card import describe_hardware, versions
from darts_noise.report.noise_plane import NetworkPoint, draw_noise_plane
from darts_noise.report.style import save_figure
from darts_noise.space.genotype import Genotype
from darts_noise.study.networks import compared_networks
from darts_noise.study.records import (
    Record,
    positive_control,
    proposals_of,
    records_of,
    summary_of,
    with_earlier,
)
from darts_noise.study.settings import StudySettings
from darts_noise.study.table import markdown
from darts_noise.study.units import Unit


def write_results(
    folder: Path,
    settings: StudySettings,
    command: str,
    units: list[Unit],
    parts: Mapping[str, Mapping[str, Any]],
    kept: Mapping[str, Any],
) -> None:
    """Writes the files of the results into the folder of the study; docs/study.md lists them.

    Args:
        folder: of the study.
        settings: of the study.
        command: by which it was started.
        units: of the study.
        parts: what is known of each.
        kept: the settings that decide the results, as the file states them.
    """
    records = records_of(units, parts)
    for record in records:
        file = folder / "records" / f"{record['network']}-seed{record['seed']}.json"
        write_text(file, _json(with_earlier(record, file)))
        if record["cell"] is not None:
            Genotype.from_dict(record["cell"]["genotype"]).to_json(folder / "cells" / file.name)
    summaries = [summary_of(network, records) for network in compared_networks(settings)]
    result: Record = {
        "command": command,
        "hardware": {
            "processor": describe_hardware(torch.device("cpu")),
            "threads": settings.threads,
        },
        "versions": versions(),
        "settings": kept,
        "positive_control": positive_control(settings, records),
        "networks": [summary for summary in summaries if summary["seeds"]],
        "proposals": proposals_of(units, parts),
    }
    write_text(folder / "results.json", _json(result))
    write_text(folder / "table.md", markdown(settings, result))
    _draw(folder, settings, result["networks"], records)


def _draw(
    folder: Path, settings: StudySettings, summaries: list[Record], records: list[Record]
) -> None:
    """Those networks that have a test accuracy; the searches along λ."""
    family = describe_noise(settings.noise_family)
    tested = [summary for summary in summaries if "test_accuracy" in summary]
    if not tested:
        return
    order = sorted(tested, key=lambda s: (not _is_search(s), s["noise_weight"]))
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
    figure = draw_noise_plane(points, max(chances, default=None), f"{settings.name}: {family}")
    save_figure(figure, folder / "plane")


def _is_search(summary: Record) -> bool:
    return summary["noise_weight"] is not None


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
