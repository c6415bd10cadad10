"""Two phases of a training: the Fisher information of the weights rises to a peak, then falls.

The Fisher information F = E_x E_y~p(y|x) [∇ log p(y|x) ∇ log p(y|x)ᵀ] says how much a small change
of the weights changes the predictions. The labels y are drawn from the *network*, not taken from
the data: with the labels of the data the matrix vanishes once all of them are fitted. Its trace
measures how much information the weights hold about the data [1]. It rises while the network
memorises what it sees, and falls while the network forgets what it does not need.

Reference:
    [1] Achille, Rovere and Soatto, Critical learning periods in deep networks, ICLR 2019,
        arXiv:1711.08856, section 3.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from darts_noise.configured import require_at_least
from darts_noise.data.batches import BatchStream
from darts_noise.data.seeds import Stream, drawing, generator
from darts_noise.examine.influence import CHUNK, GRADIENT_STEPS, sample_gradients
from darts_noise.examine.section import Pieces, Section, Subject, diverged, register_section
from darts_noise.reading import evaluating, own_statistics
from darts_noise.report.card import percent
from darts_noise.report.lines import draw_lines
from darts_noise.report.page import Table
from darts_noise.train.loop import Due, Recipe, each_tenth, train_from_scratch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

DRAWN_LAYERS = 5
"""Layers in a figure: those with the largest traces."""


@dataclass(frozen=True)
class TwoPhases:
    """The Fisher information of the weights over a training.

    Attributes:
        steps: optimiser steps before each reading. The first reading is at 0.
        per_epoch: optimiser steps of an epoch.
        layers: each layer with the trace of its block of the Fisher matrix at each reading, in
            nats² per squared unit of a weight.
        losses: mean cross-entropy of the images that are read, in nats, at each reading.
        accuracies: their accuracy, from 0 to 1.
    """

    steps: tuple[int, ...]
    per_epoch: int
    layers: Mapping[str, tuple[float, ...]]
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]

    @property
    def traces(self) -> tuple[float, ...]:
        """The trace of the whole matrix at each reading."""
        return tuple(map(sum, zip(*self.layers.values(), strict=True)))

    @property
    def peak(self) -> int:
        """The reading with the largest trace."""
        return max(range(len(self.steps)), key=self.traces.__getitem__)


def layer_of(parameter: str) -> str:
    """Return the layer of a parameter: a child of the network, or an element of a list of children.

    >>> layer_of("cells.3.nodes.0.weight"), layer_of("classifier.parametrizations.weight.original")
    ('cells.3', 'classifier')
    """
    first, *rest = parameter.split(".")
    return f"{first}.{rest[0]}" if len(rest) > 1 and rest[0].isdigit() else first


def fisher_trace(
    net: nn.Module, images: Tensor, random: torch.Generator, draws: int = 1
) -> dict[str, float]:
    """Estimate the trace of the Fisher information of each layer by Monte Carlo.

    It is the mean of ‖∇ log p(y|x)‖² over images x and labels y that are drawn from the network's
    own prediction p(y|x). So the estimate has no bias, whatever `draws` is.

    Args:
        net: images → logits (B, num_classes). It is read in eval mode and keeps its modes.
        images: (N, C, H, W), normalised, N ≥ 1.
        random: a CPU generator for the labels.
        draws: labels drawn for each image. Default: 1.

    Returns:
        `layer_of` each parameter → trace, in the order of the network. Their sum is the trace of
        the whole matrix.

    >>> net = nn.Linear(2, 2, bias=False)
    >>> _ = nn.init.zeros_(net.weight)
    >>> fisher_trace(net, torch.ones(1, 2), torch.Generator())  # ‖x‖² · 2 · (1/2)²
    {'weight': 1.0}
    """
    sizes: dict[str, int] = {}
    for name, weight in net.named_parameters():
        if weight.requires_grad:
            sizes[layer_of(name)] = sizes.get(layer_of(name), 0) + weight.numel()
    with evaluating(net):
        with torch.no_grad():
            predictions = net(images).float().softmax(1).cpu()
        labels = torch.multinomial(predictions, draws, replacement=True, generator=random)
        drawn = labels.flatten().to(images.device)
        totals = torch.zeros(len(sizes), dtype=torch.float64)
        for part in torch.split(torch.arange(len(drawn)), CHUNK):
            gradients = sample_gradients(net, images[part // draws], drawn[part])
            squares = gradients.square().sum(0, dtype=torch.float64).cpu()
            totals += torch.stack([own.sum() for own in torch.split(squares, [*sizes.values()])])
    return dict(zip(sizes, (totals / len(drawn)).tolist(), strict=True))


def two_phases(
    make: Callable[[], nn.Module],
    stream: BatchStream,
    recipe: Recipe,
    fabric: "Fabric",
    *,
    seed: int = 0,
    samples: int = 200,
    draws: int = 1,
    due: Due = each_tenth,
) -> TwoPhases:
    """Train a network and estimate its Fisher information over the training.

    Batch norms are read with the statistics of the images that are read, because their running
    averages arrive late, and the peak is early.

    Args:
        make: returns a new module; see `train_from_scratch`.
        stream: the training images.
        recipe: optimiser, rate and length. Its initial scale must be 1.
        fabric: device and precision.
        seed: seed of the weights, of the images that are read and of the labels that are drawn.
        samples: number of training images that are read, or all if there are fewer.
        draws: labels drawn for each of them.
        due: when the information is read. Default: after each tenth of the steps so far.
    """
    random = generator(seed, Stream.FISHER)
    chosen = torch.randperm(len(stream.data), generator=random)[:samples]
    images = stream.normalisation(stream.data.images[chosen]).to(fabric.device)
    labels = stream.data.labels[chosen].to(fabric.device)
    steps: list[int] = []
    found: list[dict[str, float]] = []
    losses: list[float] = []
    accuracies: list[float] = []
    net: nn.Module

    def making() -> nn.Module:  # Fabric's wrapper would hide the names of the layers
        nonlocal net
        net = make()
        return net

    def look(wrapped: nn.Module, step: int, loss: float) -> bool:
        with own_statistics(net, [images]), evaluating(net):
            with torch.no_grad():
                logits = net(images).float()
            if not logits.isfinite().all():
                raise diverged(recipe)
            found.append(fisher_trace(net, images, random, draws))
        steps.append(step)
        losses.append(float(F.cross_entropy(logits, labels)))
        accuracies.append(float((logits.argmax(1) == labels).float().mean()))
        return False

    with drawing(seed, device=fabric.device):  # the weights with which the training starts
        look(fabric.to_device(making()), 0, torch.nan)
    train_from_scratch(making, stream, recipe, fabric, seed=seed, look=look, due=due)
    return TwoPhases(
        tuple(steps),
        stream.batches_per_epoch,
        {layer: tuple(traces[layer] for traces in found) for layer in found[0]},
        tuple(losses),
        tuple(accuracies),
    )


@register_section("two_phases")
class TwoPhasesSection(Section[TwoPhases]):
    """Train on the images and estimate the Fisher information of the weights on the way.

    Args:
        samples: number of training images on which it is estimated.
        draws: labels drawn for each of them.
    """

    title = "Two phases"
    question = "When do the weights hold most information about the images?"
    sources = (
        "Achille, Rovere and Soatto, Critical learning periods in deep networks, ICLR 2019, "
        "arXiv:1711.08856",
    )
    result = TwoPhases

    def __init__(self, samples: int = 200, draws: int = 1) -> None:
        require_at_least(1, samples=samples, draws=draws)
        self.samples, self.draws = samples, draws

    def steps(self, subject: Subject) -> float:
        training = subject.steps(len(subject.train))
        readings = 1 + sum(each_tenth(step, 1) for step in range(1, round(training) + 1))
        reading = GRADIENT_STEPS * self.samples * self.draws / subject.config.batch_size
        return training + readings * reading

    def measure(self, subject: Subject, pieces: Pieces) -> TwoPhases:
        seed = subject.config.seed
        return pieces(
            "training",
            TwoPhases,
            lambda: two_phases(
                subject.make,
                subject.stream(subject.train, seed),
                subject.recipe,
                subject.fabric,
                seed=seed,
                samples=self.samples,
                draws=self.draws,
            ),
        )

    def sentence(self, result: TwoPhases) -> str:
        traces, peak = result.traces, result.peak
        if peak == len(traces) - 1:
            return "The Fisher information rises until the training ends: there is no second phase."
        at = f"{result.steps[peak] / result.per_epoch:.1f} epochs"
        return (
            f"The Fisher information is largest after {at}, with {traces[peak]:.3g} at a training "
            f"accuracy of {percent(result.accuracies[peak])}, and ends at {traces[-1]:.3g} with "
            f"{percent(result.accuracies[-1])}."
        )

    def figures(self, result: TwoPhases) -> Mapping[str, Figure]:
        epochs = [step / result.per_epoch for step in result.steps]

        def line(values: Sequence[float]) -> list[tuple[float, float]]:
            return list(zip(epochs, values, strict=True))

        largest = sorted(result.layers, key=lambda layer: -max(result.layers[layer]))[:DRAWN_LAYERS]
        drawn = [layer for layer in result.layers if layer in largest]
        return {
            "Trace of the Fisher information of all weights.": draw_lines(
                {"all layers": line(result.traces)}, "epoch", "trace"
            ),
            f"The {len(drawn)} layers with the largest traces.": draw_lines(
                {layer: line(result.layers[layer]) for layer in drawn}, "epoch", "trace"
            ),
            "Accuracy on the same images.": draw_lines(
                {"accuracy": line(result.accuracies)}, "epoch", "accuracy", accuracy=True
            ),
        }

    def tables(self, result: TwoPhases) -> Sequence[Table]:
        rows = []
        for layer, traces in {"all": result.traces, **result.layers}.items():
            peak = max(range(len(traces)), key=traces.__getitem__)
            epoch = f"{result.steps[peak] / result.per_epoch:.1f}"
            values = [f"{value:.3g}" for value in (traces[0], traces[peak], traces[-1])]
            rows.append((layer, values[0], values[1], epoch, values[2]))
        head = ("Layer", "At the start", "Peak", "Epoch of the peak", "At the end")
        return [Table("Trace of the Fisher information", head, rows, numbers=True)]
