"""Measure whether networks that fit little noise also resist attacks, pruning and wrong labels.

    python -m benchmarks.correlations

The networks are a random sample of those in ``darts_noise/tables/digits.csv``, which has their
noise fit; see `benchmarks.exhaustive_digits`. Each is trained again on the data as in that table,
with the same seed. Then the accuracy on the test images is read:

- under attack: PGD, linf, 20 steps from one random start, for each of `EPS`;
- after pruning: the smallest weights become 0, for each of `SPARSITIES`. There is no training
  after it, but batch norms get new statistics from the training images;
- after another training, in which a share `WRONG` of the training labels is wrong. It has as many
  epochs as a training on noise.

``docs/results/correlations.json`` has the rows and Spearman's ρ of each pair of figures, over all
networks and for each norm alone. Its intervals are bootstrap intervals over the networks. The
command also draws ``correlations.svg`` and ``.png``. It continues from the file.
"""

import argparse
import copy
import itertools
import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import nn

import darts_noise as dn
from benchmarks import commands
from benchmarks.cheap_predictors import targets
from benchmarks.exhaustive_digits import SIZES, every_cell, key
from benchmarks.noise_fit_by_choice import Measurement, Sizes
from benchmarks.strategies_on_table import DIGITS
from darts_noise.attacks.pixels import OnPixels
from darts_noise.data.images import LabelledImages, Normalisation
from darts_noise.examine.attacks import attack_images
from darts_noise.nets.gain import used_weights
from darts_noise.reading import evaluating, recompute_statistics, whole_set
from darts_noise.report.measured import count_parameters
from darts_noise.report.style import OKABE_ITO, RC, save_figure
from darts_noise.runs.robustness import test_images
from darts_noise.search.objectives.prunability import pruned

FILE = "correlations"
EPS = (0.05, 0.1)
"""On validation images of eight networks, the median accuracies were 67% and 14%."""
SPARSITIES = (0.8, 0.95)
WRONG = 0.4
CELLS = 150
DRAWN = {
    "uniform": "accuracy on\nuniform noise",
    "robust_0.05": "accuracy\nunder attack",
    "pruned_0.8": "accuracy,\n80% pruned",
    "wrong_labels": "accuracy,\n40% wrong labels",
    "test": "test accuracy",
}
"""The figures of the plot, with their names."""
EXPLAINING = ("test", "parameters")
"""Figures that may explain the correlation of two others."""
LOOKS = {"all": ("#555555", "o"), "batch": (OKABE_ITO["blue"], "o"), "none": ("#D55E00", "^")}
"""Group of networks → colour and marker."""

Array = NDArray[np.float64]
Found = dict[str, Any]


def pruned_copy(
    net: nn.Module, sparsity: float, images: LabelledImages, normalisation: Normalisation
) -> nn.Module:
    """Return a copy of a network without its smallest weights.

    In a network of bounded gain, the weights are compared after the rescaling of the layers: the
    scale of the stored weights has no effect.

    Args:
        net: the network, which does not change.
        sparsity: share of the weights of convolutions and linear layers that become 0.
        images: training images, from which batch norms get new statistics. Otherwise many networks
            would guess.
        normalisation: normalisation of the images.
    """
    found = copy.deepcopy(net)
    weights = list(found.parameters())
    with torch.no_grad():
        left = pruned(weights, sparsity, used_weights(found, weights))
        for stored, own in zip(weights, left, strict=True):
            stored.copy_(own)
    stream = whole_set(images, normalisation, torch.device("cpu"))
    recompute_statistics(found, (stream.batch(k)[0] for k in range(stream.batches_per_epoch)))
    return found


def figures(measurement: Measurement, wrong: Measurement, genotype: dn.Genotype) -> Found:
    """Train a cell on right and on wrong labels, and return its figures.

    Args:
        measurement: the trainings of the table.
        wrong: the same trainings with wrong labels.
        genotype: the cell.
    """
    started, data, sizes = time.process_time(), measurement.data, measurement.sizes
    net = measurement.trained(genotype, sizes.data_epochs).net

    def accuracy(other: nn.Module) -> float:
        return round(measurement.accuracy(other, data.test), 4)

    config = dn.AttackConfig("linf", EPS, ("pgd",), steps=20, starts=1, samples=None)
    with evaluating(net):
        on_pixels = OnPixels(net, data.normalisation)
        attacked = attack_images(on_pixels, *test_images(data, None, sizes.seed), config)
    test, *robust = attacked.accuracy()
    return {
        "test": round(test, 4),
        **{f"robust_{eps:g}": round(a, 4) for eps, a in zip(EPS, robust, strict=True)},
        **{
            f"pruned_{share:g}": accuracy(pruned_copy(net, share, data.train, data.normalisation))
            for share in SPARSITIES
        },
        "wrong_labels": accuracy(wrong.trained(genotype, sizes.epochs).net),
        "parameters": count_parameters(net),
        "cpu_s": round(time.process_time() - started, 1),
    }


def measure(sizes: Sizes, cells: Sequence[dn.Genotype]) -> Found:
    """Measure the cells that the file lacks, and write the file after each one.

    Raises:
        SystemExit: the file holds rows of other sizes.
    """
    path = commands.RESULTS / f"{FILE}.json"
    setting = {**asdict(sizes), "eps": [*EPS], "sparsities": [*SPARSITIES], "wrong": WRONG}
    known: Found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if known.get("setting", setting) != setting:
        raise SystemExit(f"{path} holds rows of another setting; move or delete it")
    rows: list[Found] = known.get("rows", [])
    done = {(row["cell"], row["normalisation"]) for row in rows}
    measurement, wrong = Measurement(sizes), Measurement(sizes, wrong_labels=WRONG)
    result = {
        "command": f"python -m benchmarks.{FILE}",
        "setting": setting,
        **commands.surroundings(),
        "rows": rows,
    }
    for number, cell in enumerate(cells, 1):
        if tuple(key(cell).values()) in done:
            continue
        rows.append({**key(cell), **figures(measurement, wrong, cell)})
        commands.store(FILE, result)
        print(f"{number}/{len(cells)}", *rows[-1].values(), flush=True)
    return result


def with_noise_fit(rows: Sequence[Found], table: dn.CellTable) -> list[Found]:
    """Return the rows of cells that a table has, with its noise fits."""
    fits = {tuple(key(row.genotype).values()): targets(row, SIZES.target) for row in table.rows}
    return [
        {**row, **{name: fits[cell][name] for name in ("uniform", "random_labels")}}
        for row in rows
        if (cell := (row["cell"], row["normalisation"])) in fits
    ]


def spearman(values: Array) -> Array:
    """Return Spearman's ρ of each pair of columns. NaN: a column is constant.

    >>> spearman(np.array([[1.0, 8.0], [2.0, 4.0], [3.0, 2.0]])).round(6).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = np.corrcoef(rankdata(values, axis=0), rowvar=False)
    return found


def given(rho: Array, known: int) -> Array:
    """Return the partial correlations: of what a column, `known`, does not explain of the others.

    Applied twice, it gives those of what two columns do not explain.

    >>> given(np.array([[1.0, 0.5, 0.5], [0.5, 1.0, 0.25], [0.5, 0.25, 1.0]]), 0)[1, 2].tolist()
    0.0
    """
    own = rho[known]
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = (rho - np.outer(own, own)) / np.sqrt(np.outer(1 - own**2, 1 - own**2))
    return found


def with_interval(
    values: Array, of: Callable[[Array], Array] = spearman, draws: int = 2000, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Return a matrix of correlations, and its 95% bootstrap interval (percentile method).

    Args:
        values: (networks, figures). The networks are drawn anew.
        of: values → correlations, (figures, figures).
        draws: number of resamples.
        seed: seed of the resamples.
    """
    chance = np.random.default_rng(seed)
    drawn = [of(values[chance.integers(len(values), size=len(values))]) for _ in range(draws)]
    finite = np.stack([np.where(np.isfinite(found), found, np.nan) for found in drawn])
    low, high = np.nanquantile(finite, [0.025, 0.975], axis=0)
    return of(values), low, high


def correlations(rows: Sequence[Found]) -> dict[str, Found]:
    """Return ρ and its interval of each pair of figures, for each group of networks.

    Returns:
        Group → ``n``, ``rho`` and ``partial``, the correlations given both of `EXPLAINING`. Each
        has pair of figures → [ρ, lower end, upper end], or None if a figure is constant.
    """
    names = [name for name in rows[0] if name not in ("cell", "normalisation", "cpu_s")]
    result: dict[str, Found] = {}
    for group in LOOKS:
        own = [row for row in rows if group in ("all", row["normalisation"])]
        values = np.array([[row[name] for name in names] for row in own])
        result[group] = {"n": len(own), "rho": _pairs(names, with_interval(values))}
        if all(name in names for name in EXPLAINING):
            found = _pairs(names, with_interval(values, partial(_given_both, names=names)))
            of_others = {k: v for k, v in found.items() if not {*k.split(", ")} & {*EXPLAINING}}
            result[group]["partial"] = of_others
    return result


def _given_both(values: Array, names: Sequence[str]) -> Array:
    rho = spearman(values)
    for name in EXPLAINING:
        rho = given(rho, names.index(name))
    return rho


def _pairs(names: Sequence[str], found: Sequence[Array]) -> Found:
    pairs: Found = {}
    for (i, first), (j, second) in itertools.combinations(enumerate(names), 2):
        numbers = [round(float(of[i, j]), 3) for of in found]
        pairs[f"{first}, {second}"] = numbers if all(map(math.isfinite, numbers)) else None
    return pairs


def pair(pairs: Mapping[str, Any], first: str, second: str) -> Any:
    """Return ρ and its interval of two figures, in any order."""
    return pairs.get(f"{first}, {second}", pairs.get(f"{second}, {first}"))


def draw(rows: Sequence[Found], found: Mapping[str, Found]) -> Figure:
    """Draw every pair of `DRAWN`: the networks below the diagonal, ρ with its interval above."""
    size = len(DRAWN)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(7.6, 7.0), layout="constrained")
        panels = figure.subplots(size, size, squeeze=False)
        for i, second in enumerate(DRAWN):
            for j, first in enumerate(DRAWN):
                axes = panels[i, j]
                if i == j:
                    axes.set_axis_off()
                    axes.text(
                        0.5,
                        0.5,
                        DRAWN[first],
                        ha="center",
                        va="center",
                        weight="bold",
                        transform=axes.transAxes,
                    )
                elif i > j:
                    _draw_networks(axes, rows, first, second)
                    axes.tick_params(labelleft=j == 0, labelbottom=i == size - 1)
                else:
                    pairs = {group: pair(of["rho"], first, second) for group, of in found.items()}
                    _draw_intervals(axes, pairs)
        names = {"all": "all networks", "batch": "batch norm", "none": "no norm"}
        for group, (colour, marker) in LOOKS.items():
            label = f"{names[group]} (n = {found[group]['n']})"
            panels[-1, -1].plot([], [], marker, color=colour, ms=4, label=label)
        figure.legend(loc="outside lower center", ncols=len(LOOKS))
    return figure


def _draw_networks(axes: Axes, rows: Sequence[Found], first: str, second: str) -> None:
    for group, (colour, marker) in LOOKS.items():
        own = [row for row in rows if row["normalisation"] == group]
        x, y = ([100 * row[name] for row in own] for name in (first, second))
        axes.plot(x, y, marker, color=colour, ms=2.5, alpha=0.6, markeredgewidth=0)
    axes.margins(0.08)


def _draw_intervals(axes: Axes, pairs: Mapping[str, Sequence[float] | None]) -> None:
    """Draw ρ of each group as a point with its interval as a line, on an axis from −1 to 1."""
    axes.axvline(0, color="#BBBBBB", linewidth=0.6)
    for height, (group, numbers) in enumerate(pairs.items()):
        if numbers is not None:
            colour, marker = LOOKS[group]
            rho, low, high = numbers
            axes.plot([low, high], [-height] * 2, color=colour, linewidth=1.0)
            axes.plot(rho, -height, marker, color=colour, ms=3.5)
            axes.annotate(
                f"{rho:.2f}", (rho, -height), (0, 4), textcoords="offset points",
                ha="center", size=6.0, color=colour,
            )  # fmt: skip
    axes.set_xlim(-1.05, 1.05)
    axes.set_ylim(0.7 - len(pairs), 0.8)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xticks([-1, 0, 1])
    axes.tick_params(labelsize=6.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=CELLS, help=f"number of networks [{CELLS}]")
    parser.add_argument("--table", type=Path, default=DIGITS, help="table with the noise fits")
    args = parser.parse_args()
    if args.cells < 1:
        parser.error(f"--cells: expected 1 or more, got {args.cells}")
    cells = list(every_cell())
    random.Random(0).shuffle(cells)  # the order in which the table is measured
    result = measure(SIZES, cells[: args.cells])
    rows = with_noise_fit(result["rows"], dn.CellTable.from_csv(args.table))
    if len(rows) < len(result["rows"]):
        print(f"{args.table} lacks {len(result['rows']) - len(rows)} of these networks")
    result["spearman"] = correlations(rows)
    commands.store(FILE, result)
    save_figure(draw(rows, result["spearman"]), commands.RESULTS / FILE)
    for group, of in result["spearman"].items():
        print(group, of["n"], of["rho"])


if __name__ == "__main__":
    main()
