"""The result card: the row that a paper would print, as JSON and Markdown.

To show one more figure, add its key to the card that a run makes, and a line to `FIGURES`.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darts_noise.atomic import write_text
from darts_noise.data.settings import DataConfig
from darts_noise.shown import readable_duration
from darts_noise.space.macro import as_text


def percent(value: float) -> str:
    """Return a share as text.

    >>> percent(0.98765)
    '98.77%'
    """
    return f"{100 * value:.2f}%"


def plain(value: float) -> str:
    """Return a number as text.

    >>> plain(54330), plain(0.123456)
    ('54,330', '0.1235')
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


@dataclass(frozen=True)
class CardFigure:
    """The title and the format of one figure of the card.

    Attributes:
        key: its key in ``card.json``.
        title: its title in ``card.md`` and on the page.
        number: formats a number as text. Other values are written unchanged.
        first: whether the line that a command prints at its end shows it.
        expected: whether the table shows None as "not measured". Other figures that are None are
            left out.
    """

    key: str
    title: str
    number: Callable[[float], str] = plain
    first: bool = False
    expected: bool = False


FIGURES = (
    CardFigure("dataset", "Data set"),
    CardFigure("cell", "Cell"),
    CardFigure("space", "Space"),
    CardFigure("macro", "Whole network"),
    CardFigure("wrong_labels", "Planted wrong labels"),
    CardFigure("noisy_labels", "Method for wrong labels"),
    CardFigure("adversarial", "Adversarial training"),
    CardFigure("channels", "Channels"),
    CardFigure("num_cells", "Cells"),
    CardFigure("hypergradient", "Hypergradient"),
    CardFigure("variants", "Variants"),
    CardFigure("strategy", "Strategy"),
    CardFigure("noise_weight", "λ"),
    CardFigure("noise_penalty", "Penalty of the search"),
    CardFigure("noise_family", "Noise family of the search"),
    CardFigure("objectives", "Further objectives"),
    CardFigure("objective_values", "Values of the objectives"),
    CardFigure("test_accuracy", "Test accuracy", percent, first=True, expected=True),
    CardFigure(
        "best_test_accuracy", "Test accuracy at the epoch with the best validation", percent
    ),
    CardFigure("best_epoch", "That epoch"),
    CardFigure("label_precision", "Right labels among the selected samples", percent),
    CardFigure("test_chance", "Test accuracy of the best constant answer", percent),
    CardFigure("validation_accuracy", "Validation accuracy", percent, first=True, expected=True),
    CardFigure("noise_accuracy", "Training-noise accuracy", percent, first=True, expected=True),
    CardFigure("selectivity", "Selectivity (steps on noise / on data)", first=True),
    CardFigure("noise_protocol", "Noise protocol"),
    CardFigure("noise_grid", "Trainings on noise"),
    CardFigure("noise_diverged", "Of these, diverged"),
    CardFigure("noise_check", "Noise check"),
    CardFigure("noise_real", "The same trainings on real images"),
    CardFigure("positive_control", "Positive control's noise accuracy", percent, expected=True),
    CardFigure("twin_noise_accuracy", "Twin's noise accuracy", percent),
    CardFigure("penalty", "Penalty P(α)"),
    CardFigure("race", "Combinations raced"),
    CardFigure("candidates", "Cells measured"),
    CardFigure("gradient_steps", "Gradient steps"),
    CardFigure("strategy_steps", "Budget of gradient steps"),
    CardFigure("race_steps", "Gradient steps of the race"),
    CardFigure("supernet_steps", "Gradient steps of the supernet"),
    CardFigure("candidates_steps", "Gradient steps of the candidates"),
    CardFigure(
        "cell_validation_accuracy", "Validation accuracy of the best, alone", percent, first=True
    ),
    CardFigure("cell_noise_accuracy", "Noise accuracy of the best, alone", percent, first=True),
    CardFigure("robust_accuracy", "Test accuracy under attack", percent, first=True),
    CardFigure("robust_attack", "That attack"),
    CardFigure("robust_warnings", "Doubts about that attack"),
    CardFigure("parameters", "Parameters", first=True),
    CardFigure("supernet_parameters", "Parameters of the supernet", first=True),
    CardFigure("multiply_adds", "Multiply-adds", first=True),
    CardFigure("epochs", "Epochs", first=True),
    CardFigure("train_samples", "N", first=True),
    CardFigure("seed", "Seed", str, first=True),
    CardFigure("wall_time_s", "Wall time", readable_duration, first=True),
    CardFigure("hardware", "Hardware"),
    CardFigure("precision", "Precision"),
    CardFigure("versions", "Versions"),
)
"""The figures of the table, in its order. ``card.json`` may hold more."""


def describe_wrong_labels(config: DataConfig) -> str | None:
    """Return the planted wrong labels as text, or None.

    >>> describe_wrong_labels(DataConfig(wrong_labels=0.4)), describe_wrong_labels(DataConfig())
    ('40% of the training labels, symmetric', None)
    """
    if not config.wrong_labels:
        return None
    return f"{100 * config.wrong_labels:g}% of the training labels, {config.wrong_labels_kind}"


def write_card(run: Path, card: Mapping[str, Any]) -> None:
    """Write ``card.json`` and ``card.md``, which hold the same figures.

    A number that is not finite, such as the loss of a run that diverged, becomes null in JSON.
    """
    figures = finite(card)
    write_text(run / "card.json", json.dumps(figures, indent=1, allow_nan=False) + "\n")
    write_text(run / "card.md", markdown(figures))


def without_diverged(card: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return the card of a run that diverged, without the figures that then mean nothing.

    These figures become None, are listed under ``diverged``, and are shown as "diverged".
    """
    return {**card, **dict.fromkeys(keys), "diverged": list(keys)} if keys else dict(card)


def shown_figures(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the card as text for a reader: title → text, in the order of `FIGURES`."""
    diverged = card.get("diverged", ())
    shown: dict[str, str] = {}
    for figure in FIGURES:
        if figure.key not in card:
            continue
        if card[figure.key] is not None or figure.expected or figure.key in diverged:
            shown[figure.title] = " ".join(_text(figure, card).split())
        if figure.key == "noise_accuracy":
            shown |= _other_noise(card)
    if control := control_row(card):
        shown["Control"] = control
    return shown


def _other_noise(card: Mapping[str, Any]) -> dict[str, str]:
    """Return a row for each further noise family."""
    shown = {}
    for rows in card.get("other_noise", ()):
        accuracy, noise = rows["noise_accuracy"], rows["noise"]
        text = "diverged" if accuracy is None else percent(accuracy)
        if noise["protocol"] == "selectivity":
            text = f"selectivity {rows['selectivity']}"
        text += f", best constant answer {percent(noise['chance'])}"
        if rows["positive_control"]:
            text += f", control {rows['positive_control']}"
        shown[f"Training-noise accuracy, {noise['family']}"] = text
    return shown


def control_row(card: Mapping[str, Any]) -> str | None:
    """Return the main figures of the control on one line, or None without a control."""
    control = card.get("control")
    if not control:
        return None
    kinds = ("test_accuracy", "noise_accuracy", "parameters")
    shown = [f"{f.title} {_text(f, control)}" for f in FIGURES if f.key in kinds]
    for rows, accuracy in zip(
        card.get("other_noise", ()), control.get("other_noise", ()), strict=False
    ):
        text = "diverged" if accuracy is None else percent(accuracy)
        shown.insert(-1, f"Training-noise accuracy, {rows['noise']['family']} {text}")
    return " | ".join([*shown, f"the same cell {control['network']}"])


def markdown(card: Mapping[str, Any]) -> str:
    """Return the card as a table of two columns."""
    escaped = {title: text.replace("|", "\\|") for title, text in shown_figures(card).items()}
    rows = [f"| {title} | {text} |" for title, text in escaped.items()]
    return "\n".join(["| | |", "|---|---|", *rows]) + "\n"


def row(card: Mapping[str, Any]) -> str:
    """Return the main figures on one line."""
    first = (figure for figure in FIGURES if figure.first and figure.key in card)
    shown = [f"{figure.title} {_text(figure, card)}" for figure in first]
    others = [f"{title} {text.partition(',')[0]}" for title, text in _other_noise(card).items()]
    return " | ".join([*shown[:2], *others, *shown[2:]])


NEAR, FITTED = 0.05, 0.9
"""Thresholds, as shares of the way from the best constant answer to 100%. Below the first, a noise
accuracy counts as chance. From the second on, it counts as memorised."""


def verdict(card: Mapping[str, Any]) -> str:
    """Return one sentence about the meaning of a card's figures, and what to try next.

    >>> import textwrap
    >>> noise = {"protocol": "converged", "family": "uniform", "chance": 0.11,
    ...          "controls": {"resnet18": 1.0}, "control_reached": True}
    >>> card = {"kind": "train", "num_classes": 10, "test_accuracy": 0.98, "noise": noise}
    >>> print(textwrap.fill(verdict({**card, "noise_accuracy": 0.12}), 80))
    The network does not memorise uniform noise: 12.0%, 1.0 points above the best
    constant answer (11.0%), where the control resnet18 fits 100.0%; measure
    another: --noise_family random_pixels.
    """
    main = _search_verdict(card) if card.get("kind") == "search" else _train_verdict(card)
    others = [_other_verdict(rows) for rows in card.get("other_noise", ())]
    return " ".join([*_unlearnt(card), main, *others])


def _unlearnt(card: Mapping[str, Any]) -> list[str]:
    """Return a sentence if the network is hardly better than the best constant answer."""
    of_search = card.get("kind") == "search"
    split, key = ("validation", "chance") if of_search else ("test", "test_chance")
    accuracy, classes = card.get(f"{split}_accuracy"), card.get("num_classes")
    longer = "trainer.max_epochs"
    if of_search and accuracy is None:  # a strategy has no supernet
        accuracy, longer = card.get("cell_validation_accuracy"), "model.candidate_epochs"
    chance = card.get(key, 1 / classes if classes else None)
    if accuracy is None or chance is None or _excess(accuracy, chance) >= 2 * NEAR:
        return []
    control = card.get("control") or {}
    beside = control.get("test_accuracy")
    other = f" (the control: {percent(beside)})" if beside is not None else ""
    return [
        f"The network learns little or nothing of its data: {split} accuracy "
        f"{_above(accuracy, chance)}{other}; train longer: {longer}."
    ]


def _other_verdict(rows: Mapping[str, Any]) -> str:
    """Return one short sentence about a further noise family."""
    noise, accuracy = rows["noise"], rows["noise_accuracy"]
    family, chance = noise["family"], noise["chance"]
    if noise["protocol"] == "selectivity":
        steps = noise.get("shown_selectivity")
        return f"{family} noise: {f'{steps} times as many steps' if steps else 'nothing follows'}."
    if accuracy is None:
        return f"{family} noise: every training diverged."
    proven = noise.get("control_reached") and noise.get("real_reached") is not False
    if _excess(accuracy, chance) >= FITTED:
        what = "memorised"
    elif not proven:
        what = "not memorised, without proof"
    else:
        what = "not memorised" if _excess(accuracy, chance) < NEAR else "memorised in part"
    return f"{family} noise: {what}, {_above(accuracy, chance)}{_controls(noise, ';')}."


def _train_verdict(card: Mapping[str, Any]) -> str:
    noise, accuracy = card.get("noise"), card.get("noise_accuracy")
    if noise is None:
        return (
            "Noise was not measured, so the card says nothing about memorising; leave out "
            "--noise_check."
        )
    family, chance = noise["family"], noise["chance"]
    if noise["protocol"] == "selectivity":
        if noise.get("selectivity") is None:
            return (
                "No training reached half of the real images, so nothing follows about the noise; "
                "try more --noise_epochs."
            )
        return (
            f"The network needs {noise['shown_selectivity']} times as many steps for half of the "
            f"{family} noise as for half of the real images, without a control; --noise_protocol "
            "converged measures how much noise it fits in the end."
        )
    if accuracy is None:
        return (
            f"Every training on {family} noise diverged, which is no evidence of a small noise "
            "fit; try a smaller model.learning_rate or --noise_protocol converged."
        )
    above, is_quick = _above(accuracy, chance), noise["protocol"] == "quick"
    if _excess(accuracy, chance) >= FITTED:
        return (
            f"The network memorises {family} noise: {above}{_controls(noise, ';')}; "
            "try a larger model.noise_weight or another model.space in the search."
        )
    if _unlearnt(card):
        return f"It fits {family} noise only to {above}, which proves nothing."
    if noise.get("real_reached") is False:
        return (
            f"The network fits {family} noise only to {above}, but the same trainings do not fit "
            "real images either, which proves nothing; try more --noise_epochs."
        )
    if noise.get("control_reached") is False:
        return (
            f"The network fits {family} noise only to {above}, which proves nothing, because no "
            f"control fits it either{_controls(noise, ';')}; try more --noise_epochs."
        )
    if not noise.get("control_reached"):
        why, advice = "", "name one with --noise_controls"
        if is_quick:
            why = " (quick trains one only beside a cell without batch norm)"
            advice = "use --noise_protocol converged"
        return (
            f"The network fits {family} noise to {above}, but no control was trained beside it"
            f"{why}, and a standard network may be as low; {advice}."
        )
    if is_quick:
        memorises = (
            "does not memorise" if _excess(accuracy, chance) < NEAR else "memorises a part of"
        )
        return (
            f"Trained as on the data, the network {memorises} {family} noise: {above}"
            f"{_controls(noise, ', where')}; --noise_protocol converged tries stronger trainings."
        )
    if _excess(accuracy, chance) < NEAR:
        beside = _controls(noise, ", where")
        another = "random_labels" if family == "random_pixels" else "random_pixels"
        advice = "" if card.get("other_noise") else f"; measure another: --noise_family {another}"
        return f"The network does not memorise {family} noise: {above}{beside}{advice}."
    return (
        f"The network memorises a part of {family} noise: {above}{_controls(noise, ', where')}; "
        "try a larger model.noise_weight in the search."
    )


def _search_verdict(card: Mapping[str, Any]) -> str:
    alone = "train.py measures the cell itself, on data and on noise."
    chance, twin = card.get("noise_chance"), card.get("twin_noise_accuracy")
    best = card.get("cell_noise_accuracy")
    if not card.get("noise_weight"):
        return f"This search had no penalty (λ = 0): it is the control of one with λ > 0; {alone}"
    accuracy, who = (twin, "The twin") if best is None else (best, "The chosen cell, alone,")
    if chance is None or accuracy is None:
        return f"The penalty measured no accuracy on noise; {alone}"
    above = (
        f"{who} fits {card['noise_family']} noise to {_above(accuracy, chance)}, without a control"
    )
    if _excess(accuracy, chance) < NEAR:
        return f"{above}: so far nothing is memorised, or nothing was trained long enough; {alone}"
    if _excess(accuracy, chance) < FITTED:
        return f"{above}: a part is memorised; try a larger model.noise_weight; {alone}"
    return f"{above}: all is memorised; try a larger model.noise_weight or another model.space."


def _excess(accuracy: float, chance: float) -> float:
    """Return the position of an accuracy on the way from the best constant answer (0) to 1."""
    return (accuracy - chance) / (1 - chance) if chance < 1 else 0.0


def _above(accuracy: float, chance: float) -> str:
    points = 100 * (accuracy - chance)
    side = "above" if points >= 0 else "below"
    return (
        f"{100 * accuracy:.1f}%, {abs(points):.1f} points {side} the best constant answer "
        f"({100 * chance:.1f}%)"
    )


def _controls(noise: Mapping[str, Any], before: str) -> str:
    """Return these words with the best control and its noise accuracy; nothing without controls."""
    found = {k: v for k, v in noise.get("controls", {}).items() if v is not None and v == v}
    if not found:
        return ""
    name = max(found, key=lambda key: found[key])
    verb = " fits" if before.endswith("where") else ":"
    return f"{before} the control {name}{verb} {100 * found[name]:.1f}%"


def _text(figure: CardFigure, card: Mapping[str, Any]) -> str:
    value = card[figure.key]
    if figure.key in card.get("diverged", ()):
        return "diverged"
    if value is None:
        return "not measured"
    if isinstance(value, Mapping):
        return ", ".join(_entry(k, v) for k, v in value.items())
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return figure.number(value) if number else str(value)


def _entry(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(_entry(k, v) for k, v in value.items())
        return f"{key} ({inner})" if inner else key
    return key if value is None else f"{key} {as_text(value)}"


def finite(value: Any) -> Any:
    """Return a JSON value with None instead of every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
