"""The race over macro choices, before α is searched.

A supernet over macro choices is expensive, and a mixture hides what one of its parts can memorise.
So each combination of the choices is judged on discrete networks, trained from scratch as
candidates are, with the cells held fixed: F = L_val + λ · P, the mean over the reference cells.
Then α is searched with the best combination.

The race is successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943) with two rungs. The
first trains all combinations for `SHARES[0]` of a candidate's epochs and keeps the better half. The
second has the full length and keeps one. A race of two combinations needs only the second. There
is no shorter rung, because the noise fit of a shorter training does not order networks as the full
one does (docs/results/noise_fit_by_choice.md). Each rung trains anew: the learning rate falls to 0
over the length of a training, so the first epochs of a long training are not a short one.

A combination is left without its last trainings as soon as it cannot be among those that its rung
keeps. F is a sum of terms that are never negative, and P counts the best fit after any epoch, so
the sum so far is a lower bound of F. The noise is trained first. The result is always the same as
without this saving.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from darts_noise.atomic import write_text
from darts_noise.data.module import ImageDataModule
from darts_noise.data.seeds import Stream, generator
from darts_noise.distributed.collectives import on_first_process
from darts_noise.errors import SettingError, within
from darts_noise.nets.input_filter import require_colour
from darts_noise.reading import Reading
from darts_noise.search.architecture import discretise
from darts_noise.search.candidate import reading_from_json, reading_to_json
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.module import SearchModule, spaces_of
from darts_noise.search.settings import SearchConfig
from darts_noise.space.genotype import Genotype, format_json
from darts_noise.space.json_file import read_json, shown_path
from darts_noise.space.macro import MACRO, Value, as_text, check_macro
from darts_noise.space.shown import shown

SHARES = (0.4, 1.0)
"""The length of each rung as a share of a candidate's epochs: 40 and 100 epochs on the noise."""

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
    def name(self) -> str:
        """The values of the combination."""
        return ", ".join(map(as_text, self.macro.values()))

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
        kind, readings = ("val", self.validation) if self.validation else ("noise", self.noise)
        measured = f"{self.epochs[0]} epochs  {kind} {readings[-1]}"
        return f"{self.name}  {measured}  F {self.shown_objective}"

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


@within("model")
def require_suited(config: SearchConfig, data: ImageDataModule) -> None:
    """Raise a `SettingError` if a combination does not suit the images."""
    for space in spaces_of(config):
        require_colour(space, data.in_channels)


@within("model")
def combinations(config: SearchConfig) -> list[dict[str, Value]]:
    """Return the combinations of macro choices that race: all, or ``race`` different ones.

    If ``macro`` is a list, these are the combinations of all its mappings. They are drawn so that
    each value of a choice occurs about equally often, and from each mapping in turn. With one
    mapping, all values occur if ``race`` is not smaller than the largest number of values.

    Raises:
        SettingError: the space leaves nothing to choose.
    """
    mappings, most = [dict(space.macro) for space in spaces_of(config)], config.race
    names = dict.fromkeys(itertools.chain.from_iterable(mappings))
    rows = [[macro.get(name, MACRO[name][:1]) for name in names] for macro in mappings]
    found: dict[tuple[Value, ...], None] = {}
    for values in itertools.chain.from_iterable(itertools.product(*row) for row in rows):
        found[values] = None
        if len(found) > most:
            found = dict.fromkeys(_drawn(rows, most, generator(config.seed, Stream.RACE)))
            break
    if len(found) < 2:
        raise SettingError(
            "race",
            f"expected 0, because no macro choice of space {config.space!r} has several "
            f"candidates, got {most}",
        )
    return [dict(zip(names, values, strict=True)) for values in found]


def _drawn(
    rows: Sequence[Sequence[Sequence[Value]]], count: int, random: torch.Generator
) -> Iterable[tuple[Value, ...]]:
    """Return this number of different combinations, from the candidates of each mapping in turn."""
    dealt = [zip(*(_dealt(values, random) for values in row), strict=True) for row in rows]
    found: dict[tuple[Value, ...], None] = {}
    for hand in itertools.cycle(dealt):
        if len(found) == count:
            break
        found[next(hand)] = None  # a combination that was dealt before changes nothing
    return found


def _dealt(values: Sequence[Value], random: torch.Generator) -> Iterator[Value]:
    """Yield all values in a random order, then all in another one, and so on."""
    while True:
        yield from (values[i] for i in torch.randperm(len(values), generator=random).tolist())


def narrowed(config: SearchConfig, macro: Macro) -> SearchConfig:
    """Return the settings of a search with these macro choices."""
    return replace(config, macro={name: [value] for name, value in macro.items()})


def reference_cells(module: SearchModule) -> list[Genotype]:
    """Return the cells in which all combinations are trained, drawn from a uniform α."""
    space, random = replace(module.space, macro=()), generator(module.config.seed, Stream.RACE, 1)
    shape = len(space.edges), len(space.operations)
    return [
        discretise(space, {k: torch.rand(shape, generator=random) for k in ("normal", "reduce")})
        for _ in range(module.config.race_cells)
    ]


def race(
    config: SearchConfig,
    module: SearchModule,
    data: ImageDataModule,
    told: Callable[[Sequence[Heat]], None] = lambda heats: None,
    known: Iterable[Heat] = (),
) -> list[Heat]:
    """Race the combinations of a search against each other; see `standing` for the result.

    The same settings give the same heats. The state of torch's generators does not change. With
    several processes, all call this function: the first one trains, and all get the readings.

    Args:
        config: the settings, with ``race`` above 0.
        module: the search with any one of the combinations, built for the data.
        data: the data of the search.
        told: is called after each training with all heats so far.
        known: heats of an interrupted race with the same settings. They may be incomplete.

    Raises:
        SettingError: a combination has a ``colour`` that needs images of three channels.
    """
    require_suited(config, data)
    trainings, cells = CandidateTrainings(module, data), reference_cells(module)
    done = {(heat.epochs, *heat.macro.items()): heat for heat in known}
    left: list[Macro] = list(combinations(config))
    heats: list[Heat] = []
    for share in SHARES[-math.ceil(math.log2(len(left))) :]:
        keep = 1 if share == SHARES[-1] else (len(left) + 1) // 2
        rung: list[Heat] = []
        for macro in left:
            whole = sorted(heat.objective for heat in rung if heat.is_complete)
            bar = whole[keep - 1] if len(whole) >= keep else math.inf
            heat = Heat(macro, trainings.epochs(share), cells=len(cells))
            heat = done.get((heat.epochs, *macro.items()), heat)
            while not heat.is_complete and heat.objective < bar:
                heat = on_first_process(partial(_train, heat, bar, share, trainings, cells))
                told([*heats, *rung, heat])
            rung.append(heat)
        heats += rung
        left = [heat.macro for heat in sorted(rung, key=lambda heat: heat.objective)[:keep]]
    return heats


def _train(
    heat: Heat, bar: float, share: float, trainings: CandidateTrainings, cells: Sequence[Genotype]
) -> Heat:
    """Return the heat with one more training, which stops once the objective reaches `bar`."""
    noise, before = trainings.module.noise_set, trainings.steps
    of_noise = noise is not None and len(heat.noise) < heat.cells
    cell = cells[len(heat.noise if of_noise else heat.validation)]
    genotype = replace(cell, macro=heat.macro)
    channels = trainings.channels(genotype)
    if of_noise:
        assert noise is not None
        worst = 0.0

        def reached(loss: float) -> bool:
            nonlocal worst
            worst = max(worst, trainings.weighted_penalty(loss))
            return heat.objective + worst / heat.cells >= bar

        fit = trainings.on_noise(genotype, channels, noise, reached, share=share)
        reached(fit.loss)
        term = worst if math.isfinite(fit.loss) else math.inf  # infinite: all diverged
        trained = replace(heat, noise=(*heat.noise, fit))
    else:
        reading = trainings.on_data(genotype, channels, share=share)
        term = reading.loss
        trained = replace(heat, validation=(*heat.validation, reading))
    steps = heat.steps + trainings.steps - before
    return replace(trained, objective=heat.objective + term / heat.cells, steps=steps)


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
