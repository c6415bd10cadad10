"""Compare all hypergradients and search variants on MNIST with the same budget.

    python -m benchmarks.variants --root DIR

Each method searches on the same images for the same number of epochs, with the noise penalty and
the same seed. Its cell is then trained on the same subset of MNIST, tested on the test images of
MNIST, and trained from scratch on noise. The command writes ``docs/results/variants_mnist.json``.
It uses one seed, so differences of one percentage point between methods mean nothing.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import darts_noise as dn
from benchmarks.commands import RESULTS, ROOT, card_of, measured, store, surroundings
from darts_noise.data.datasets import load_dataset

CONFIGS = ROOT / "configs"
SEARCH = [
    "--data.train_samples=4000",
    "--trainer.max_epochs=8",
    "--trainer.limit_train_batches=1.0",
    "--trainer.limit_val_batches=1.0",
    "--model.candidates=1",
    "--model.optimiser=sgd",  # the other hypergradients differentiate through a step of SGD
    "--model.learning_rate=0.025",
]
WEIGHT = "--model.noise_weight=1"
TRAIN = ["--data.train_samples=10000", "--trainer.max_epochs=5", "--model.channels=16"]
NOISE = {"samples": 1000, "epochs": 20}
NOISE_RECIPE = {
    "channels": 8,
    "num_cells": 3,
    "stem": "small",
    "stem_stride": 2,
    "auxiliary_weight": 0.0,
    "drop_path": 0.0,
    "learning_rate": 0.025,
}


def methods() -> dict[str, list[str]]:
    """Return the additional options of the search command for each method, by name."""
    preset = {
        path.stem: [f"--config={path}", WEIGHT]
        for path in sorted((CONFIGS / "variants").glob("*.yaml"))
    }
    # The default window of 5 epochs is too long for this budget.
    preset["robust_darts"] += ["--model.variants={robust_darts: {window: 2}}"]
    return {
        "darts, λ = 0": ["--model.noise_weight=0"],
        "darts, first order": [WEIGHT],
        "darts, finite difference": [WEIGHT, "--model.hypergradient=finite_difference"],
        "darts, exact": [WEIGHT, "--model.hypergradient=exact"],
        **preset,
    }


def one_run(options: list[str], root: str, seed: int, runs: Path) -> dict[str, Any]:
    """Search, train and measure the noise fit once."""
    common = [f"--data.root={root}", f"--runs={runs}", "--name=run", f"--seed={seed}"]
    common += ["--wandb=off"]
    search = [f"--config={CONFIGS / 'search' / 'mnist_noise.yaml'}", *options, *SEARCH, *common]
    search_time, *_ = measured("search.py", *search)
    found = runs / "search" / "run"
    train = [f"--config={CONFIGS / 'train' / 'mnist_noise.yaml'}", f"--model.genotype={found}"]
    measured("train.py", *train, *TRAIN, "--noise_check=false", *common)
    trained = card_of(runs / "train" / "run")
    images = load_dataset("mnist", root, None, None).train
    noise = dn.noise_fit(found, images, seed=seed, recipe=NOISE_RECIPE, **NOISE)
    searched = card_of(found)
    return {
        "test_accuracy": trained["test_accuracy"],
        "parameters": trained["parameters"],
        "noise": noise.to_dict(),
        "search_s": round(search_time, 1),
        "search_epochs": searched["epochs"],
        "search_validation_accuracy": searched["validation_accuracy"],
        "genotype": trained["genotype"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data", help="folder that holds MNIST")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", nargs="+", choices=list(methods()), default=list(methods()), help="replace rows"
    )
    args = parser.parse_args()
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.variants --seed {args.seed}",
        "budget": {"search": SEARCH, "train": TRAIN, "noise": NOISE, "recipe": NOISE_RECIPE},
        **surroundings(),
        "runs": {},
    }
    earlier = RESULTS / "variants_mnist.json"
    if args.only != list(methods()) and earlier.is_file():  # keep the rows of the other methods
        result["runs"] = json.loads(earlier.read_text())["runs"]
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            row = one_run(methods()[name], args.root, args.seed, Path(folder))
        result["runs"][name] = row
        print(
            f"{name:26} test {row['test_accuracy']:.4f}  noise {row['noise']['accuracy']:.4f}  "
            f"{row['parameters']:7,} parameters  search {row['search_s']:.0f} s",
            flush=True,
        )
        store("variants_mnist", result)


if __name__ == "__main__":
    main()
