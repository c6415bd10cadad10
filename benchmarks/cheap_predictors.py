"""Measure which cheap figure of a cell predicts that it learns, and which that it memorises.

    python -m benchmarks.cheap_predictors

The cells are those of the table of `benchmarks.exhaustive_digits`. Before any training, on one
batch of 64 images, real ones or uniform noise:

- ``naswot``: how differently the images are coded by the ReLUs (Mellor et al. 2021,
  arXiv:2006.04647);
- ``gradient_norm``: the norm of the gradient of the loss (Abdelfattah et al. 2021,
  arXiv:2101.08134);
- ``synflow``: the sum of the saliencies of all weights, which needs no images (Tanaka et al. 2020,
  arXiv:2006.05467);
- ``parameters``: the number of parameters.

From the table:

- ``loss_N``: the sum of the training losses of the first N epochs, negated (Ru et al. 2021,
  arXiv:2006.04492);
- ``uniform_N``: the accuracy on uniform noise after N epochs.

The file has Spearman's ρ and Kendall's τ-b of each figure with the test accuracy and with the fits
to noise: over all cells, and over those with the same norm, because the norm decides most. A cell
whose training on uniform noise stopped because it fitted the noise counts as fitting more than a
cell that stopped later.
"""

import argparse
import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import kendalltau, spearmanr
from torch import Tensor, nn

import darts_noise as dn
from benchmarks import commands
from benchmarks.exhaustive_digits import SIZES
from benchmarks.noise_fit_by_choice import Measurement
from benchmarks.strategies_on_table import DIGITS
from darts_noise.data.batches import BatchStream
from darts_noise.data.seeds import drawing
from darts_noise.search.table import MeasuredCell

FILE = "cheap_predictors"
BATCH = 64


@torch.no_grad()
def naswot(net: nn.Module, images: Tensor) -> float:
    """Return log |det K|. K_ij is the number of ReLU outputs that two images have both on or off.

    Two images with the same code make it −∞.
    """
    same = torch.zeros(len(images), len(images), dtype=torch.float64)

    def add(module: nn.Module, given: Any, found: Tensor) -> None:
        on = (found.flatten(1) > 0).double()  # (B, units)
        same.add_(on @ on.T + (1 - on) @ (1 - on).T)

    handles = [m.register_forward_hook(add) for m in net.modules() if isinstance(m, nn.ReLU)]
    net(images)
    for handle in handles:
        handle.remove()
    return float(torch.linalg.slogdet(same).logabsdet)


def synflow(net: nn.Module, shape: Sequence[int]) -> float:
    """Return Σ θ · ∂R/∂θ, where R is the sum of the outputs for an image of ones.

    All weights are replaced by their absolute values. Norms do not use the batch.

    Args:
        net: the network, which does not change.
        shape: (C, H, W) of an image.
    """
    positive = copy.deepcopy(net).double().eval()
    weights = [weight for weight in positive.parameters() if weight.requires_grad]
    with torch.no_grad():
        for weight in weights:
            weight.abs_()
    positive(torch.ones(1, *shape, dtype=torch.float64)).sum().backward()
    return float(sum((w.detach() * w.grad).sum() for w in weights if w.grad is not None))


def gradient_norm(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the Euclidean norm of the gradient of the mean cross-entropy."""
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    loss = F.cross_entropy(net(images), labels)
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return math.sqrt(sum(float(part.square().sum()) for part in found if part is not None))


def predictors(measurement: Measurement, row: MeasuredCell) -> dict[str, float]:
    """Return all cheap figures of a cell; a larger figure predicts more."""
    data, seed = measurement.data, measurement.sizes.seed
    with drawing(seed):
        net = measurement.network(row.genotype)
    found = {"synflow": math.log(synflow(net, data.image_shape) or math.ulp(0.0))}
    for name, images in (("real", data.train), ("uniform", measurement.sets["uniform"])):
        batch = BatchStream(images, BATCH, data.normalisation, seed=seed).batch(0)
        found[f"naswot, {name}"] = naswot(net, batch[0])
        found[f"gradient_norm, {name}"] = gradient_norm(net, *batch)
    cheap = {name: value for name, value in row.figures.items() if name.startswith("uniform_")}
    losses = {name: -value for name, value in row.figures.items() if name.startswith("loss_")}
    return {**found, "parameters": row.figures["parameters"], **losses, **cheap}


def targets(row: MeasuredCell, target: float) -> dict[str, float]:
    """Return what is predicted. Of two cells that fit the noise, the faster one fits more."""
    uniform = min(row.figures["uniform"], target) - row.steps * 1e-9
    labels = min(row.figures["random_labels"], target)
    return {"test": row.figures["test"], "uniform": uniform, "random_labels": labels}


def correlations(
    found: Sequence[Mapping[str, float]], wanted: Sequence[Mapping[str, float]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return target → predictor → ρ and τ over the same cells. A constant has no rank: None."""
    tests: dict[str, Callable[..., Any]] = {"rho": spearmanr, "tau": kendalltau}
    result: dict[str, Any] = {}
    for target in wanted[0]:
        for name in found[0]:
            pair = [of[name] for of in found], [of[target] for of in wanted]
            ranked = min(len(set(values)) for values in pair) > 1
            result.setdefault(target, {})[name] = {
                key: round(float(test(*pair).statistic), 3) if ranked else None
                for key, test in tests.items()
            }
    return result


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    rows, measurement = dn.CellTable.from_csv(DIGITS).rows, Measurement(SIZES)
    found = [predictors(measurement, row) for row in rows]
    wanted = [targets(row, SIZES.target) for row in rows]
    norms = np.array([row.genotype.choice("normalisation") for row in rows])
    groups = {"all": np.arange(len(rows))}
    groups |= {str(norm): np.flatnonzero(norms == norm) for norm in dict.fromkeys(norms)}
    result = {
        "command": f"python -m benchmarks.{FILE}",
        **commands.surroundings(),
        "groups": {
            name: {
                "n": len(places),
                **correlations([found[i] for i in places], [wanted[i] for i in places]),
            }
            for name, places in groups.items()
        },
    }
    commands.store(FILE, result)
    for name, of in result["groups"].items():
        print(name, of["n"])
        for predictor in found[0]:
            ranks = {key: of[key][predictor]["rho"] for key in wanted[0]}
            print(f"  {predictor:24}", ranks)


if __name__ == "__main__":
    main()
