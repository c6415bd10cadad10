"""Search cells of the digits with each objective, and measure what the trained networks resist.

    python -m benchmarks.objectives

The searches are those of ``configs/search/digits.yaml``, each with one further term in what it
minimises; see `TERMS`. All make the same number of steps with the same images. Beside them stand
λ = 0, and random cells of both networks of which a search takes one: bounded gain and batch norm.
All networks are trained as ``configs/train/digits.yaml`` says, and then measured:

- accuracy on the test images, as they are, and under attack on 200 of them: linf, for each of
  `EPS`; an image must resist FGSM, PGD with 20 steps from two random starts, and the square attack
  with 200 queries;
- accuracy on the test images after magnitude pruning, for each of `SPARSITIES`, as in
  `benchmarks.correlations`;
- multiply-adds, and the shortest time of a forward pass of one image;
- noise fit: the accuracy on 500 images of uniform noise after 60 epochs on them, with Adam at
  0.003.

Each finished network leaves a JSON file in ``--records``, and a command that was stopped goes on
after the last one. All figures are in ``docs/results/objectives_digits.json``.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import darts_noise as dn
from benchmarks import commands
from benchmarks.correlations import SPARSITIES, pruned_copy
from darts_noise.atomic import write_text
from darts_noise.attacks.pixels import OnPixels
from darts_noise.cli.configs import CONFIGS, read_config
from darts_noise.data.batches import BatchStream
from darts_noise.examine.attacks import attack_images
from darts_noise.reading import EVALUATION_BATCH, evaluating, read
from darts_noise.runs.robustness import test_images
from darts_noise.runs.train import Trained
from darts_noise.search.objectives.costs import seconds
from darts_noise.study.settings import Control, Converged, SearchSetup, TrainSetup
from darts_noise.study.units import Compared
from darts_noise.study.work import SeedRuns

FILE = "objectives_digits"
EPS = (0.05, 0.1)
ATTACKS = dn.AttackConfig("linf", EPS, steps=20, starts=2, queries=200, samples=200)
TIMINGS = 10
"""Measurements of the time of a pass. The shortest counts, because others disturb them."""
TERMS: Mapping[str, tuple[float, Mapping[str, Any]]] = {
    "λ = 0": (0.0, {}),
    "noise fit": (1.0, {}),
    "adversarial": (0.0, {"adversarial": {"weight": 1.0, "eps": 0.1}}),
    "prunability": (0.0, {"prunability": {"weight": 1.0, "sparsity": 0.8}}),
    "multiply_adds": (0.0, {"multiply_adds": {"weight": 1.0}}),
    "latency": (0.0, {"latency": {"weight": 1.0}}),
}
"""What is searched for → λ and the objectives."""
RANDOM = {"random, bounded": 0, "random, batch norm": 1}
"""Random cells → place of their macro choices in the config of the search."""


def setting_of(epochs: tuple[int, int] | None = None) -> dn.StudyConfig:
    """Return the searches, the trainings and the noise measurement.

    Args:
        epochs: epochs of a search and of a training. None: as the configs say.
    """
    search, train = (read_config(CONFIGS / kind / "digits.yaml") for kind in ("search", "train"))
    if epochs is not None:
        search["trainer"]["max_epochs"], train["trainer"]["max_epochs"] = epochs
    return dn.StudyConfig(
        SearchSetup(
            dn.DataConfig(**search["data"]),
            dn.SearchConfig(**search["model"]),
            dn.TrainerConfig(**search["trainer"]),
        ),
        TrainSetup(
            dn.DataConfig(**train["data"]),
            dn.TrainConfig(**train["model"]),
            dn.TrainerConfig(**train["trainer"]),
        ),
        converged=Converged(500, 60, sgd_rates=(), adam_rates=(3e-3,), seeds=1),
    )


def network(name: str) -> Compared:
    """Return a network in the form in which studies know it."""
    key = name.replace(" ", "_").replace(",", "").replace("λ_=_", "lambda_")
    if name in RANDOM:
        return Compared(key, name, 1, control="random", own=Control())
    noise_weight, objectives = TERMS[name]
    return Compared(key, name, 1, noise_weight, settings={"objectives": dict(objectives)})


def judged(trained: Trained) -> dict[str, Any]:
    """Return the figures of a trained network."""
    data, net = trained.data, trained.module.net.cpu()
    images, labels = test_images(data, ATTACKS.samples, ATTACKS.seed)
    with evaluating(net):
        attacked = attack_images(OnPixels(net, data.normalisation), images, labels, ATTACKS)
        image = data.normalisation(255 * images[:1])
        milliseconds = 1000 * min(seconds(net, image) for _ in range(TIMINGS))
    stream = BatchStream(
        data.test, EVALUATION_BATCH, data.normalisation, shuffle=False, drop_last=False
    )
    robust = attacked.accuracy()[1:]
    thinned = {
        share: pruned_copy(net, share, data.train, data.normalisation) for share in SPARSITIES
    }
    return {
        "test": read(net, stream).accuracy,
        **{f"robust_{eps:g}": found for eps, found in zip(EPS, robust, strict=True)},
        "attacks": attacked.to_dict(),
        **{f"pruned_{share:g}": read(other, stream).accuracy for share, other in thinned.items()},
        "milliseconds": round(milliseconds, 3),
    }


class Measurement:
    """The networks of one setting.

    Args:
        setting: the searches, the trainings and the noise measurement.
        records: folder of the runs and of the finished networks.
    """

    def __init__(self, setting: dn.StudyConfig, records: Path) -> None:
        self.setting, self.records = setting, records

    def recorded(self, name: str, seed: int) -> dict[str, Any]:
        """Return the figures of a network from its file, or find its cell, train and measure it."""
        made = network(name)
        path = self.records / f"{made.key}-seed{seed}.json"
        if path.is_file():
            record: dict[str, Any] = json.loads(path.read_text("utf-8"))
            return record
        self.records.mkdir(parents=True, exist_ok=True)
        # Random cells take the networks of the config in turn.
        of_cell = len(RANDOM) * seed + RANDOM[name] if name in RANDOM else seed
        started = time.process_time()
        cell = SeedRuns(self.setting, made, of_cell, self.records).cell(None)
        searched = time.process_time()
        work = SeedRuns(self.setting, made, seed, self.records)
        training = work.training(cell, judged)
        fit = work.noise(cell, "uniform", "converged", f"{made.key}-seed{seed}.jsonl")
        record = {
            "network": name,
            "seed": seed,
            **training,
            "noise_accuracy": fit["accuracy"],
            "real_accuracy": fit.get("real_accuracy"),
            "search_cpu_s": None if name in RANDOM else round(searched - started, 1),
            "cpu_s": round(time.process_time() - started, 1),
            **cell,
        }
        write_text(path, json.dumps(record, indent=1) + "\n")
        return record


def measure(measurement: Measurement, names: list[str], seeds: list[int], command: str) -> None:
    """Measure all networks, seed by seed, and write the file of results after each one."""
    result: dict[str, Any] = {
        "command": command,
        "terms": {name: {"λ": λ, **of} for name, (λ, of) in TERMS.items()},
        **commands.surroundings(),
        "runs": [],
    }
    for seed in seeds:
        for name in names:
            record = measurement.recorded(name, seed)
            result["runs"].append(record)
            commands.store(FILE, result)
            shown = ("test", "robust_0.05", "pruned_0.8", "noise_accuracy", "cpu_s")
            print(f"{name}, seed {seed}:", *(f"{key} {record[key]}" for key in shown), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--records", type=Path, default=Path("runs") / FILE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    command = f"python -m benchmarks.objectives --seeds {' '.join(map(str, args.seeds))}"
    names = [*TERMS, *RANDOM]
    measure(Measurement(setting_of(), args.records), names, args.seeds, command)


if __name__ == "__main__":
    main()
