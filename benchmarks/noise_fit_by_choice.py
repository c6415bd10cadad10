"""Measure how one operation, or one choice for the whole network, changes noise fit.

    python -m benchmarks.noise_fit_by_choice

Each row is one small network for scikit-learn's digits: three cells of one node, the same operation
on both edges, and 8 channels in the first cell. There are two kinds of rows:

- each operation, in a network without norms, with a bounded gain, and with batch norm;
- each value of a macro choice, changed alone in the network of `conv_3x3` without norms, and in
  that of `conv_3x3` with a bounded gain.

A network is trained from scratch on 1,000 images, and its accuracy on these images is read: on
three families of noise, and on real images. The training is one of the protocol `converged`: Adam
at 1e-3, initial weights × 1, 100 epochs. As there, a training on real images ends at 90%. For the
validation accuracy, the network is trained on the training images as a candidate of a search is.
Test images are not used.

The command takes about an hour of one core. To stay there, it makes one training for each set
instead of a grid, with batches of 128. It reads a training after every fifth epoch, and stops a
training on noise at 99%. It leaves out:

- `none` and `noise`, which do not see the image, and `nor_conv_1x1` and `nor_conv_3x3`, which are
  other names of `conv_1x1` and `conv_3x3`;
- with a bounded gain, the operations that are not in the space `bounded`;
- `colour`, which needs three channels, `positions` 4, because the last map has 2×2 positions, and
  some values of `width`, `features` and `logit_scale`.

A race trains anew for each rung, with a shorter schedule. Every third row therefore has trainings
of these lengths too. The file holds Spearman's ρ of the short trainings and the full one.

Finished rows are in ``docs/results/noise_fit_by_choice_digits.json``. A command that was stopped
continues from it.
"""

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lightning_fabric import Fabric
from scipy.stats import spearmanr
from torch import nn

import darts_noise as dn
from benchmarks import commands
from darts_noise.data.batches import BatchStream
from darts_noise.data.splits import stratified_subset
from darts_noise.reading import EVALUATION_BATCH, read
from darts_noise.search.candidate_trainings import DECAY, RATES
from darts_noise.space.macro import Value, as_text
from darts_noise.space.spaces import get_space
from darts_noise.train.loop import Recipe, Training, train_from_scratch
from darts_noise.train.module import usual_optimiser
from darts_noise.train.noise_record import CONTROL_ACCURACY, REAL_ACCURACY
from darts_noise.train.noise_training import TrainingSet, measure_fit
from darts_noise.train.settings import GRADIENT_CLIP

FILE = "noise_fit_by_choice_digits"
NETWORKS: Mapping[str, Mapping[str, Value]] = {
    "none": {"normalisation": "none"},
    "bounded": {"gain": "bounded", "reduction": "average", "logit_scale": 256.0},
    "batch": {},
}
"""The networks in which the operations are measured, with their macro choices."""
SHARES = (0.05, 0.15, 0.4, 1.0)
"""The short trainings and the full one, as shares of its epochs."""
BLIND = ("none", "noise", "nor_conv_1x1", "nor_conv_3x3")
"""The operations that are left out."""
COMMON: Mapping[str, tuple[Value, ...]] = {
    "input_filter": ("blur_3x3", "blur_5x5"),
    "pooling": ("average_2", "average_4"),
    "width": (0.25,),
    "contrast": ("centred", "standardised", "smooth"),
    "filters": ("haar", "gabor", "whitened"),
    "reductions": ("first", "second"),
    "positions": (2.0,),
    "features": (16.0,),
}
CHANGED: Mapping[str, Mapping[str, tuple[Value, ...]]] = {
    "none": {
        "normalisation": ("layer",),
        "initialisation": ("orthogonal",),
        "reduction": ("average",),
        "logit_scale": (64.0, 1024.0),
        **COMMON,
    },
    "bounded": {
        "logit_scale": (64.0, 1024.0, 4096.0),
        "logit_scaling": ("learnt",),
        "reduction": ("strided",),
        **COMMON,
    },
    "batch": {},
}
"""The values of each macro choice that are measured alone, in the network of `REFERENCE`."""
REFERENCE = "conv_3x3"
FAMILIES = ("uniform", "random_pixels", "random_labels")


@dataclass(frozen=True)
class Sizes:
    """The sizes of the measurement."""

    samples: int = 1000
    epochs: int = 100
    noise_batch_size: int = 128
    noise_rate: float = 1e-3
    target: float = CONTROL_ACCURACY
    real_target: float = REAL_ACCURACY
    data_epochs: int = 40
    data_batch_size: int = 64
    validation_fraction: float = 0.3
    channels: int = 8
    num_cells: int = 3
    seed: int = 0


def lengths(epochs: int) -> list[int]:
    """Return the epochs of the short trainings and of the full one.

    >>> lengths(100), lengths(40)
    ([5, 15, 40, 100], [2, 6, 16, 40])
    """
    return [math.ceil(share * epochs) for share in SHARES]


@dataclass(frozen=True)
class Row:
    """One network: an operation on both edges of each cell, and at most one changed choice."""

    network: str
    operation: str
    choice: str | None = None
    value: Value | None = None

    @property
    def genotype(self) -> dn.Genotype:
        cell = [[(self.operation, 0), (self.operation, 1)]]
        changed = {} if self.choice is None else {self.choice: self.value}
        macro = {**NETWORKS[self.network], **changed}
        return dn.Genotype(
            normal=cell, normal_concat=[2], reduce=cell, reduce_concat=[2], macro=macro
        )

    @property
    def name(self) -> str:
        """The key of the row in the file.

        >>> Row("none", "conv_3x3").name, Row("bounded", "conv_3x3", "logit_scale", 64.0).name
        ('none/conv_3x3', 'bounded/logit_scale=64')
        """
        if self.choice is None or self.value is None:
            return f"{self.network}/{self.operation}"
        return f"{self.network}/{self.choice}={as_text(self.value)}"


def all_rows() -> Iterator[Row]:
    """Yield every network once, first those that the others are compared with."""
    yield from (Row(network, REFERENCE) for network in CHANGED)
    for network, choices in CHANGED.items():
        known = get_space("bounded").operations if network == "bounded" else dn.list_operations()
        others = [operation for operation in known if operation not in (*BLIND, REFERENCE)]
        yield from (Row(network, operation) for operation in others)
        for choice, values in choices.items():
            yield from (Row(network, REFERENCE, choice, value) for value in values)


class Measurement:
    """The trainings of a row, on the training images of the digits and on noise of their shape.

    Args:
        sizes: the sizes.
        wrong_labels: share of the training images that get a wrong label.
    """

    def __init__(self, sizes: Sizes, wrong_labels: float = 0.0) -> None:
        self.sizes, self.fabric = sizes, Fabric(accelerator="cpu", devices=1)
        self.data = dn.ImageDataModule(
            "digits",
            validation_fraction=sizes.validation_fraction,
            seed=sizes.seed,
            wrong_labels=wrong_labels,
        )
        self.data.setup()
        self.sets = {
            family: dn.make_noise(family, sizes.samples, self.data.train, sizes.seed)
            for family in FAMILIES
        }
        images = self.data.train
        self.sets["real"] = images.subset(
            stratified_subset(images.labels, sizes.samples, sizes.seed)
        )

    def network(self, genotype: dn.Genotype) -> nn.Module:
        sizes = self.sizes
        return dn.create_model(
            genotype,
            num_classes=self.data.num_classes,
            in_channels=self.data.in_channels,
            channels=sizes.channels,
            num_cells=sizes.num_cells,
            stem="small",
        )

    def fit(self, genotype: dn.Genotype, name: str, epochs: int) -> dict[str, Any]:
        """Train on one of the sets, and return the largest accuracy on it.

        ``after`` has the largest accuracy up to each rung of a race. None: the loss was NaN or
        infinite before.
        """
        sizes, apart = self.sizes, lengths(self.sizes.epochs)[0]
        best: dict[int, float] = {}
        run = measure_fit(
            lambda: self.network(genotype),
            TrainingSet(
                name,
                self.sets[name],
                self.data.normalisation,
                sizes.noise_batch_size,
                sizes.real_target if name == "real" else sizes.target,
                due=lambda steps, per_epoch: steps % (apart * per_epoch) == 0,
            ),
            Recipe("adam", sizes.noise_rate, epochs, gradient_clip=GRADIENT_CLIP),
            self.fabric,
            network="network",
            seed=0,
            base_seed=sizes.seed,
            watch=best.__setitem__,
        )
        after = {n: best.get(n, run.accuracy) for n in lengths(sizes.epochs) if n < epochs}
        found = {"accuracy": run.accuracy, "epochs": run.epochs, "diverged": run.diverged}
        return {**found, "after": after}

    def trained(
        self,
        genotype: dn.Genotype,
        epochs: int,
        look: Callable[[nn.Module, int, float], bool] = lambda net, steps, loss: False,
    ) -> Training:
        """Train on the real images as a candidate of a search; see `train_from_scratch`."""
        sizes, optimiser = self.sizes, usual_optimiser(genotype)
        recipe = Recipe(
            optimiser,
            RATES[optimiser],
            epochs,
            weight_decay=DECAY if optimiser == "sgd" else 0.0,
            gradient_clip=GRADIENT_CLIP,
        )
        return train_from_scratch(
            lambda: self.network(genotype),
            BatchStream(
                self.data.train, sizes.data_batch_size, self.data.normalisation, seed=sizes.seed
            ),
            recipe,
            self.fabric,
            seed=sizes.seed,
            look=look,
        )

    def accuracy(self, net: nn.Module, images: dn.LabelledImages) -> float:
        """Return the accuracy of a trained network on other real images."""
        others = BatchStream(
            images, EVALUATION_BATCH, self.data.normalisation, shuffle=False, drop_last=False
        )
        return read(net, others).accuracy

    def validation(self, genotype: dn.Genotype, epochs: int) -> float:
        """Return the validation accuracy after `trained`."""
        return self.accuracy(self.trained(genotype, epochs).net, self.data.validation)

    def row(self, row: Row, with_proxies: bool) -> dict[str, Any]:
        """Return all figures of a row.

        Args:
            row: the network.
            with_proxies: whether to make the short trainings too.
        """
        sizes, genotype, started = self.sizes, row.genotype, time.process_time()
        full: dict[str, Any] = {
            "validation": self.validation(genotype, sizes.data_epochs),
            **{name: self.fit(genotype, name, sizes.epochs) for name in self.sets},
        }
        short: dict[str, dict[int, float | None]] = {}
        if with_proxies:
            short["validation"] = {
                epochs: self.validation(genotype, epochs)
                for epochs in lengths(sizes.data_epochs)[:-1]
            }
            short["uniform"] = {
                epochs: self.fit(genotype, "uniform", epochs)["accuracy"]
                for epochs in lengths(sizes.epochs)[:-1]
            }
        parameters = sum(p.numel() for p in self.network(genotype).parameters())
        seconds = round(time.process_time() - started, 1)
        return {**asdict(row), "parameters": parameters, **full, "proxies": short, "cpu_s": seconds}


def correlations(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return Spearman's ρ between a figure after few epochs and the same figure at the end."""
    pairs: dict[tuple[str, str, int], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        shorter = [(of, "own schedule", values) for of, values in row["proxies"].items()]
        shorter += [(of, "first part of the full", row[of]["after"]) for of in FAMILIES]
        for of, proxy, values in shorter:
            full = row[of] if of == "validation" else row[of]["accuracy"]
            for epochs, value in values.items():
                if value is not None and full is not None:
                    pairs[of, proxy, int(epochs)].append((value, full))
    return [
        {
            "of": of,
            "proxy": proxy,
            "epochs": epochs,
            "rho": round(float(spearmanr(values).statistic), 3),
            "n": len(values),
        }
        for (of, proxy, epochs), values in sorted(pairs.items())
        if min(len(set(figure)) for figure in zip(*values, strict=True)) > 1
    ]


def measure(sizes: Sizes, rows: list[Row]) -> None:
    """Measure the rows that the file lacks, and write the file after each one.

    Raises:
        SystemExit: the file holds rows of other sizes.
    """
    path = commands.RESULTS / f"{FILE}.json"
    known = json.loads(path.read_text("utf-8")) if path.exists() else {"rows": {}}
    if known.setdefault("setting", asdict(sizes)) != asdict(sizes):
        raise SystemExit(f"{path} holds rows of another setting; move or delete it")
    measurement, done = Measurement(sizes), known["rows"]
    for number, row in enumerate(rows):
        if row.name in done:
            continue
        done[row.name] = found = measurement.row(row, with_proxies=number % 3 == 0)
        result = {
            "command": "python -m benchmarks.noise_fit_by_choice",
            "setting": asdict(sizes),
            **commands.surroundings(),
            "cpu_s": round(sum(of["cpu_s"] for of in done.values())),
            "spearman": correlations(done.values()),
            "rows": {row.name: done[row.name] for row in rows if row.name in done},
        }
        commands.store(FILE, result)
        fits = {name: found[name]["accuracy"] for name in measurement.sets}
        print(row.name, found["parameters"], found["validation"], fits, found["cpu_s"], flush=True)


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    measure(Sizes(), list(all_rows()))


if __name__ == "__main__":
    main()
