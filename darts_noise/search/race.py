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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from darts_noise.data.module import ImageDataModule
from darts_noise.data.seeds import Stream, generator
from darts_noise.distributed.collectives import on_first_process
from darts_noise.errors import SettingError, within
from darts_noise.nets.input_filter import require_colour
from darts_noise.search.architecture import discretise
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.heat import Heat, Macro
from darts_noise.search.module import SearchModule
from darts_noise.search.parts import spaces_of
from darts_noise.search.settings import SearchConfig
from darts_noise.space.genotype import Genotype
from darts_noise.space.macro import MACRO, Value

SHARES = (0.4, 1.0)
"""The length of each rung as a share of a candidate's epochs: 40 and 100 epochs on the noise."""


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
    """Race the combinations of a search against each other.

    `darts_noise.search.heat.standing` says which one has won.

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
        term = reading.loss + trainings.module.objectives.total(trainings.terms)
        trained = replace(heat, validation=(*heat.validation, reading))
    steps = heat.steps + trainings.steps - before
    return replace(trained, objective=heat.objective + term / heat.cells, steps=steps)
