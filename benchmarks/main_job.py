"""Run the main job, search and training: measure time, memory, test accuracy and noise accuracy.

    python -m benchmarks.main_job --dataset digits --seeds 0 1 2 --noise-weights 0 1

The command runs `search.py` and `train.py` for every λ and seed, one after the other, with the
shipped configs. It writes every run to ``docs/results/main_job_<dataset>.json``; ``--add`` keeps
the runs that this file has. The control of a run, which `train.py` trains, is the same cell with
batch norm. A cell that has batch norm has none.
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.commands import RESULTS, ROOT, card_of, measured, store, surroundings

FIGURES = ("test_accuracy", "noise_accuracy", "validation_accuracy")
COSTS = tuple(f"{part}_{cost}" for cost in ("s", "cpu_s", "mib") for part in ("search", "train"))


def one_run(args: argparse.Namespace, noise_weight: float, seed: int, runs: Path) -> dict[str, Any]:
    """Search and train once, and return the figures of both cards."""
    name = f"lambda{noise_weight:g}-seed{seed}"
    common = [f"--runs={runs}", f"--name={name}", f"--seed={seed}", "--wandb=off"]
    if args.dataset != "digits":  # which are part of scikit-learn
        common.append(f"--data.root={args.root}")
    configs = ROOT / "configs"
    search_time, search_cpu, search_memory = measured(
        "search.py",
        f"--config={configs / 'search' / args.dataset}.yaml",
        f"--model.noise_weight={noise_weight}",
        *common,
    )
    train_time, train_cpu, train_memory = measured(
        "train.py",
        f"--config={configs / 'train' / args.dataset}.yaml",
        f"--model.genotype={runs / 'search' / name}",
        *common,
    )
    search = card_of(runs / "search" / name)
    train = card_of(runs / "train" / name)
    return {
        "noise_weight": noise_weight,
        "seed": seed,
        "test_accuracy": train["test_accuracy"],
        "noise_accuracy": train["noise_accuracy"],
        "validation_accuracy": search["validation_accuracy"],
        "noise": train["noise"],
        "parameters": train["parameters"],
        "multiply_adds": train["multiply_adds"],
        "epochs": train["epochs"],
        "train_samples": train["train_samples"],
        "search_s": round(search_time, 1),
        "search_cpu_s": round(search_cpu, 1),
        "search_mib": search_memory,
        "train_s": round(train_time, 1),
        "train_cpu_s": round(train_cpu, 1),
        "train_mib": train_memory,
        "genotype": train["genotype"],
        "control": train.get("control"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits", choices=["digits", "mnist"])
    parser.add_argument("--root", default="data", help="folder that holds the data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--noise-weights", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--add", action="store_true", help="keep the runs of the file")
    args = parser.parse_args()
    file, kept = f"main_job_{args.dataset}", []
    if args.add:
        kept = json.loads((RESULTS / f"{file}.json").read_text("utf-8"))["runs"]
    done = {(run["noise_weight"], run["seed"]) for run in kept}
    result: dict[str, Any] = {
        "command": (
            f"python -m benchmarks.main_job --dataset {args.dataset} "
            f"--seeds {' '.join(map(str, args.seeds))} "
            f"--noise-weights {' '.join(f'{w:g}' for w in args.noise_weights)}"
        ),
        **surroundings(),
        "runs": kept,
        "summary": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for noise_weight in args.noise_weights:
            for seed in args.seeds:
                if (noise_weight, seed) in done:
                    continue
                run = one_run(args, noise_weight, seed, Path(folder))
                result["runs"].append(run)
                result["runs"].sort(key=lambda run: (-run["noise_weight"], run["seed"]))
                print({k: v for k, v in run.items() if not isinstance(v, dict)}, flush=True)
                store(file, result)
            rows = [r for r in result["runs"] if r["noise_weight"] == noise_weight]
            result["summary"][f"{noise_weight:g}"] = {
                "n": len(rows),
                **{
                    key: {
                        "mean": mean(r[key] for r in rows),
                        "sd": stdev(r[key] for r in rows) if len(rows) > 1 else None,
                    }
                    for key in (*FIGURES, *COSTS)
                },
            }
            store(file, result)


if __name__ == "__main__":
    main()
