"""Gradients of inputs: whether nearby points have nearby gradients, by depth.

The gradient of an output with respect to the input is a function of the input. In a plain deep
network of rectifiers the gradients of nearby points become unrelated as in white noise: the
correlation halves with every layer, as 2⁻ᴸ. With skip connections it falls slower, and as in brown
noise nearby points keep related gradients [1]. An optimiser that steps along a gradient relies on
its being like the gradients nearby.

Reference:
    [1] Balduzzi, Frean, Leary, Lewis, Ma and McWilliams, The shattered gradients problem: if
        resnets are the answer, then what is the question?, ICML 2017, arXiv:1702.08591.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from darts_noise.configured import require_at_least
from darts_noise.data.seeds import Stream, generator
from darts_noise.examine.section import Pieces, Section, Subject, register_section
from darts_noise.reading import evaluating
from darts_noise.report.lines import draw_lines
from darts_noise.report.page import Table


def input_gradients(outputs: Tensor, inputs: Tensor, directions: Tensor) -> Tensor:
    """Return the gradients of some linear combinations of outputs: (K, N, ...).

    Args:
        outputs: (N, ...), computed from `inputs` point by point.
        inputs: (N, ...), which require gradients.
        directions: (K, outputs of a point), the weights of the combinations.
    """
    flat = outputs.flatten(1)
    found = [
        torch.autograd.grad((flat @ direction).sum(), inputs, retain_graph=True)[0]
        for direction in directions.to(flat)
    ]
    return torch.stack(found)


def gradient_correlation(gradients: Tensor) -> Tensor:
    """Return the correlation of the gradients of each pair of points, (N, N), from −1 to 1.

    The mean over random outputs is 0, as the sign of an output is arbitrary. So the correlation is
    Σ_k g_k(x)·g_k(x') / √(Σ_k ‖g_k(x)‖² Σ_k ‖g_k(x')‖²). A linear network has 1 everywhere. A point
    without a gradient has NaN.

    Args:
        gradients: (K, N, ...), of K outputs.
    """
    flat = gradients.transpose(0, 1).flatten(1).double()
    products = flat @ flat.T
    lengths = products.diagonal().sqrt()
    return products / torch.outer(lengths, lengths)


def by_distance(correlation: Tensor) -> tuple[float, ...]:
    """Return the mean correlation of points that are 0, 1, 2, … apart on a line.

    Args:
        correlation: (N, N), of points in the order of the line.
    """
    return tuple(float(correlation.diagonal(lag).nanmean()) for lag in range(len(correlation)))


def segment(start: Tensor, stop: Tensor, count: int) -> Tensor:
    """Return equally spaced points from one input (...) to another, both included: (count, ...)."""
    steps = torch.linspace(0, 1, count, dtype=start.dtype, device=start.device)
    return start + steps.view(-1, *[1] * start.ndim) * (stop - start)


def layers_of(net: nn.Module) -> list[str]:
    """Return the names of the layers of a network: its children, and the elements of lists of them.

    >>> layers_of(nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(2, 2), nn.ReLU())))
    ['0', '1.0', '1.1']
    """
    lists = (nn.Sequential, nn.ModuleList)
    return [
        f"{name}.{element}" if isinstance(child, lists) else name
        for name, child in net.named_children()
        for element in (range(len(child)) if isinstance(child, lists) else [0])
    ]


def correlation_by_layer(
    net: nn.Module, layers: Sequence[str], inputs: Tensor, random: torch.Generator, draws: int = 8
) -> dict[str, Tensor]:
    """Return `gradient_correlation` of the output of each layer with respect to the inputs.

    Args:
        net: inputs (N, ...) → outputs. It is read in eval mode and keeps its modes.
        layers: names of submodules.
        inputs: (N, ...), such as a `segment` between two images.
        random: a CPU generator for the directions in which the outputs are read.
        draws: number of directions.

    Returns:
        Each layer with its correlations (N, N). Layers are left out that are not called, whose
        output is not a tensor (N, ...), or whose output does not depend on the inputs.
    """
    points = inputs.clone().requires_grad_()
    outputs: dict[str, Tensor] = {}

    def keep(layer: str, module: nn.Module, given: object, output: object) -> None:
        if isinstance(output, Tensor) and output.requires_grad and len(output) == len(points):
            outputs[layer] = output

    with evaluating(net), ExitStack() as hooks:
        for layer in layers:
            hook = partial(keep, layer)
            hooks.enter_context(net.get_submodule(layer).register_forward_hook(hook))
        net(points)
    found = {}
    for layer in layers:
        if layer in outputs:
            directions = torch.randn(draws, outputs[layer][0].numel(), generator=random)
            gradients = input_gradients(outputs[layer], points, directions)
            if bool(gradients.any()):
                found[layer] = gradient_correlation(gradients)
    return found


def expected_correlation(angle: float, depth: int, beta: float | None = None) -> float:
    """Return the correlation of two input gradients in an infinitely wide network of rectifiers.

    A rectifier passes the gradients of both points with probability (1 − θ/π) / 2 and the gradient
    of one point with 1/2. So a plain layer multiplies the correlation by 1 − θ/π, with the angle θ
    of the points before the layer, and a layer with a skip connection multiplies it by
    (1 + β² (1 − θ/π)) / (1 + β²). After a plain layer cos θ is (sin θ + (π − θ) cos θ) / π (Cho and
    Saul, Kernel methods for deep learning, NIPS 2009, section 2.1). In [1], θ is π/2 in all layers,
    as batch norm makes it on average: then the correlations are 2⁻ᴸ and, for β = 1, (3/4)ᴸ.

    Args:
        angle: angle of the points in radians, from 0 to π.
        depth: L, number of layers with a rectifier.
        beta: β. None: no skip connections.

    >>> expected_correlation(0.0, 10), expected_correlation(math.pi / 2, 1)
    (1.0, 0.5)
    >>> expected_correlation(math.pi / 2, 1, beta=1.0)
    0.75
    """
    of_layer = 1.0 if beta is None else beta**2 / (1 + beta**2)  # share of the variance
    correlation = 1.0
    for _ in range(depth):
        correlation *= 1 - of_layer * angle / math.pi
        cosine = (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi
        cosine = of_layer * cosine + (1 - of_layer) * math.cos(angle)
        angle = math.acos(min(1.0, cosine))
    return correlation


@dataclass(frozen=True)
class InputGradients:
    """Correlations of the input gradients of points on lines between images.

    Attributes:
        layers: the layers of the network, from the input to the output.
        lags: for each layer the mean correlation of points that are 0, 1, 2, … apart.
        angle: mean angle of neighbouring points in radians.
    """

    layers: tuple[str, ...]
    lags: tuple[tuple[float, ...], ...]
    angle: float

    @property
    def neighbours(self) -> tuple[float, ...]:
        """The mean correlation of neighbouring points, by layer."""
        return tuple(lags[1] for lags in self.lags)


@register_section("input_gradients")
class InputGradientsSection(Section[InputGradients]):
    """Read the gradients of an untrained network on lines between training images.

    Args:
        lines: number of lines, each between two images.
        points: points on each line.
        draws: random directions in which the output of a layer is read.
    """

    title = "Gradients of inputs"
    question = "Do nearby points have related gradients, also in deep layers?"
    sources = (
        "Balduzzi et al., The shattered gradients problem: if resnets are the answer, then what is "
        "the question?, ICML 2017, arXiv:1702.08591",
    )
    result = InputGradients

    def __init__(self, lines: int = 10, points: int = 16, draws: int = 8) -> None:
        require_at_least(1, lines=lines, draws=draws)
        require_at_least(3, points=points)
        self.lines, self.points, self.draws = lines, points, draws

    def steps(self, subject: Subject) -> float:
        # A backward pass for each direction of each layer, which is half as deep on average.
        passes = self.draws * len(layers_of(subject.untrained())) / 3
        return self.lines * passes * self.points / subject.config.batch_size

    def measure(self, subject: Subject, pieces: Pieces) -> InputGradients:
        return pieces("lines between images", InputGradients, lambda: self._measure(subject))

    def _measure(self, subject: Subject) -> InputGradients:
        random = generator(subject.config.seed, Stream.INPUT_GRADIENT)
        images, net = subject.inputs(subject.train), subject.untrained()
        subject.settle(net, subject.train)
        found: dict[str, list[Tensor]] = {}
        angles = []
        for _ in range(self.lines):
            start, stop = torch.randperm(len(images), generator=random)[:2].tolist()
            points = segment(images[start], images[stop], self.points)
            for layer, correlation in correlation_by_layer(
                net, layers_of(net), points, random, self.draws
            ).items():
                found.setdefault(layer, []).append(correlation)
            flat = points.flatten(1).double()
            angles.append(torch.cosine_similarity(flat[1:], flat[:-1]).clamp(-1, 1).acos().mean())
        if not found:
            raise ValueError("expected a network whose layers depend on the images, got none")
        return InputGradients(
            tuple(found),
            tuple(by_distance(torch.stack(each).nanmean(0)) for each in found.values()),
            float(torch.stack(angles).mean()),
        )

    def sentence(self, result: InputGradients) -> str:
        lags = result.lags[-1]
        count = len(lags)
        return (
            f"Behind the last of {len(result.layers)} layers, the input gradients of neighbouring "
            f"points have a correlation of {lags[1]:.2f}, and those at the two ends of a line "
            f"one of {lags[-1]:.2f}. Brown noise has {_brown(1, count):.2f} and "
            f"{_brown(count - 1, count):.2f}, and white noise has 0."
        )

    def figures(self, result: InputGradients) -> Mapping[str, Figure]:
        by_depth = {"this network": list(enumerate(result.neighbours, 1))}
        for name, beta in (("plain", None), ("skips, β = 1", 1.0), ("skips, β = 0.3", 0.3)):
            by_depth[f"wide, {name}"] = [
                (depth, expected_correlation(result.angle, depth, beta))
                for depth in range(1, len(result.layers) + 1)
            ]
        drawn = draw_lines(by_depth, "layer", "correlation", points=True)
        count = len(result.lags[0])
        shown = {0: "first layer", len(result.layers) // 2: "middle layer", -1: "last layer"}
        along = {name: list(enumerate(result.lags[layer])) for layer, name in shown.items()}
        along["brown noise"] = [(lag, _brown(lag, count)) for lag in range(count)]
        along["white noise"] = [(lag, float(lag == 0)) for lag in range(count)]
        return {
            "Correlation of the input gradients of neighbouring points by depth. The wide networks "
            "have one rectifier in each layer.": drawn,
            "Correlation by the distance on a line between two images.": draw_lines(
                along, "steps apart", "correlation"
            ),
        }

    def tables(self, result: InputGradients) -> Sequence[Table]:
        rows = [
            (layer, f"{lags[1]:.3f}", f"{lags[len(lags) // 2]:.3f}", f"{lags[-1]:.3f}")
            for layer, lags in zip(result.layers, result.lags, strict=True)
        ]
        head = ("Layer", "Neighbours", "Half a line apart", "Ends of a line")
        return [Table("Correlation of the input gradients", head, rows, numbers=True)]


def _brown(lag: int, count: int) -> float:
    """Return the mean correlation of points of a Brownian motion at the times 1 to `count`.

    >>> round(_brown(1, 2), 4)  # of the times 1 and 2
    0.7071
    """
    return sum(math.sqrt(t / (t + lag)) for t in range(1, count - lag + 1)) / (count - lag)
