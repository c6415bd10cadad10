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
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from darts_noise.reading import evaluating


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


def correlation_by_layer(
    net: nn.Module, layers: Sequence[str], inputs: Tensor, random: torch.Generator, draws: int = 8
) -> dict[str, Tensor]:
    """Return `gradient_correlation` of the output of each layer with respect to the inputs.

    Args:
        net: inputs (N, ...) → outputs. It is read in eval mode and keeps its modes.
        layers: names of submodules whose output is a tensor (N, ...).
        inputs: (N, ...), such as a `segment` between two images.
        random: a CPU generator for the directions in which the outputs are read.
        draws: number of directions.

    Returns:
        Each layer with its correlations (N, N).
    """
    points = inputs.clone().requires_grad_()
    outputs: dict[str, Tensor] = {}
    hooks = [
        net.get_submodule(layer).register_forward_hook(
            lambda module, given, output, layer=layer: outputs.__setitem__(layer, output)
        )
        for layer in layers
    ]
    try:
        with evaluating(net):
            net(points)
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for layer in layers:
        size = outputs[layer][0].numel()
        directions = torch.randn(draws, size, generator=random)
        found[layer] = gradient_correlation(input_gradients(outputs[layer], points, directions))
    return found


class Layer(nn.Module):
    """One layer of `rectifier_network`: (N, width) → (N, width).

    Plain: W ReLU(x). With a skip connection: (x + β W ReLU(x)) / √(1 + β²), which keeps the
    variance. W has He's initial weights.

    Args:
        width: neurons.
        beta: β, the scale of the layer beside its skip connection. None: no skip connection.
        batch_norm: give the input of the rectifier mean 0 and variance 1 over the points. These
            statistics are constants for the gradients, so that a point has its own gradient.
    """

    def __init__(self, width: int, beta: float | None, batch_norm: bool) -> None:
        super().__init__()
        self.beta, self.batch_norm = beta, batch_norm
        self.linear = nn.Linear(width, width, bias=False)
        nn.init.normal_(self.linear.weight, std=math.sqrt(2 / width))

    def forward(self, x: Tensor) -> Tensor:
        seen = x.detach()
        normed = (x - seen.mean(0)) / seen.std(0) if self.batch_norm else x
        out: Tensor = self.linear(normed.relu())
        if self.beta is None:
            return out
        return (x + self.beta * out) / math.sqrt(1 + self.beta**2)


def rectifier_network(
    inputs: int, depth: int, width: int, beta: float | None = None, batch_norm: bool = False
) -> nn.Sequential:
    """Return the network of [1]: a linear layer (N, inputs) → (N, width), then `Layer` × depth.

    Args:
        inputs: numbers in an input.
        depth: L, number of layers with a rectifier.
        width: neurons of each layer.
        beta: β of the layers. None: no skip connections.
        batch_norm: give the input of each rectifier mean 0 and variance 1 over the points.
    """
    first = nn.Linear(inputs, width, bias=False)
    nn.init.normal_(first.weight, std=math.sqrt(1 / inputs))
    return nn.Sequential(first, *(Layer(width, beta, batch_norm) for _ in range(depth)))


def expected_correlation(angle: float, depth: int, beta: float | None = None) -> float:
    """Return the correlation of two input gradients in an infinitely wide `rectifier_network`.

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
