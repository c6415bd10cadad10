"""Compare what networks learn from training images of which some have wrong labels.

    python -m benchmarks.wrong_labels --cells lambda_1=FILE.json lambda_0=FILE.json

A file name with ``{seed}``, such as ``lambda_1-seed{seed}.json``, gives each seed its own cell.
Each network is trained without and with co-teaching, at several shares of wrong labels and with
several seeds. The networks are the given cells and a plain CNN with batch norm and the same stride
at its start. All are trained as ``configs/train/<data>.yaml`` says. If it leaves the optimiser
to the network, as on MNIST, ``--optimiser`` makes it the same for all. The validation images have
right labels. Where no label is wrong, there is no training with co-teaching: it would forget
nothing and equal the other.

Each finished training leaves a JSON file in ``--records``, and a command that was stopped goes on
after the last one. The figures of all trainings are in ``docs/results/wrong_labels_<data>.json``:

- `test_accuracy` after the last epoch;
- `best_test_accuracy`, at the epoch with the best validation accuracy;
- `memorised`, the share of the wrong labels that the network at the end gives their images;
- `label_precision`, the share of right labels among the samples that were selected in the last
  epoch.
"""

import argparse
import itertools
import json
import math
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn

import darts_noise as dn
from benchmarks import commands
from darts_noise.atomic import write_text
from darts_noise.cli.configs import CONFIGS, read_config
from darts_noise.data.batches import BatchStream
from darts_noise.data.settings import WRONG_LABELS
from darts_noise.reading import EVALUATION_BATCH, read
from darts_noise.report.card import finite
from darts_noise.report.measured import count_parameters
from darts_noise.runs.train import Trained, train_network
from darts_noise.train.settings import ALL, OPTIMISERS

PLAIN = "plain_cnn"


@dataclass(frozen=True)
class Setting:
    """What all trainings share. `epochs`, `train_samples`, `optimiser` None: as the config says.

    `parameters` is the target for the networks of cells.
    """

    data: str = "digits"
    kind: str = "symmetric"
    parameters: int = 50_000
    epochs: int | None = None
    train_samples: int | None = None
    optimiser: str | None = None


@dataclass(frozen=True)
class Row:
    """One training."""

    network: str
    method: str
    share: float
    seed: int

    @property
    def name(self) -> str:
        """The name of its file.

        >>> Row("lambda_1", "co_teaching", 0.4, 0).name
        'lambda_1-co_teaching-0.4-seed0'
        """
        return f"{self.network}-{self.method}-{self.share:g}-seed{self.seed}"


def all_rows(
    networks: list[str], methods: list[str], shares: list[float], seeds: list[int]
) -> list[Row]:
    """Return all trainings, seed by seed.

    >>> [row.name for row in all_rows(["cnn"], ["none", "small_loss"], [0, 0.2], [0])]
    ['cnn-none-0-seed0', 'cnn-none-0.2-seed0', 'cnn-small_loss-0.2-seed0']
    """
    return [
        Row(network, method, share, seed)
        for seed, share, network, method in itertools.product(seeds, shares, networks, methods)
        if share or method == ALL
    ]


def plain_cnn(num_classes: int, in_channels: int, stride: int = 1) -> nn.Module:
    """Return four 3×3 convolutions with batch norm, a max-pool between them and a global mean.

    `stride` is the stride of the first convolution.

    >>> sum(p.numel() for p in plain_cnn(10, 1).parameters())
    65834
    """

    def block(before: int, channels: int, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(before, channels, 3, stride, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(channels), nn.ReLU()]

    return nn.Sequential(
        *block(in_channels, 32, stride),
        *block(32, 32),
        nn.MaxPool2d(2),
        *block(32, 64),
        *block(64, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


class BestEpoch(pl.Callback):
    """Keeps the weights of the first epoch with the best validation accuracy."""

    def __init__(self) -> None:
        self.accuracy, self.epoch = -math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        accuracy = float(trainer.callback_metrics["val/accuracy"])
        if accuracy > self.accuracy:
            self.accuracy, self.epoch = accuracy, trainer.current_epoch + 1
            self.weights = deepcopy(pl_module.net.state_dict())


class Measurement:
    """The trainings of one setting.

    Args:
        setting: what all trainings share.
        cells: networks of cells by name, or by name and seed, as ``lambda_1-seed0``.
        root: folder of the data.
        records: folder of the finished trainings.
    """

    def __init__(
        self, setting: Setting, cells: dict[str, dn.Genotype], root: str, records: Path
    ) -> None:
        self.setting, self.cells, self.root, self.records = setting, cells, root, records

    @cached_property
    def config(self) -> dict[str, Any]:
        """The shipped config of a training on the data."""
        return read_config(CONFIGS / "train" / f"{self.setting.data}.yaml")

    def cell_of(self, row: Row) -> dn.Genotype | None:
        """Return the cell of a training, or None for the plain CNN."""
        return self.cells.get(f"{row.network}-seed{row.seed}", self.cells.get(row.network))

    def recorded(self, row: Row) -> dict[str, Any]:
        """Return the figures of a training from its file, or train.

        Raises:
            SystemExit: the file is of another setting, config or cell.
        """
        path = self.records / f"{row.name}.json"
        cell = self.cell_of(row)
        about = {
            **asdict(self.setting),
            "config": self.config,
            "cell": None if cell is None else cell.to_dict(),
        }
        if path.is_file():
            record: dict[str, Any] = json.loads(path.read_text("utf-8"))
            if record["about"] != json.loads(json.dumps(about)):
                raise SystemExit(f"{path} is of another setting, config or cell; move or delete it")
            return record
        record = {**asdict(row), **self.figures(row), "about": about}
        self.records.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(record, indent=1) + "\n")
        return record

    def figures(self, row: Row) -> dict[str, Any]:
        """Train, and return the figures."""
        started, best = time.process_time(), BestEpoch()
        plain = partial(plain_cnn, stride=self.config["model"].get("stem_stride", 1))
        trained = train_network(self.cell_of(row) or plain, *self._settings(row, best))
        figures = self._judged(trained, best) if not trained.diverged else {}
        return {
            **finite(figures),
            "diverged": trained.diverged,
            "parameters": count_parameters(trained.module.net),
            "train_samples": len(trained.data.train),
            "epochs": trained.epochs,
            "cpu_s": round(time.process_time() - started, 1),
        }

    def _settings(
        self, row: Row, best: BestEpoch
    ) -> tuple[dn.ImageDataModule, dn.TrainConfig, dn.TrainerConfig]:
        setting, config = self.setting, self.config
        planted = {"wrong_labels": row.share, "wrong_labels_kind": setting.kind}
        more = {"root": self.root, "seed": row.seed, "train_samples": setting.train_samples}
        data = dn.ImageDataModule(**{**config["data"], **planted, **more})
        own = {"noisy_labels": row.method, "seed": row.seed}
        if setting.optimiser is not None:
            own["optimiser"] = setting.optimiser
        model = dn.TrainConfig(**{**config["model"], **own, "parameters": setting.parameters})
        trainer = dn.TrainerConfig(**config["trainer"], accelerator="auto", devices=1)
        epochs = setting.epochs or trainer.max_epochs
        return data, model, replace(trainer, callbacks=[best], max_epochs=epochs)

    def _judged(self, trained: Trained, best: BestEpoch) -> dict[str, float | None]:
        data, net = trained.data, trained.module.net
        figures: dict[str, float | None] = {
            "test_accuracy": trained.test()["test/accuracy"],
            "validation_accuracy": trained.figures["val/accuracy"],
            "train_loss": trained.figures["train/loss"],
        }
        if "train/label_precision" in trained.figures:
            figures["label_precision"] = trained.figures["train/label_precision"]
        if data.train.true_labels is not None:
            wrong = data.train.subset((data.train.labels != data.train.true_labels).nonzero()[:, 0])
            stream = BatchStream(
                wrong, EVALUATION_BATCH, data.normalisation, shuffle=False, drop_last=False
            )
            figures["memorised"] = read(net.cpu(), stream).accuracy
        net.load_state_dict(best.weights)
        figures |= {"best_test_accuracy": trained.test()["test/accuracy"], "best_epoch": best.epoch}
        return figures


def measure(measurement: Measurement, rows: list[Row], command: str) -> None:
    """Make all trainings, and write the file of results after each one."""
    result: dict[str, Any] = {
        "command": command,
        "setting": asdict(measurement.setting),
        "config": measurement.config,
        **commands.surroundings(),
        "cells": {name: cell.to_dict() for name, cell in measurement.cells.items()},
        "runs": [],
    }
    for row in rows:
        record = measurement.recorded(row)
        result["runs"].append({key: value for key, value in record.items() if key != "about"})
        commands.store(f"wrong_labels_{measurement.setting.data}", result)
        shown = ("test_accuracy", "best_test_accuracy", "memorised", "label_precision")
        print(row.name, *(f"{key} {record[key]:.4f}" for key in shown if record.get(key)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits", help="a data set with a training config")
    parser.add_argument("--root", default="data", help="folder that holds the data")
    parser.add_argument("--cells", nargs="*", default=[], metavar="NAME=CELL")
    parser.add_argument("--methods", nargs="+", default=[ALL, "co_teaching"])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.2, 0.4, 0.6])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kind", choices=WRONG_LABELS, default=WRONG_LABELS[0])
    parser.add_argument("--parameters", type=int, default=Setting.parameters)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--train-samples", type=int)
    parser.add_argument("--optimiser", choices=OPTIMISERS)
    parser.add_argument("--records", type=Path, help="[runs/wrong_labels_<data>]")
    args = parser.parse_args()
    named = dict(cell.split("=", 1) for cell in args.cells)
    cells = {}
    for name, cell in named.items():
        for seed in args.seeds if "{seed}" in cell else (None,):
            key = name if seed is None else f"{name}-seed{seed}"
            cells[key] = dn.load_genotype(cell.replace("{seed}", str(seed)))
    setting = Setting(
        args.data, args.kind, args.parameters, args.epochs, args.train_samples, args.optimiser
    )
    rows = all_rows([*named, PLAIN], args.methods, args.shares, args.seeds)
    records = args.records or Path("runs") / f"wrong_labels_{args.data}"
    shown = " ".join(f"{name}={Path(cell).name}" for name, cell in named.items())
    measure(
        Measurement(setting, cells, args.root, records),
        rows,
        f"python -m benchmarks.wrong_labels --data {args.data} --cells {shown} "
        f"--methods {' '.join(args.methods)} --shares {' '.join(f'{s:g}' for s in args.shares)} "
        f"--seeds {' '.join(map(str, args.seeds))} --kind {args.kind} "
        f"--parameters {args.parameters}"
        + (f" --epochs {args.epochs}" if args.epochs else "")
        + (f" --train-samples {args.train_samples}" if args.train_samples else "")
        + (f" --optimiser {args.optimiser}" if args.optimiser else ""),
    )


if __name__ == "__main__":
    main()
