"""Certificates: how far an image can change before a network of bounded gain changes its class.

In such a network, a change of an image by δ moves the pooled features by at most gain · ‖δ‖₂. The
classifier reads them with the rows w of its weight. So the class i of an image is certain for every

    ‖δ‖₂ < min_j (z_i − z_j) / (logit_scale · ‖w_i − w_j‖₂ · gain)

with the logits z (Tsuzuku et al. 2018, arXiv:1802.04034). As ‖w_i − w_j‖₂ is at most √2, this
radius is at least margin / (√2 · logit_scale · gain).

With ``contrast: smooth``, the network shows an image, hides it, or does something between. Between
both it amplifies. Close to an image that is shown, it does not, and close to one that is hidden the
logits are constant. So there is a second radius without that gain, as far as this holds. The larger
one counts.
"""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from darts_noise.attacks.pixels import OnPixels
from darts_noise.attacks.settings import CERTIFICATE
from darts_noise.data.images import Normalisation
from darts_noise.errors import SettingError
from darts_noise.nets.cell import Cell
from darts_noise.nets.gain import ScaledLinear
from darts_noise.nets.input_filter import Contrast
from darts_noise.nets.macro_layers import Parts
from darts_noise.nets.network import Network
from darts_noise.space.operations import get_operation

OWN_OPERATIONS = "darts_noise.space.operations."


@dataclass(frozen=True)
class Certificate:
    """The certified radius of each image.

    Attributes:
        radii: (N,), float64: the network keeps its class for every change of the image below this
            l2 distance. Pixels are on the scale from 0 to 1.
        correct: (N,), bool: whether that class is the label.
        gain: the largest possible change of the pooled features, divided by the l2 distance of the
            change of the image that causes it. Close to an image it may be less.
        logit_scale: the factor of the logits.
    """

    radii: Tensor
    correct: Tensor
    gain: float
    logit_scale: float

    def accuracy(self, eps: float = 0.0) -> float:
        """Return the share of images that are classified right after every change up to `eps`."""
        robust = self.correct & ((self.radii > eps) | (eps == 0))
        return float(robust.double().mean())

    def to_dict(self) -> dict[str, Any]:
        """Return the certificate as a JSON object. An infinite radius is null."""
        return {
            "format": CERTIFICATE,
            "norm": "l2",
            "gain": self.gain,
            "logit_scale": self.logit_scale,
            "images": len(self.radii),
            "radii": [radius if math.isfinite(radius) else None for radius in self.radii.tolist()],
            "correct": self.correct.tolist(),
        }


def require_bounded(net: nn.Module) -> Network:
    """Return the network if it can be certified.

    Raises:
        ValueError: it cannot. The message says why.
    """
    if not isinstance(net, Network) or not isinstance(net.classifier, ScaledLinear):
        raise SettingError(
            "net",
            f"expected a network of create_model with a classifier, got {type(net).__name__}; no "
            "bound on the gain of other modules is known",
        )
    genotype = net.genotype
    if genotype.choice("gain") != "bounded":
        norm = genotype.choice("normalisation")
        why = {
            "batch": "batch norm multiplies by weights and statistics of any size",
            "layer": "layer norm amplifies images of little contrast without limit",
        }.get(str(norm), "its weights may have any size")
        raise SettingError(
            "net", f"no certificate: expected gain 'bounded' (--model.space bounded), because {why}"
        )
    names = {
        name for cell in (genotype.normal, genotype.reduce) for node in cell for name, _ in node
    }
    for name in sorted(names):
        if name == "noise":
            raise SettingError("net", "no certificate: the operation 'noise' gives random outputs")
        if not get_operation(name).build.__module__.startswith(OWN_OPERATIONS):
            raise SettingError(
                "net", f"no certificate: the gain of the plugin's operation {name!r} is not known"
            )
    return net


@torch.inference_mode()
def certified_radii(net: Network, normalisation: Normalisation, pixels: Tensor) -> Tensor:
    """Return the radius of each image as in `Certificate`, (B,), float64.

    Args:
        net: a network that `require_bounded` accepts, in eval mode.
        normalisation: of its images.
        pixels: (B, C, H, W), from 0 to 1.
    """
    logits = OnPixels(net, normalisation)(pixels).double()
    classifier = net.classifier
    assert isinstance(classifier, ScaledLinear)
    top = logits.argmax(1, keepdim=True)
    margins = logits.gather(1, top) - logits
    rows = classifier.weight.double()
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    changes = margins / (classifier.scale * distances[top[:, 0]])
    changes.scatter_(1, top, math.inf)  # the class itself
    least = changes.amin(1).nan_to_num(0.0, posinf=math.inf)  # of the pooled features
    gain = feature_gain(net, normalisation, pixels)
    radii: Tensor = least / gain
    seen, before = normalisation(255 * pixels), 1 / min(normalisation.std)
    for step in net.input_filter.children():
        if isinstance(step, Contrast) and step.kind == "smooth":
            steady = step.steady_radius(seen.double()) / before
            hidden = step(seen).flatten(1).count_nonzero(1) == 0
            near = torch.where(hidden, steady, torch.minimum(steady, least * step.gain / gain))
            radii = torch.maximum(radii, near)
        seen, before = step(seen), before * getattr(step, "gain", 1.0)
    return radii


def feature_gain(net: Network, normalisation: Normalisation, pixels: Tensor) -> float:
    """Return a bound on the gain from pixels to the input of the classifier.

    Every layer has a gain of at most 1. An average over n pixels has 1 / √n, if it reads no pixel
    twice.

    Args:
        net: a network that `require_bounded` accepts.
        normalisation: of its images.
        pixels: images (B, C, H, W), B ≥ 1. Only their size counts.
    """
    means = _mean_gains(net, pixels)
    gain = 1 / min(normalisation.std)
    for step in net.input_filter.children():
        gain *= getattr(step, "gain", 1.0)
    first = second = gain * _gain(net.stem_pooling, means)
    for cell in net.cells:
        assert isinstance(cell, Cell)
        first, second = second, _cell_gain(cell, first, second, means)
    return second * _gain(net.pool, means)


def _cell_gain(cell: Cell, first: float, second: float, means: Mapping[nn.Module, float]) -> float:
    """Return the gain from the image to a cell's output, given those to its two inputs."""
    states = [
        gain * _gain(step, means)
        for gain, step in zip((first, second), cell.preprocess, strict=True)
    ]
    for node, operations in zip(cell.nodes, cell.operations, strict=True):
        assert isinstance(operations, nn.ModuleList)
        terms = [
            states[predecessor] * _gain(operation, means)
            for (_, predecessor), operation in zip(node, operations, strict=True)
        ]
        states.append(sum(terms) / len(terms))
    return math.hypot(*(states[i] for i in cell.concat)) / math.sqrt(len(cell.concat))


def _gain(module: nn.Module, means: Mapping[nn.Module, float]) -> float:
    if isinstance(module, nn.Sequential):
        return math.prod(_gain(step, means) for step in module)
    return means.get(module, 1.0)


def _mean_gains(net: nn.Module, pixels: Tensor) -> dict[nn.Module, float]:
    """Return the gain of each average over separate windows, for the map that it reads."""
    found: dict[nn.Module, float] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sides = inputs[0].shape[-2:]
        if isinstance(module, Parts):
            windows = [-(-side // module.count) for side in sides]
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            windows = list(sides)
        elif module.kernel_size == module.stride:
            windows = [int(module.kernel_size)] * 2  # type: ignore[arg-type]
        else:
            return
        # At the border a window may have fewer pixels.
        pixels = [min(w, side % w or w) for w, side in zip(windows, sides, strict=True)]
        found[module] = max(found.get(module, 0.0), 1 / math.sqrt(math.prod(pixels)))

    with ExitStack() as hooks:
        for module in net.modules():
            if isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d | Parts):
                hooks.enter_context(module.register_forward_hook(note))
        net(pixels[:1])
    return found
