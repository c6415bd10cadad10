"""Measure every cell of a small space on scikit-learn's digits: the table ``digits.csv``.

    python -m benchmarks.exhaustive_digits
    python -m benchmarks.exhaustive_digits --cells 10

Search strategies are compared on this table in seconds; see `benchmarks.strategies_on_table`.

The space has cells of one node with two edges, and four operations. The normal and the reduction
cell are chosen separately, and so is the norm: batch norm or none. These are 512 networks of four
cells and 8 channels. The second and third cell are reduction cells, so the two edges of a normal
cell have the same input in the first cell, but not in the last one. So no network is counted twice.

Each cell is trained from scratch three times:

- on 575 images, as a candidate of a search. The accuracies on 863 validation images and 359 test
  images are read at the end;
- on 500 images of uniform noise, and on 500 real images with random labels, with Adam at 0.003.
  The accuracy on these images is read after every third epoch of 60, and the largest counts. A
  training stops at 99%.

Rows are in ``darts_noise/tables/digits.csv``; see `darts_noise.search.table` for its form. Besides
the accuracies, a row has:

- ``steps``: optimiser steps on the data and on uniform noise, the cost of the cell in a search;
- ``parameters``, and the CPU time of the three trainings, ``cpu_s``;
- ``loss_N``: the sum of the mean training losses of the first N epochs on the data;
- ``uniform_N``: the largest accuracy on uniform noise after N epochs.

The cells are measured in a random order, so that the rows of a stopped command are a random sample
of the space. The command continues from the file.
"""

import argparse
import csv
import io
import itertools
import json
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from torch import nn

import darts_noise as dn
from benchmarks import commands
from benchmarks.noise_fit_by_choice import Measurement, Sizes, lengths
from darts_noise.atomic import write_text

FILE = "exhaustive_digits"
SIZES = Sizes(
    samples=500,
    epochs=60,
    noise_rate=3e-3,
    data_epochs=20,
    validation_fraction=0.6,
    num_cells=4,
    real_target=1.0,
)
OPERATIONS = ("skip_connect", "avg_pool_3x3", "dw_conv_3x3", "conv_3x3")
NORMALISATIONS = ("batch", "none")
NOISE = ("uniform", "random_labels")

Row = dict[str, str | float]


def every_cell() -> Iterator[dn.Genotype]:
    """Yield every cell of the space once."""
    for macro in NORMALISATIONS:
        for a, b, c, d in itertools.product(OPERATIONS, repeat=4):
            normal, reduce = [[(a, 0), (b, 1)]], [[(c, 0), (d, 1)]]
            yield dn.Genotype(normal, [2], reduce, [2], macro={"normalisation": macro})


def key(genotype: dn.Genotype) -> Row:
    """Return the columns that name a cell."""
    return {"cell": replace(genotype, macro={}).to_text(), **genotype.macro}


def figures(measurement: Measurement, genotype: dn.Genotype) -> Row:
    """Measure a cell, and return the other columns of its row."""
    sizes, started = measurement.sizes, time.process_time()
    losses: list[float] = []

    def look(net: nn.Module, steps: int, loss: float) -> bool:
        losses.append(loss)
        return False

    training = measurement.trained(genotype, sizes.data_epochs, look)
    fits = {name: measurement.fit(genotype, name, sizes.epochs) for name in NOISE}
    per_epoch = -(-sizes.samples // sizes.noise_batch_size)
    return {
        "validation": round(measurement.accuracy(training.net, measurement.data.validation), 4),
        "test": round(measurement.accuracy(training.net, measurement.data.test), 4),
        # A training that diverges at once has fitted nothing.
        **{name: fit["accuracy"] or 0.0 for name, fit in fits.items()},
        "steps": training.steps + per_epoch * fits["uniform"]["epochs"],
        "parameters": sum(p.numel() for p in training.net.parameters()),
        "cpu_s": round(time.process_time() - started, 1),
        **{f"loss_{n}": round(sum(losses[:n]), 4) for n in lengths(sizes.data_epochs)},
        **{f"uniform_{n}": found for n, found in fits["uniform"]["after"].items()},
    }


def rows_of(file: Path) -> list[Row]:
    """Return the rows of a table as they are, or no rows if there is no file."""
    if not file.exists():
        return []
    return list(csv.DictReader(io.StringIO(file.read_text("utf-8"))))


def measure(table: Path, sizes: Sizes, cells: list[dn.Genotype], most: int) -> None:
    """Measure cells that the table lacks, and write it after each one.

    Args:
        table: the file.
        sizes: the sizes of the measurement.
        cells: all cells, in the order of the file.
        most: number of cells to measure.

    Raises:
        SystemExit: the file holds rows of other sizes.
    """
    about = commands.RESULTS / f"{FILE}.json"
    known = json.loads(about.read_text("utf-8"))["setting"] if about.exists() else asdict(sizes)
    if known != asdict(sizes):
        raise SystemExit(f"{about} and {table} are of another setting; move or delete them")

    def name(row: Mapping[str, object]) -> tuple[str, str]:
        return str(row["cell"]), str(row["normalisation"])

    done = {name(row): row for row in rows_of(table)}
    missing = [cell for cell in cells if name(key(cell)) not in done]
    random.Random(0).shuffle(missing)
    measurement = Measurement(sizes)
    for cell in missing[:most]:
        row = {**key(cell), **figures(measurement, cell)}
        done[name(row)] = row
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(done[n] for n in map(name, map(key, cells)) if n in done)
        write_text(table, text.getvalue())
        result = {
            "command": f"python -m benchmarks.{FILE}",
            "setting": asdict(sizes),
            **commands.surroundings(),
            "cells": len(done),
            "of": len(cells),
            "cpu_s": round(sum(float(row["cpu_s"]) for row in done.values())),
        }
        commands.store(FILE, result)
        print(f"{len(done)}/{len(cells)}", *row.values(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, help="cells to measure (default: all)")
    cells = list(every_cell())
    most = parser.parse_args().cells
    if most is not None and most < 1:
        parser.error(f"--cells: expected 1 or more, got {most}")
    table = Path(dn.__file__).parent / "tables" / "digits.csv"
    measure(table, SIZES, cells, most or len(cells))


if __name__ == "__main__":
    main()
