"""Measure whether an ensemble of bootstrapped networks resists adversarial examples of MNIST.

    python -m benchmarks.ensembles --root data

For each seed, plain CNNs are trained on bootstrap samples of the training images, and one CNN, the
network outside, on the images themselves. The first 5, 25 and 50 of them are ensembles. Each is
attacked with FGSM, and then with FGSM and PGD, at one size of a change. The examples are fixed,
made on the first member or on the network outside, or they are made by an attack that knows the
ensemble; see `darts_noise.examine.ensembles`.

Each finished training leaves its weights in ``--records``, and each finished ensemble a JSON file.
A command that was stopped goes on after the last one. The results are in
``docs/results/ensembles_mnist.json``.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

import darts_noise as dn
from benchmarks import commands
from darts_noise.atomic import replacing, write_text
from darts_noise.attacks.pixels import OnPixels
from darts_noise.data.batches import BatchStream
from darts_noise.data.seeds import derive_seed
from darts_noise.data.splits import bootstrap, stratified_subset
from darts_noise.examine.attacks import attack_images
from darts_noise.examine.ensembles import evaluate_members
from darts_noise.report.measured import count_parameters
from darts_noise.train.loop import Recipe, train_from_scratch

OUTSIDE = -1
"""The number of the network outside, which is trained on all images."""
BATCH_SIZE = 64
ATTACKS = (("fgsm",), ("fgsm", "pgd"))


@dataclass(frozen=True)
class Setting:
    """What all trainings and attacks share. `train_samples` None: all training images."""

    data: str = "mnist"
    train_samples: int | None = None
    epochs: int = 1
    learning_rate: float = 2e-3
    eps: float = 0.15
    steps: int = 10
    images: int = 1000


def plain_cnn(num_classes: int, in_channels: int) -> nn.Module:
    """Return two 5×5 convolutions with stride 2 and one hidden layer.

    >>> sum(p.numel() for p in plain_cnn(10, 1).parameters())
    54314
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(7),  # an image of 28×28 pixels has this map already
        nn.Flatten(),
        nn.Linear(16 * 49, 64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )


class Measurement:
    """The trainings and the ensembles of one setting.

    Args:
        setting: what all share.
        root: folder of the data.
        records: folder of the finished trainings and ensembles.
    """

    def __init__(self, setting: Setting, root: str, records: Path) -> None:
        self.setting, self.records = setting, records
        self.data = dn.ImageDataModule(
            setting.data,
            root=root,
            train_samples=setting.train_samples,
            validation_fraction=0.0,
        )
        self.data.setup()
        test = self.data.test
        test = test.subset(stratified_subset(test.labels, min(setting.images, len(test)), 0))
        self.images, self.labels = test.images / 255, test.labels
        self.about = {"setting": asdict(setting)}
        about = records / "setting.json"
        if about.is_file() and json.loads(about.read_text("utf-8")) != self.about:
            raise SystemExit(f"{records} is of another setting; take another --records")
        records.mkdir(parents=True, exist_ok=True)
        write_text(about, json.dumps(self.about) + "\n")

    def network(self, seed: int, number: int) -> OnPixels:
        """Return a network from its file, or train it. Its normalisation is that of all images."""
        data, path = self.data, self.records / f"seed{seed}-{number}.pt"
        net = plain_cnn(data.num_classes, data.in_channels)
        if path.is_file():
            net.load_state_dict(torch.load(path, weights_only=True))
        else:
            own, train = derive_seed(seed, number + 1), data.train
            if number != OUTSIDE:
                train = train.subset(bootstrap(len(train), own))
            trained = train_from_scratch(
                partial(plain_cnn, data.num_classes, data.in_channels),
                BatchStream(train, BATCH_SIZE, data.normalisation, seed=own),
                Recipe("adam", self.setting.learning_rate, self.setting.epochs),
                Fabric(accelerator="cpu", devices=1),
                seed=own,
            )
            net = trained.net
            with replacing(path) as file:
                torch.save(net.state_dict(), file)
        return OnPixels(net, data.normalisation).eval()

    def recorded(self, seed: int, size: int) -> dict[str, Any]:
        """Return the figures of an ensemble from its file, or measure it."""
        path = self.records / f"seed{seed}-ensemble{size}.json"
        if path.is_file():
            record: dict[str, Any] = json.loads(path.read_text("utf-8"))
            return record
        started = time.process_time()
        members = [self.network(seed, number) for number in range(size)]
        outside = self.network(seed, OUTSIDE)
        trained = time.process_time()
        found = {"+".join(names): self._attacked(members, outside, names) for names in ATTACKS}
        record = {
            "seed": seed,
            "size": size,
            "parameters": count_parameters(members[0]),
            "trainings_cpu_s": round(trained - started, 1),
            "attacks_cpu_s": round(time.process_time() - trained, 1),
            **found,
        }
        write_text(path, json.dumps(record, indent=1) + "\n")
        return record

    def _attacked(
        self, members: list[OnPixels], outside: OnPixels, attacks: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return the figures of an ensemble, and the accuracies of the network outside, alone."""
        c = self.setting
        config = dn.AttackConfig("linf", (c.eps,), attacks, steps=c.steps, starts=1, samples=None)
        found = evaluate_members(members, self.images, self.labels, config, outside)
        alone = attack_images(outside, self.images, self.labels, config)
        return {**found.to_dict(), "outside_alone": alone.accuracy()}


def measure(measurement: Measurement, seeds: list[int], sizes: list[int], command: str) -> None:
    """Measure all ensembles, seed by seed, and write the file of results after each one."""
    setting = measurement.setting
    result: dict[str, Any] = {
        "command": command,
        **measurement.about,
        **commands.surroundings(),
        "runs": [],
    }
    for seed in seeds:
        for size in sizes:
            record = measurement.recorded(seed, size)
            result["runs"].append(record)
            commands.store(f"ensembles_{setting.data}", result)
            print(f"seed {seed}, {size} networks: {record['fgsm']['attacked']}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", default="data", help="folder that holds the data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 25, 50])
    parser.add_argument("--epochs", type=int, default=Setting.epochs)
    parser.add_argument("--train-samples", type=int)
    parser.add_argument("--eps", type=float, default=Setting.eps)
    parser.add_argument("--records", type=Path, default=Path("runs") / "ensembles_mnist")
    args = parser.parse_args()
    setting = Setting(epochs=args.epochs, train_samples=args.train_samples, eps=args.eps)
    command = (
        f"python -m benchmarks.ensembles --seeds {' '.join(map(str, args.seeds))} "
        f"--sizes {' '.join(map(str, args.sizes))} --epochs {args.epochs} --eps {args.eps:g}"
        + (f" --train-samples {args.train_samples}" if args.train_samples else "")
    )
    measure(Measurement(setting, args.root, args.records), args.seeds, args.sizes, command)


if __name__ == "__main__":
    main()
