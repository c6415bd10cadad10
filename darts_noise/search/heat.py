"""The trainings of one combination of macro choices in a race, and the file ``race.json``."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darts_noise.atomic import write_text
from darts_noise.reading_record import Reading, reading_from_json, reading_to_json
from darts_noise.shown import shown
from darts_noise.space.genotype import Genotype, format_json
from darts_noise.space.json_file import read_json, shown_path
from darts_noise.space.macro import Value, as_text, check_macro

Macro = Mapping[str, Value]


@dataclass(frozen=True)
class Heat:
    """The trainings of one combination in one rung.

    Attributes:
        macro: the combination: choice → value.
        epochs: epochs on the noise and on the data.
        noise: the fit of each reference cell to the noise set. Empty if λ is 0.
        validation: loss and accuracy of each reference cell on the images that train α. Trainings
            that could not change the result are missing.
        objective: F, or a lower bound of F if trainings are missing. Infinite if one diverged.
        steps: optimiser steps.
        cells: number of reference cells.
    """

    macro: Macro
    epochs: tuple[int, int]
    noise: tuple[Reading, ...] = ()
    validation: tuple[Reading, ...] = ()
    objective: float = 0.0
    steps: int = 0
    cells: int = 2

    @property
    def is_complete(self) -> bool:
        """Whether no training is missing."""
        return len(self.validation) == self.cells

    @property
    def accuracies(self) -> tuple[float | None, float | None]:
        """Mean accuracy on the images that train α and on the noise; None if not measured."""
        validation, noise = (
            sum(reading.accuracy for reading in part) / len(part) if part else None
            for part in (self.validation, self.noise)
        )
        return validation, noise

    @property
    def shown_objective(self) -> str:
        """The objective as text, marked if it is a lower bound."""
        if not math.isfinite(self.objective):
            return "diverged"
        return f"{'' if self.is_complete else '≥ '}{self.objective:.4f}"

    def __str__(self) -> str:
        on_noise, on_data = self.epochs
        if self.validation:
            last = f"{on_data} epochs  val {self.validation[-1]}"
        else:
            last = f"{on_noise} epochs  noise {self.noise[-1]}"
        return f"{last}  F {self.shown_objective}"

    def to_dict(self) -> dict[str, Any]:
        """Return the heat as a JSON object. The number of cells is left out."""
        return {
            "macro": dict(self.macro),
            "epochs": list(self.epochs),
            "noise": [reading_to_json(reading) for reading in self.noise],
            "validation": [reading_to_json(reading) for reading in self.validation],
            "objective": self.objective if math.isfinite(self.objective) else None,
            "steps": self.steps,
        }

    @classmethod
    def from_dict(cls, data: object, cells: int) -> "Heat":
        """Return the heat that `to_dict` wrote. Raise ``ValueError`` for another value."""
        keys = set(cls.__dataclass_fields__) - {"cells"}
        if not isinstance(data, Mapping) or data.keys() != keys:
            raise ValueError(f"expected a heat of a race, got {shown(data)}")
        macro, epochs, objective = data["macro"], data["epochs"], data["objective"]
        readings = data["noise"], data["validation"]
        if not (
            isinstance(macro, Mapping)
            and isinstance(epochs, list)
            and [type(number) for number in (*epochs, data["steps"])] == [int] * 3
            and (objective is None or type(objective) is float)
            and all(isinstance(part, list) and len(part) <= cells for part in readings)
        ):
            raise ValueError(f"expected a heat of a race, got {shown(data)}")
        noise, validation = (tuple(map(reading_from_json, part)) for part in readings)
        return cls(
            dict(check_macro(name, value) for name, value in macro.items()),
            (epochs[0], epochs[1]),
            noise,
            validation,
            math.inf if objective is None else objective,
            data["steps"],
            cells,
        )


def differences(combinations: Sequence[Macro]) -> list[str]:
    """Return the choices of each combination, without those that are the same in all of them.

    >>> differences([{"gain": "bounded", "pooling": "none"}, {"gain": "free", "pooling": "none"}])
    ['gain bounded', 'gain free']
    """
    differ = [
        name
        for name, value in combinations[0].items()
        if any(macro[name] != value for macro in combinations)
    ]
    return [
        ", ".join(f"{name} {as_text(macro[name])}" for name in differ) for macro in combinations
    ]


def standing(heats: Iterable[Heat]) -> list[Heat]:
    """Return the last heat of each combination, the winner of the race first."""
    last: dict[Any, Heat] = {}
    for heat in heats:
        key = tuple(heat.macro.items())
        last.pop(key, None)  # so that equal objectives keep the order of the last rung
        last[key] = heat
    return sorted(last.values(), key=lambda heat: (-heat.epochs[0], heat.objective))


def write_race(path: Path, cells: Iterable[Genotype], heats: Iterable[Heat]) -> None:
    """Write the file ``race.json`` of a search, in the order of the trainings."""
    rows = {
        "cells": [cell.to_dict() for cell in cells],
        "heats": [heat.to_dict() for heat in heats],
    }
    write_text(path, format_json(rows))


def read_race(path: Path) -> tuple[list[Genotype], list[Heat]]:
    """Return the reference cells and the heats that `write_race` wrote.

    Raises:
        ValueError: the file holds something else. The message names the file.
    """
    data = read_json(path)
    if not isinstance(data, Mapping) or not all(
        isinstance(data.get(key), list) for key in ("cells", "heats")
    ):
        raise ValueError(f"{shown_path(path)}: expected the cells and heats of a race")
    try:
        cells = [Genotype.from_dict(cell) for cell in data["cells"]]
        return cells, [Heat.from_dict(heat, len(cells)) for heat in data["heats"]]
    except ValueError as error:
        raise ValueError(f"{shown_path(path)}: {error}") from None
