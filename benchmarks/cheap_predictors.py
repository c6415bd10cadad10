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
- ``ntk_condition``: the logarithm of the condition number of the tangent kernel, negated (Chen et
  al. 2021, arXiv:2102.11535);
- ``parameters``: the number of parameters.

After one training for all cells, in which each step trains a random cell of a supernet (random
search with weight sharing: Li & Talwalkar 2019, arXiv:1902.07638):

- ``shared, validation``: the validation accuracy of the cell with these weights;
- ``shared, uniform``: its loss on uniform noise after such a training on this noise, negated.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import kendalltau, spearmanr
from torch import Tensor, nn

import darts_noise as dn
from benchmarks import commands
from benchmarks.exhaustive_digits import NORMALISATIONS, OPERATIONS, SIZES
from benchmarks.noise_fit_by_choice import Measurement
from benchmarks.strategies_on_table import DIGITS
from darts_noise.data.batches import BatchStream
from darts_noise.data.seeds import drawing
from darts_noise.reading import EVALUATION_BATCH, read_fit
from darts_noise.search.table import MeasuredCell
from darts_noise.train.loop import Recipe, train_from_scratch
from darts_noise.train.settings import GRADIENT_CLIP

FILE = "cheap_predictors"
BATCH = 64
IMAGES = 32
"""Number of images for the tangent kernel."""
SPACE = dn.Space("table", OPERATIONS, nodes=1, macro={"normalisation": NORMALISATIONS})
EPOCHS = {"validation": 200, "uniform": 400}
"""Length of a training of shared weights: some 1,600 steps. The accuracies are no longer rising."""


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


def ntk_condition(net: nn.Module, images: Tensor) -> float:
    """Return −log κ. κ is the condition number of Θ_ij = ⟨∂f(x_i)/∂w, ∂f(x_j)/∂w⟩.

    f is the sum of the logits. If Θ has no full rank, the result is −∞.
    """
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    rows = []
    for output in net(images).sum(1):
        found = torch.autograd.grad(output, weights, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([part.flatten() for part in found if part is not None]).double())
    gradients = torch.stack(rows)
    least, *_, largest = torch.linalg.eigvalsh(gradients @ gradients.T).tolist()
    return math.log(least / largest) if least > largest * 1e-12 else -math.inf


class Paths(nn.Module):
    """A supernet whose `cell` is run, or, as long as there is none, a random one in each pass."""

    def __init__(self, net: dn.SuperNet, cells: Sequence[dn.Genotype]) -> None:
        super().__init__()
        self.net, self.cells = net, cells
        self.cell: dn.Genotype | None = None

    def forward(self, x: Tensor) -> Tensor:
        cell = self.cell or self.cells[int(torch.randint(len(self.cells), ()))]
        return self.net.path(x, cell)


def inherited(
    measurement: Measurement, cells: Sequence[dn.Genotype], epochs: Mapping[str, int] = EPOCHS
) -> Iterator[dict[str, float]]:
    """Yield what shared weights predict of each cell: one training on the data, one on noise."""
    data, sizes = measurement.data, measurement.sizes
    made: list[Paths] = []

    def make() -> Paths:
        net = dn.SuperNet(
            SPACE,
            num_classes=data.num_classes,
            in_channels=data.in_channels,
            channels=sizes.channels,
            num_cells=sizes.num_cells,
            stem="small",
            implementation="textbook",
        )
        made.append(Paths(net, cells))
        return made[-1]

    def train(images: dn.LabelledImages, length: int) -> None:
        stream = BatchStream(images, BATCH, data.normalisation, seed=sizes.seed)
        recipe = Recipe("adam", sizes.noise_rate, length, gradient_clip=GRADIENT_CLIP)
        train_from_scratch(make, stream, recipe, measurement.fabric, seed=sizes.seed)

    def whole(images: dn.LabelledImages) -> BatchStream:
        return BatchStream(
            images, EVALUATION_BATCH, data.normalisation, seed=sizes.seed, drop_last=False
        )

    noise = measurement.sets["uniform"]
    train(data.train, epochs["validation"])
    train(noise, epochs["uniform"])
    real, fitted = made
    for cell in cells:
        real.cell = fitted.cell = cell
        yield {
            "shared, validation": read_fit(real, whole(data.validation)).accuracy,
            "shared, uniform": -read_fit(fitted, whole(noise)).loss,
        }


def predictors(
    measurement: Measurement, row: MeasuredCell, shared: Mapping[str, float]
) -> dict[str, float]:
    """Return all cheap figures of a cell; a larger figure predicts more.

    Args:
        measurement: the data, and how networks are made.
        row: the cell's row in the table.
        shared: its figures from `inherited`.
    """
    data, seed = measurement.data, measurement.sizes.seed
    with drawing(seed):
        net = measurement.network(row.genotype)
    found = {"synflow": math.log(synflow(net, data.image_shape) or math.ulp(0.0))}
    for name, images in (("real", data.train), ("uniform", measurement.sets["uniform"])):
        batch = BatchStream(images, BATCH, data.normalisation, seed=seed).batch(0)
        found[f"naswot, {name}"] = naswot(net, batch[0])
        found[f"gradient_norm, {name}"] = gradient_norm(net, *batch)
        found[f"ntk_condition, {name}"] = ntk_condition(net, batch[0][:IMAGES])
    cheap = {name: value for name, value in row.figures.items() if name.startswith("uniform_")}
    losses = {name: -value for name, value in row.figures.items() if name.startswith("loss_")}
    return {**found, **shared, "parameters": row.figures["parameters"], **losses, **cheap}


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
    of_shared = inherited(measurement, [row.genotype for row in rows])
    found = [
        predictors(measurement, row, shared) for row, shared in zip(rows, of_shared, strict=True)
    ]
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
