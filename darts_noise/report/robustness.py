"""The accuracy of a network or an ensemble under attack, over the size of the change.

The figures are those that ``darts-noise attack`` and ``darts-noise ensemble evaluate`` write.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from darts_noise.attacks.settings import ATTACK, ENSEMBLE, EPS, MADE_ON
from darts_noise.report.style import OKABE_ITO, RC
from darts_noise.space.json_file import read_json, shown_path

SIZE = (4.4, 2.4)  # inches
ENSEMBLE_FILE = "ensemble.json"
FILES = {**{f"attack_{norm}.json": ATTACK for norm in EPS}, ENSEMBLE_FILE: ENSEMBLE}
"""File in the folder of a run → its format."""
LOOKS = {
    "certified": (OKABE_ITO["black"], ":"),
    "fgsm": (OKABE_ITO["sky"], "-"),
    "pgd": (OKABE_ITO["vermillion"], "--"),
    "square": (OKABE_ITO["green"], "-."),
    "strongest": (OKABE_ITO["blue"], "-"),
    "single": ("#777777", ":"),
    "mean": (OKABE_ITO["blue"], "-"),
    "max": (OKABE_ITO["vermillion"], "--"),
    "vote": (OKABE_ITO["green"], "-."),
}
"""Attack, or rule of an ensemble → colour and style of its line."""


@dataclass(frozen=True)
class Robustness:
    """Accuracies under attack.

    Attributes:
        title: what was attacked, and with how many images.
        norm: ``linf`` or ``l2``.
        eps: the sizes of a change, from 0, with pixels from 0 to 1.
        accuracies: line → accuracy for each of `eps`, in [0, 1].
        warnings: signs that the attacks overstate the robustness.
    """

    title: str
    norm: str
    eps: Sequence[float]
    accuracies: Mapping[str, Sequence[float]]
    warnings: Sequence[str] = ()


def read_robustness(folder: Path) -> list[Robustness]:
    """Return the results in a folder: of attacks in each norm, and of an ensemble.

    Raises:
        ValueError: a file holds something else. The message names the file.
    """
    found: list[Robustness] = []
    for name, form in FILES.items():
        if (file := folder / name).is_file():
            data = read_json(file)
            try:
                if data["format"] != form:
                    raise ValueError
                found += _of_ensemble(data) if form == ENSEMBLE else _of_attack(data)
            except (AttributeError, KeyError, TypeError, ValueError):
                raise ValueError(f"{shown_path(file)}: expected a file of {form}") from None
    return found


def _of_attack(data: Mapping[str, Any]) -> Iterator[Robustness]:
    lines = dict(data["accuracy"])
    if data["certified"] is not None:
        lines = {"certified": data["certified"], **lines}
    yield _checked(f"{data['norm']}, {data['images']:,} test images", data, data["eps"], lines)


def _of_ensemble(data: Mapping[str, Any]) -> Iterator[Robustness]:
    for source, of_rules in data["attacked"].items():
        yield _checked(
            f"{data['members']:,} networks, {', '.join(data['attacks'])}, {data['norm']}, "
            f"{data['images']:,} test images, examples made on {MADE_ON[source]}",
            data,
            [0.0, *data["eps"]],
            {rule: [data["accuracy"][rule], *of] for rule, of in of_rules.items()},
        )


def _checked(
    title: str,
    data: Mapping[str, Any],
    eps: Sequence[float],
    lines: Mapping[str, Sequence[float]],
) -> Robustness:
    for name, values in lines.items():
        if name not in LOOKS or len(values) != len(eps) or not all(0 <= v <= 1 for v in values):
            raise ValueError
    if data["norm"] not in EPS or len(eps) < 2 or not all(size > 0 for size in eps[1:]):
        raise ValueError
    return Robustness(title, data["norm"], eps, lines, list(map(str, data["warnings"])))


def draw_robustness(found: Robustness) -> Figure:
    """Draw the accuracies in per cent over the sizes of a change.

    The axis of the sizes is linear up to the smallest one, and logarithmic after it.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        for name, values in found.accuracies.items():
            colour, style = LOOKS[name]
            shown = [100 * value for value in values]
            axes.plot(found.eps, shown, style, color=colour, marker="o", ms=2.5, label=name)
        axes.set_xscale("symlog", linthresh=found.eps[1], linscale=0.5)
        axes.xaxis.set_major_locator(FixedLocator(list(found.eps)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(-2.0, 102.0)
        axes.set_xlabel(f"eps ({found.norm}, pixels from 0 to 1)")
        axes.set_ylabel("accuracy (%)")
        figure.legend(loc="outside right upper")
    return figure
