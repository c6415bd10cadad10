"""The results of a study: records of each network and seed, their means, the table, the plot."""

import json
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from darts_noise.atomic import write_text
from darts_noise.errors import counted
from darts_noise.noise.families import describe_noise
from darts_noise.report.front import draw_front, mean_points, pareto
from darts_noise.report.measured import describe_hardware, versions
from darts_noise.report.noise_plane import NetworkPoint, draw_noise_plane
from darts_noise.report.style import save_figure
from darts_noise.space.genotype import Genotype
from darts_noise.study.settings import OBJECTIVE, POSITIVE_CONTROL, StudyConfig
from darts_noise.study.units import PROTOCOLS, Compared, compared_networks
from darts_noise.train.noise_record import CONTROL_ACCURACY

Record = dict[str, Any]
OF_SEARCH = ("objective", "gradient_steps")
"""Figures of a search in the comparison of strategies: F and its cost."""


@dataclass(frozen=True)
class StudyResult:
    """The results of a study so far.

    Attributes:
        networks: for each network the mean, deviation and n of every figure, and the figures of
            each seed.
        positive_control: by noise family, the noise accuracy of the positive control, and whether
            it is high enough.
        proposals: the measured proposals of the sampler.
        table: all results as Markdown.
        path: the folder of the study. docs/study.md lists its files.
        hypervolume: by strategy, the mean over the seeds of the hypervolume, its 95% interval (by
            Student's t) and the number of seeds. Empty if the study compares no strategies.
        front: title of each network on the Pareto front → the means of its two figures, in the
            order of the first. Empty without the setting ``front``.
        slow: the noise fits that prove nothing, because the same trainings fit too few real images.
    """

    networks: list[Record]
    positive_control: Record
    proposals: list[Record]
    table: str
    path: Path
    hypervolume: Record = field(default_factory=dict)
    front: Record = field(default_factory=dict)
    slow: list[Record] = field(default_factory=list)


def write_results(
    folder: Path,
    config: StudyConfig,
    found: Mapping[str, Record],
    proposals: list[Record],
    about: Mapping[str, Any],
) -> StudyResult:
    """Write the results of a study into its folder.

    Args:
        folder: folder of the study.
        config: settings of the study.
        found: the results so far, by the keys of the units.
        proposals: the measured proposals.
        about: the command and the settings, for the file.
    """
    records = records_of(config, found)
    for record in records:
        file = folder / "records" / f"{record['network']}-seed{record['seed']}.json"
        write_text(file, _json(record))
        if record["cell"] is not None:
            Genotype.from_dict(record["cell"]["genotype"]).to_json(folder / "cells" / file.name)
    summaries = [
        summary_of(network, records, fits_of(config), config.front or ())
        for network in compared_networks(config)
    ]
    result: Record = {
        "positive_control": positive_control(config, records),
        "networks": [summary for summary in summaries if summary["seeds"]],
        "proposals": proposals,
    }
    if slow := slow_learners(records):
        result["slow"] = slow
    if config.strategies:
        result["hypervolume"] = hypervolumes(config, result["networks"])
    if config.front is not None:
        result["front"] = front_of(config, result["networks"])
    hardware = {"processor": describe_hardware(torch.device("cpu")), "threads": config.threads}
    made = {"command": about["command"], "hardware": hardware, "versions": versions()}
    write_text(folder / "results.json", _json({**made, "settings": about["settings"], **result}))
    text = table(config, result)
    write_text(folder / "table.md", text)
    _draw(folder, config, result["networks"], records)
    if config.front is not None:
        points = points_of(config, config.front, result["networks"])
        save_figure(draw_front(points, config.front, config.name), folder / "front")
    return StudyResult(**result, table=text, path=folder)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


# ------------------------------------------------------------------------------ records


def fits_of(config: StudyConfig) -> dict[str, str]:
    """Return the columns of the table for the noise fits: figure → heading."""
    names = [describe_noise(family) for family in config.families]
    shown = {f"converged/{name}": f"{name} noise" for name in names}
    if config.quick is not None:
        shown[f"quick/{names[0]}"] = f"{names[0]} noise, quick"
    return shown


def records_of(config: StudyConfig, found: Mapping[str, Record]) -> list[Record]:
    """Return one record for each network and seed that has results."""
    rank = {describe_noise(family): i for i, family in enumerate(config.families)}
    records = []
    for network in compared_networks(config):
        for seed in range(network.seeds):
            start = f"{network.key}/{seed}/"
            known = {k.removeprefix(start): found[k] for k in sorted(found) if k.startswith(start)}
            record = {"network": network.key, "title": network.title, "seed": seed}
            record |= {part: known.get(part) for part in ("cell", "test")}
            for protocol in PROTOCOLS:
                fits = {k.partition("/")[2]: v for k, v in known.items() if k.startswith(protocol)}
                order = sorted(fits, key=lambda family: rank.get(family, len(rank)))
                record[protocol] = {family: fits[family] for family in order}
            if known:
                records.append(record)
    return records


def figures_of(record: Record, fits: Iterable[str], front: Iterable[str] = ()) -> Record:
    """Return the figures of a record for the comparison. A training that diverged has None.

    Args:
        record: results of a network and seed.
        fits: see `fits_of`.
        front: figures of the training that are only wanted for the front.
    """
    figures: Record = {"seed": record["seed"]}
    cell = record["cell"] or {}
    figures |= {key: cell[key] for key in OF_SEARCH if key in cell}
    values = cell.get("objective_values") or {}
    figures |= {f"{OBJECTIVE}{name}": value for name, value in values.items()}
    if test := record["test"]:
        figures |= {key: test[key] for key in ("parameters", *front) if key in test}
        figures["test_accuracy"] = None if test["diverged"] else test["test_accuracy"]
    for key in fits:
        protocol, _, family = key.partition("/")
        if family in record[protocol]:
            figures[key] = record[protocol][family]["accuracy"]
    return figures


def summary_of(
    network: Compared,
    records: Iterable[Record],
    fits: Collection[str],
    front: Collection[str] = (),
) -> Record:
    """Return mean, deviation and n of every figure of a network, and the figures of each seed."""
    own = [record for record in records if record["network"] == network.key]
    seeds = [figures_of(record, fits, front) for record in own]
    names = dict.fromkeys(name for seed in seeds for name in seed if name != "seed")
    return {
        "network": network.key,
        "title": network.title,
        "noise_weight": network.noise_weight if network.control is None else None,
        **({} if network.strategy is None else {"strategy": network.strategy}),
        **{name: mean_and_deviation([seed.get(name) for seed in seeds]) for name in names},
        "seeds": seeds,
    }


def mean_and_deviation(values: Sequence[float | None]) -> Record:
    """Return mean, sample standard deviation and number of the values, without None.

    >>> mean_and_deviation([0.25, None, 0.75])
    {'mean': 0.5, 'sd': 0.3535533905932738, 'n': 2}
    """
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "sd": statistics.stdev(known) if len(known) > 1 else None,
        "n": len(known),
    }


def positive_control(config: StudyConfig, records: Iterable[Record]) -> Record:
    """Return, by family, the control's noise accuracy of each seed and whether all reach 99%."""
    of_control = [record for record in records if record["network"] == POSITIVE_CONTROL]
    control: Record = {}
    for family in map(describe_noise, config.families):
        seeds = {
            str(record["seed"]): record["converged"][family]["accuracy_largest"]
            for record in of_control
            if family in record["converged"]
        }
        if seeds:
            reached = all((value or 0.0) >= CONTROL_ACCURACY for value in seeds.values())
            control[family] = {"network": POSITIVE_CONTROL, "seeds": seeds, "reached": reached}
    return control


def slow_learners(records: Iterable[Record]) -> list[Record]:
    """Return the noise fits of networks that do not learn as many real images either."""
    return [
        {
            **{key: record[key] for key in ("network", "title", "seed")},
            "family": family,
            **{key: fit[key] for key in ("accuracy", "real_accuracy")},
        }
        for record in records
        for family, fit in record["converged"].items()
        if fit.get("real_reached") is False
    ]


def interval_of(values: Sequence[float]) -> list[float] | None:
    """Return the 95% interval of the mean of a few values by Student's t. None: fewer than 2.

    >>> interval_of([1.0, 2.0, 3.0])
    [-0.48..., 4.48...]
    """
    from scipy import stats

    if len(values) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values)
    mean, half = statistics.fmean(values), half / len(values) ** 0.5
    return [mean - half, mean + half]


def hypervolume(points: Iterable[tuple[float, float]]) -> float:
    """Return the area that is worse than some point, for (test accuracy, noise accuracy).

    The reference point is the worst one: test accuracy 0 and noise accuracy 1. So a network that
    learns the data fully and the noise not at all has 1.

    >>> hypervolume([(0.5, 0.5), (1.0, 0.75), (0.25, 0.75)])
    0.375
    """
    area, least = 0.0, 1.0
    for test, noise in sorted(points, key=lambda point: (-point[0], point[1])):
        # No remaining point has a larger test accuracy. What is new lies below the noise so far.
        area += test * max(0.0, least - noise)
        least = min(least, noise)
    return area


def hypervolumes(config: StudyConfig, networks: Iterable[Record]) -> Record:
    """Return the mean hypervolume of each strategy with its interval; see `StudyResult`.

    The hypervolume is computed for each seed, from its networks of all λ. One over all seeds
    together would grow with their number. A seed
    counts once all of its λ are measured. A training that diverged adds nothing.
    """
    noise = f"converged/{describe_noise(config.noise_family)}"
    points: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for summary in networks:
        for seed in summary["seeds"] if "strategy" in summary else ():
            if "test_accuracy" in seed and noise in seed:
                accuracies = seed["test_accuracy"] or 0.0, _or_else(seed[noise], 1.0)
                of_strategy = points.setdefault(summary["strategy"], {})
                of_strategy.setdefault(seed["seed"], []).append(accuracies)
    found: Record = {}
    for name, seeds in points.items():
        whole = [each for each in seeds.values() if len(each) == len(config.noise_weights)]
        if whole:
            areas = [hypervolume(each) for each in whole]
            found[name] = {
                "mean": statistics.fmean(areas),
                "interval": interval_of(areas),
                "n": len(whole),
            }
    return found


def points_of(
    config: StudyConfig, figures: tuple[str, str], networks: Iterable[Record]
) -> dict[str, list[tuple[float, float]]]:
    """Return two figures of every seed of each network, by its title. NaN: not measured."""
    noise = f"converged/{describe_noise(config.noise_family)}"
    keys = [noise if figure == "noise_accuracy" else figure for figure in figures]
    found = {}
    for summary in networks:
        pairs = [[_or_else(s.get(key), math.nan) for key in keys] for s in summary["seeds"]]
        found[summary["title"]] = [(first, second) for first, second in pairs]
    return found


def front_of(config: StudyConfig, networks: Iterable[Record]) -> Record:
    """Return the Pareto front of a study with the setting ``front``; see `StudyResult`."""
    assert config.front is not None
    means = mean_points(points_of(config, config.front, networks))
    return {title: list(means[title]) for title in pareto(means, config.front)}


def proposals_of(
    config: StudyConfig, found: Mapping[str, Record], proposed: Mapping[int, Record]
) -> list[Record]:
    """Return the measured proposals. The figure of a training that diverged is None."""
    proposals: list[Record] = []
    for number in range(config.sample.trials):
        noise = found.get(f"sample/{number}/converged/{describe_noise(config.noise_family)}")
        trained = found.get(f"sample/{number}/validation")
        if noise is None or trained is None:
            continue
        accuracy = None if trained["diverged"] else trained["validation_accuracy"]
        proposals.append(
            {
                "number": number,
                "settings": proposed[number],
                "validation_accuracy": accuracy,
                "noise_accuracy": noise["accuracy"],
                "parameters": trained["parameters"],
                "genotype": found[f"sample/{number}/cell"]["genotype"],
            }
        )
    return proposals


# ------------------------------------------------------------------------------ table


def table(config: StudyConfig, found: Record) -> str:
    """Return the results as Markdown: one row per network with mean ± deviation, and the proposals.

    Args:
        config: settings of the study.
        found: fields of `StudyResult`, by name.
    """
    lines = [f"# {config.name}", ""]
    if found["networks"]:
        how = config.converged
        lines += [
            *_networks(config, found["networks"]),
            "",
            "Accuracies in per cent, mean ± standard deviation over the seeds. Noise accuracy: the "
            f"largest of {counted(len(how.grid()), 'training')} from scratch on "
            f"{counted(how.samples, 'fixed image')}, at most "
            f"{counted(how.epochs, 'epoch')}; each seed has another set. Quick: one training on "
            "noise with the recipe and the epochs of the training on the data.",
            *_about_searches(config),
            "",
        ]
        control = found["positive_control"]
        lines += [_control(f, control.get(f)) for f in map(describe_noise, config.families)]
        lines += map(_slow, found.get("slow", ()))
    if found.get("hypervolume"):
        lines += ["", "## Hypervolume", "", *_hypervolumes(found["hypervolume"]), ""]
        lines += [
            f"Test accuracy, and accuracy on {describe_noise(config.noise_family)} noise: the "
            "area that the networks of a seed dominate, one for each λ, from test accuracy 0 and "
            "noise accuracy 1. Largest: 1. Mean over the seeds and its 95% interval by Student's t."
        ]
    if found.get("front"):
        assert config.front is not None
        rows = [
            [title, *(_figure(*of) for of in zip(config.front, pair, strict=True))]
            for title, pair in found["front"].items()
        ]
        names = [name.replace("_", " ") for name in config.front]
        lines += ["", "## Front", "", *_rows(["network", *names], rows), ""]
        lines += ["No other network is at least as good in both figures and better in one."]
    if found["proposals"]:
        lines += ["", "## Proposals", ""]
        lines += _proposals(list(config.sample.settings), found["proposals"])
        lines += ["", "Best: no other proposal is better in one of the two figures and as good in "]
        lines[-1] += "the other."
    return "\n".join(lines) + "\n"


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(row)} |" for row in cells]


def _figure(name: str, value: float) -> str:
    """Return a figure of the front: accuracies in per cent, counts with commas."""
    if name.endswith("_accuracy"):
        return f"{100 * value:.2f}"
    return f"{value:.6g}" if name.startswith(OBJECTIVE) else f"{value:,.0f}"


def _about_searches(config: StudyConfig) -> list[str]:
    """Return a paragraph about F and the cost, in a study of strategies."""
    if not config.strategies:
        return []
    settings = [
        config.search.model.objectives,
        *(s.get("objectives") for s in config.strategies.values()),
    ]
    more = " + Σ weight·T" if any(settings) else ""
    text = f"F = L_val + λ·P{more} of the chosen cell alone. Gradient steps: those of all its "
    text += "trainings"
    names = dict.fromkeys(n.strategy for n in compared_networks(config) if n.takes_steps)
    if names:
        text += (
            f". The budget of {', '.join(map(str, names))} is the number of the {config.strategy} "
            "search of the same λ and seed; the measurement that exceeds it is completed"
        )
    return ["", f"{text}."]


def _hypervolumes(found: Mapping[str, Record]) -> list[str]:
    rows = []
    for name, own in found.items():
        interval = " to ".join(f"{end:.4f}" for end in own["interval"] or ())
        rows.append([name, str(own["n"]), f"{own['mean']:.4f}", interval])
    return _rows(["strategy", "n", "hypervolume", "interval"], rows)


def _networks(config: StudyConfig, networks: list[Record]) -> list[str]:
    columns = {"test_accuracy": "test accuracy", **fits_of(config)}
    rows = []
    for summary in networks:
        seeds = len(summary["seeds"])
        parameters = summary.get("parameters", {}).get("mean")
        shown = "" if parameters is None else f"{parameters:,.0f}"
        figures = [mean_of_seeds(summary.get(column), seeds) for column in columns]
        if config.strategies:
            figures += [mean_of_seeds(summary.get("objective"), seeds, 1, 4)]
            figures += [mean_of_seeds(summary.get("gradient_steps"), seeds, 1, 0)]
        rows.append([summary["title"], str(seeds), shown, *figures])
    of_search = ["F", "gradient steps"] if config.strategies else []
    return _rows(["network", "n", "parameters", *columns.values(), *of_search], rows)


def _control(family: str, control: Record | None) -> str:
    if control is None:
        return f"- {family}: no positive control yet, so a low accuracy on it proves nothing yet"
    seeds = ", ".join(map(_per_cent, control["seeds"].values()))
    line = f"- {family}: the positive control {control['network']} fits {seeds}"
    if control["reached"]:
        return line
    least = f"{100 * CONTROL_ACCURACY:.0f}%"
    return f"{line}. **That is less than {least}, so the measurement is too weak.**"


def _slow(fit: Record) -> str:
    return (
        f"- {fit['title']}, seed {fit['seed']}: {_per_cent(fit['accuracy'])} of {fit['family']} "
        f"proves nothing, because the same trainings fit {_per_cent(fit['real_accuracy'])} of as "
        "many real images"
    )


def _proposals(keys: list[str], proposals: list[Record]) -> list[str]:
    rows = []
    for proposal in proposals:
        values = [proposal["settings"].get(key) for key in keys]
        rows.append(
            [
                str(proposal["number"]),
                *(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values),
                f"{proposal['parameters']:,}",
                _per_cent(proposal["validation_accuracy"]),
                _per_cent(proposal["noise_accuracy"]),
                "yes" if proposal["best"] else "",
            ]
        )
    names = ["number", *keys, "parameters", "validation accuracy", "noise accuracy", "best"]
    return _rows(names, rows)


def _per_cent(value: float | None) -> str:
    return "diverged" if value is None else f"{100 * value:.2f}%"


def mean_of_seeds(
    figure: Mapping[str, Any] | None, seeds: int, scale: float = 100.0, digits: int = 2
) -> str:
    """Return a figure of a network in per cent, with its n if it is not the number of seeds.

    >>> mean_of_seeds({"mean": 0.98123, "sd": 0.001, "n": 3}, 3)
    '98.12 ± 0.10'
    >>> mean_of_seeds({"mean": 0.5, "sd": None, "n": 1}, 2)
    '50.00 (n = 1)'
    """
    if figure is None:
        return ""
    if figure["mean"] is None:
        return "diverged"
    deviation = "" if figure["sd"] is None else f" ± {scale * figure['sd']:,.{digits}f}"
    count = "" if figure["n"] == seeds else f" (n = {figure['n']})"
    return f"{scale * figure['mean']:,.{digits}f}{deviation}{count}"


# ------------------------------------------------------------------------------ plot


def _draw(folder: Path, config: StudyConfig, networks: list[Record], records: list[Record]) -> None:
    """Draw the networks that have a test accuracy, and connect the searches in the order of λ."""
    family = describe_noise(config.noise_family)
    tested = [summary for summary in networks if "test_accuracy" in summary]
    if not tested:
        return
    seeds = points_of(config, ("test_accuracy", "noise_accuracy"), tested)
    points = [
        NetworkPoint(
            summary["title"],
            seeds[summary["title"]],
            curve=None if summary["noise_weight"] is None else summary.get("strategy", "search"),
        )
        for summary in sorted(tested, key=lambda s: (s["noise_weight"] is None, s["noise_weight"]))
    ]
    chances = [r["converged"][family]["chance"] for r in records if family in r["converged"]]
    figure = draw_noise_plane(points, max(chances, default=None), f"{config.name}: {family}")
    save_figure(figure, folder / "plane")


def _or_else(value: float | None, other: float) -> float:
    return other if value is None else value
