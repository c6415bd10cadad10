"""The results of a study as Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

from darts_noise.noise.families import describe_noise
from darts_noise.study.settings import StudySettings
from darts_noise.train.noise_record import CONTROL_ACCURACY

Record = dict[str, Any]


def markdown(settings: StudySettings, result: Record) -> str:
    """A row per network with the mean ± standard deviation of every figure; the proposals.

    Args:
        settings: of the study.
        result: as in ``results.json``.
    """
    lines = [f"# {settings.name}", ""]
    if result["networks"]:
        lines += [*_networks(settings, result), "", *_legend(settings), ""]
        for family in map(describe_noise, settings.families):
            lines.append(_control(family, result["positive_control"].get(family)))
    if result["proposals"]:
        lines += ["", "## Proposals", "", *_proposals(settings, result["proposals"])]
    return "\n".join(lines) + "\n"


def _networks(settings: StudySettings, result: Record) -> Iterable[str]:
    families = [describe_noise(family) for family in settings.families]
    columns = {"test_accuracy": "test accuracy"}
    columns |= {f"converged/{family}": f"{family} noise" for family in families}
    if settings.quick is not None:
        columns[f"quick/{families[0]}"] = f"{families[0]} noise, quick"
    yield _row(["network", "n", "parameters", *columns.values()])
    yield _row(["---"] * (3 + len(columns)))
    for summary in result["networks"]:
        seeds = len(summary["seeds"])
        parameters = summary.get("parameters", {}).get("mean")
        shown = "" if parameters is None else f"{parameters:,.0f}"
        figures = [mean_of_seeds(summary.get(column), seeds) for column in columns]
        yield _row([summary["title"], str(seeds), shown, *figures])


def _legend(settings: StudySettings) -> Iterable[str]:
    how = settings.converged
    yield (
        "Accuracies in per cent, mean ± standard deviation over the seeds. Noise accuracy: the "
        f"largest of {len(how.grid())} trainings from scratch on {how.samples:,} fixed images, at "
        f"most {how.epochs} epochs; each seed has a set of its own. Quick: one training with the "
        "recipe and the epochs of that on the data."
    )


def _control(family: str, control: Record | None) -> str:
    if control is None:
        return (
            f"- {family}: no positive control yet, and so a low accuracy on it says nothing so far"
        )
    seeds = ", ".join(map(_per_cent, control["seeds"].values()))
    line = f"- {family}: the positive control {control['network']} fits {seeds}"
    if control["reached"]:
        return line
    least = f"{100 * CONTROL_ACCURACY:.0f} %"
    return f"{line}. **That is less than {least}, so the measurement is too weak.**"


def _proposals(settings: StudySettings, proposals: list[Record]) -> Iterable[str]:
    keys = list(settings.sample.settings)
    names = ["number", *keys, "parameters", "validation accuracy", "noise accuracy", "best"]
    yield _row(names)
    yield _row(["---"] * len(names))
    for proposal in proposals:
        values = [proposal["settings"].get(key) for key in keys]
        yield _row(
            [
                str(proposal["number"]),
                *(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values),
                f"{proposal['parameters']:,}",
                _per_cent(proposal["validation_accuracy"]),
                _per_cent(proposal["noise_accuracy"]),
                "yes" if proposal["best"] else "",
            ]
        )
    yield ""
    yield "Best: no other proposal is better in one of the two figures and as good in the other."


def _per_cent(value: float | None) -> str:
    return "diverged" if value is None else f"{100 * value:.2f} %"


def mean_of_seeds(figure: Mapping[str, Any] | None, seeds: int) -> str:
    """A figure of a network in per cent, with its n where that is not all of the seeds.

    >>> mean_of_seeds({"mean": 0.98123, "sd": 0.001, "n": 3}, 3)
    '98.12 ± 0.10'
    >>> mean_of_seeds({"mean": 0.5, "sd": None, "n": 1}, 2)
    '50.00 (n = 1)'
    """
    if figure is None:
        return ""
    if figure["mean"] is None:
        return "diverged"
    deviation = "" if figure["sd"] is None else f" ± {100 * figure['sd']:.2f}"
    count = "" if figure["n"] == seeds else f" (n = {figure['n']})"
    return f"{100 * figure['mean']:.2f}{deviation}{count}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
