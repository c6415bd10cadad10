"""Which training images make a decision, and which images a network memorises.

TracIn [1] adds, over checkpoints of a training, the learning rate times the product of two
gradients of the loss: of a training image and of a test image. It estimates how much the steps on
the training image have lowered the loss of the test image. An image's influence on itself is large
if the network had to memorise it.

Influence functions [2] estimate instead how much the loss of a test image would rise if the last
layer were trained to the end without a training image.

References:
    [1] Pruthi, Liu, Kale and Sundararajan, Estimating training data influence by tracing gradient
        descent, NeurIPS 2020, arXiv:2002.08484, section 3.2 (TracInCP).
    [2] Koh and Liang, Understanding black-box predictions via influence functions, ICML 2017,
        arXiv:1703.04730, section 2.
"""

import io
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from darts_noise.attacks.gradient import margins
from darts_noise.configured import require_at_least
from darts_noise.data.batches import BatchStream
from darts_noise.data.images import LabelledImages
from darts_noise.errors import SettingError, unknown
from darts_noise.examine.section import Pieces, Section, Subject, register_section
from darts_noise.reading import evaluating
from darts_noise.report.card import percent
from darts_noise.report.lines import draw_lines
from darts_noise.report.page import Table
from darts_noise.report.style import OKABE_ITO, RC

CHUNK = 32
"""Images whose gradients are in memory at once."""
COLOURS = {"helpful": OKABE_ITO["blue"], "harmful": OKABE_ITO["vermillion"]}
GRADIENT_STEPS = 12
"""Time of the gradients of a batch's images one by one, divided by the time of a step."""
TENTH = 10
METHODS = ("tracin", "last_layer")
LARGEST_HESSIAN = 10_000
"""Largest number of weights of the last layer. The Hessian is a square matrix of this size."""


def sample_gradients(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the cross-entropy of each image with respect to all weights, (B, P).

    All images of the batch are computed at once if torch can do so with the network.

    Args:
        net: a network in eval mode: images (B, C, H, W) → logits (B, classes).
        images: (B, C, H, W), normalised.
        labels: (B,), int64.
    """
    weights = {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}
    buffers = dict(net.named_buffers())

    def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(net, (weights, buffers), (image[None],))
        return F.cross_entropy(logits.float(), label[None])

    try:
        found = vmap(grad(loss), in_dims=(None, 0, 0))(weights, images, labels)
    except RuntimeError:  # such as control flow that depends on the image
        with torch.enable_grad():
            losses = (
                F.cross_entropy(net(image[None]).float(), label[None])
                for image, label in zip(images, labels, strict=True)
            )
            return torch.stack([weight_gradient(loss, net) for loss in losses])
    return torch.cat([gradient.flatten(1) for gradient in found.values()], dim=1)


def weight_gradient(value: Tensor, net: nn.Module) -> Tensor:
    """Return the gradient of a number with respect to all weights of a network, (P,)."""
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


def influences(net: nn.Module, train: BatchStream, test: BatchStream) -> tuple[Tensor, Tensor]:
    """Return the products of gradients at one checkpoint.

    Args:
        net: the network.
        train: the training images, in order.
        test: the test images whose loss is explained, in order; they should be few.

    Returns:
        (T, N): of each test image with each training image; and (N,): the squared norm of each
        training image's gradient. Float64, on the CPU.
    """
    with evaluating(net):
        explained = torch.cat(list(_gradients(net, test)))
        products, own = [], []
        for gradients in _gradients(net, train):
            products.append((explained @ gradients.T).double().cpu())
            own.append(gradients.square().sum(1).double().cpu())
    return torch.cat(products, dim=1), torch.cat(own)


def self_influence(net: nn.Module, train: BatchStream) -> Tensor:
    """Return the squared norm of the gradient of each image's loss, (N,); see `influences`."""
    with evaluating(net):
        return torch.cat([g.square().sum(1).double().cpu() for g in _gradients(net, train)])


def last_layer_influences(
    train: tuple[Tensor, Tensor],
    labels: Tensor,
    test: tuple[Tensor, Tensor],
    test_labels: Tensor,
    damping: float,
) -> tuple[Tensor, Tensor]:
    """Return influence functions of softmax regression on features [2].

    The loss is the mean cross-entropy plus damping / 2 times the squared norm of the weights. With
    h the features, p the probabilities and y the one-hot label, the gradient of an image is
    g = (p − y) ⊗ h and the Hessian is H = mean((diag(p) − p pᵀ) ⊗ h hᵀ) + damping.

    Args:
        train: features (N, d) and probabilities (N, classes) of the training images.
        labels: (N,), int64.
        test: the same of the test images, (T, d) and (T, classes).
        test_labels: (T,), int64.
        damping: more than 0, so that the Hessian can be inverted.

    Returns:
        (T, N): gᵀ H⁻¹ g / N of each test image with each training image. It is positive if the
        training image lowers the loss. And (N,): of each training image with itself. Float64.
    """
    (h, p), n = (part.double() for part in train), len(labels)
    d, classes = h.shape[1], p.shape[1]
    if d * classes > LARGEST_HESSIAN:
        raise ValueError(
            f"expected a last layer of at most {LARGEST_HESSIAN:,} weights for its Hessian, got "
            f"{d * classes:,}"
        )
    hessian = torch.zeros(classes, d, classes, d, dtype=torch.float64)
    for i in range(classes):
        for j in range(classes):
            weights = p[:, i] * (int(i == j) - p[:, j]) / n
            hessian[i, :, j, :] = h.T @ (weights[:, None] * h)
    hessian = hessian.view(classes * d, classes * d)
    hessian.diagonal().add_(damping)

    def gradients(h: Tensor, p: Tensor, labels: Tensor) -> Tensor:
        error = p - F.one_hot(labels, classes)
        return torch.einsum("nc,nd->ncd", error, h).flatten(1)

    own = gradients(h, p, labels)
    solved = torch.linalg.solve(hessian, own.T)  # (classes · d, N)
    explained = gradients(test[0].double(), test[1].double(), test_labels)
    return explained @ solved / n, (own.T * solved).sum(0) / n


@torch.no_grad()
def last_layer_inputs(net: nn.Module, stream: BatchStream) -> tuple[Tensor, Tensor]:
    """Return the input of the last linear layer with a 1 for its bias, and the probabilities.

    Returns:
        (N, d + 1) and (N, classes), on the CPU.

    Raises:
        ValueError: the logits are not the output of a linear layer.
    """
    last: list[tuple[Tensor, Tensor]] = []

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        last.append((inputs[0], output))

    features, probabilities = [], []
    with evaluating(net), ExitStack() as hooks:
        for layer in net.modules():
            if isinstance(layer, nn.Linear):
                hooks.enter_context(layer.register_forward_hook(hook))
        for k in range(stream.batches_per_epoch):
            logits = net(stream.batch(k)[0])
            if not last or last[-1][1].data_ptr() != logits.data_ptr():
                raise ValueError("expected a network whose last layer is linear")
            features.append(F.pad(last[-1][0].float().cpu(), (0, 1), value=1.0))
            probabilities.append(logits.float().softmax(1).cpu())
            last.clear()
    return torch.cat(features), torch.cat(probabilities)


def _gradients(net: nn.Module, stream: BatchStream) -> Iterator[Tensor]:
    for k in range(stream.batches_per_epoch):
        yield sample_gradients(net, *stream.batch(k))


@dataclass(frozen=True, eq=False)
class Trace:
    """A training with its checkpoints.

    Attributes:
        net: a module for the weights of a checkpoint.
        final: the weights after the training.
        checkpoints: learning rate and weights at each checkpoint.
    """

    net: nn.Module
    final: Mapping[str, Tensor]
    checkpoints: Sequence[tuple[float, Mapping[str, Tensor]]]

    def sum(self, of: Callable[[nn.Module], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Return the sum of each figure over the checkpoints, times the learning rates."""
        parts = []
        for rate, weights in self.checkpoints:
            self.net.load_state_dict(weights)
            parts.append([rate * figure for figure in of(self.net)])
        self.net.load_state_dict(self.final)
        return tuple(torch.stack(figures).sum(0) for figures in zip(*parts, strict=True))


def trace(
    subject: Subject,
    data: LabelledImages,
    epochs: int,
    checkpoints: int,
    watch: Callable[[nn.Module], None] | None = None,
) -> Trace:
    """Train on images and keep the weights at checkpoints, which divide the training evenly.

    Args:
        subject: the network and the settings.
        data: the training images.
        epochs: passes over the images.
        checkpoints: number of checkpoints.
        watch: called with the network after each epoch.

    Raises:
        ValueError: the training diverged.
    """
    recipe = replace(subject.recipe, epochs=epochs)
    at = [round(i * epochs / (checkpoints + 1)) for i in range(1, checkpoints + 1)]
    kept: list[tuple[float, dict[str, Tensor]]] = []

    def weights(net: nn.Module) -> dict[str, Tensor]:
        subject.settle(net, data)
        return {name: value.detach().clone() for name, value in net.state_dict().items()}

    def look(net: nn.Module, steps: int, loss: float) -> bool:
        epoch = round(steps / subject.steps(len(data), 1))
        if epoch in at:
            rate = recipe.learning_rate * (1 + math.cos(math.pi * epoch / epochs)) / 2
            kept.append((rate, weights(net)))
        if watch is not None:
            watch(net)
        return False

    training = subject.trained(data, look, recipe=recipe, seed=subject.config.seed)
    net = subject.untrained()
    net.load_state_dict(final := weights(training.net))
    return Trace(net, final, kept)


@dataclass(frozen=True)
class Example:
    """An image with its label and, for a training image, its influence on a decision."""

    image: str
    label: str
    influence: float | None = None


@dataclass(frozen=True)
class Decision:
    """A decision about a test image, with the training images of largest influence on it.

    Attributes:
        test: the test image with its label.
        decided: the class that the network gives.
        helpful: training images that lowered the loss of the test image most, the first most.
        harmful: training images that raised it most.
    """

    test: Example
    decided: str
    helpful: tuple[Example, ...]
    harmful: tuple[Example, ...]


@dataclass(frozen=True)
class Influence:
    """The influences of the training images.

    Attributes:
        method: one of `METHODS`.
        accuracy: accuracy on the training images after the training.
        decisions: the least sure decisions about test images.
        own: influence of each training image on itself, descending.
        largest: the training images with the largest influence on themselves.
    """

    method: str
    accuracy: float
    decisions: tuple[Decision, ...]
    own: tuple[float, ...]
    largest: tuple[Example, ...]

    @property
    def concentration(self) -> float:
        """Share of all self-influence that the tenth of the images with the largest has."""
        total = sum(self.own)
        return sum(self.own[: max(1, len(self.own) // TENTH)]) / total if total else 0.0


@register_section("influence")
class InfluenceSection(Section[Influence]):
    """Trace the influence of training images on test images, and on themselves.

    Args:
        checkpoints: checkpoints of the training at which gradients are compared.
        epochs: passes over the training images.
        decisions: number of test images, the ones of which the network is least sure.
        examples: number of training images shown for each.
        method: tracin: gradients of all weights at the checkpoints. last_layer: influence functions
            of the last layer.
        damping: added to the Hessian of the last layer, with last_layer.
    """

    title = "Influence"
    question = "Which training images made a decision, and which images did the network memorise?"
    sources = (
        "Pruthi et al., Estimating training data influence by tracing gradient descent, NeurIPS "
        "2020, arXiv:2002.08484",
        "Koh and Liang, Understanding black-box predictions via influence functions, ICML 2017, "
        "arXiv:1703.04730",
    )
    result = Influence

    def __init__(
        self,
        checkpoints: int = 4,
        epochs: int = 30,
        decisions: int = 4,
        examples: int = 4,
        method: str = METHODS[0],
        damping: float = 0.01,
    ) -> None:
        if method not in METHODS:
            raise SettingError("method", unknown("method", method, METHODS))
        if not damping > 0:
            raise SettingError("damping", f"expected more than 0, got {damping}")
        self.method, self.damping = method, damping
        require_at_least(1, checkpoints=checkpoints, decisions=decisions, examples=examples)
        if epochs <= checkpoints:
            raise SettingError(
                "epochs", f"expected more than checkpoints ({checkpoints}), got {epochs}"
            )
        self.checkpoints, self.epochs = checkpoints, epochs
        self.decisions, self.examples = decisions, examples

    def steps(self, subject: Subject) -> float:
        images = len(subject.train)
        checkpoints = self.checkpoints if self.method == "tracin" else 0
        gradients = GRADIENT_STEPS * subject.steps(images, 1) * checkpoints
        return subject.steps(images, self.epochs) + gradients

    def measure(self, subject: Subject, pieces: Pieces) -> Influence:
        return pieces("training and its checkpoints", Influence, lambda: self._traced(subject))

    def _traced(self, subject: Subject) -> Influence:
        data = subject.train
        traced = trace(subject, data, self.epochs, self.checkpoints)
        logits = subject.logits(traced.net, subject.test)
        right = subject.logits(traced.net, data).argmax(1) == data.labels
        margin = margins(logits, subject.test.labels)
        chosen = margin.argsort(stable=True)[: self.decisions]
        test = subject.test.subset(chosen)
        train, few = subject.in_order(data, CHUNK), subject.in_order(test, CHUNK)
        if self.method == "tracin":
            products, own = traced.sum(lambda net: influences(net, train, few))
        else:
            products, own = last_layer_influences(
                last_layer_inputs(traced.net, train),
                data.labels,
                last_layer_inputs(traced.net, few),
                test.labels,
                self.damping,
            )
        decisions = []
        for i, row in enumerate(products):
            order = row.argsort(descending=True).tolist()
            helpful, harmful = order[: self.examples], order[: -self.examples - 1 : -1]
            decisions.append(
                Decision(
                    _example(test, i),
                    test.classes[int(logits[chosen[i]].argmax())],
                    tuple(_example(data, j, float(row[j])) for j in helpful),
                    tuple(_example(data, j, float(row[j])) for j in harmful),
                )
            )
        largest = own.argsort(descending=True)
        most = largest[: 2 * self.examples].tolist()
        return Influence(
            self.method,
            float(right.double().mean()),
            tuple(decisions),
            tuple(own[largest].tolist()),
            tuple(_example(data, j, float(own[j])) for j in most),
        )

    def sentence(self, result: Influence) -> str:
        same = [decision.helpful[0].label == decision.test.label for decision in result.decisions]
        return (
            f"The tenth of the training images that the network memorised most has "
            f"{percent(result.concentration)} of all self-influence; the most helpful training "
            f"image has the class of the test image in {sum(same)} of {len(same)} decisions."
        )

    def figures(self, result: Influence) -> Mapping[str, Figure]:
        parts = np.cumsum([0.0, *result.own]) / (sum(result.own) or 1.0)
        counts = np.linspace(0.0, 100.0, len(parts))
        rows = [
            (
                f"test image: {one.test.label}\nnetwork: {one.decided}",
                [one.test, *one.helpful, *one.harmful],
            )
            for one in result.decisions
        ]
        heads = ("", *_heads("helpful", result), *_heads("harmful", result))
        return {
            "The test images of which the network is least sure, with the training images that "
            "lowered (blue) and raised (orange) their loss most. Titles are labels.": _gallery(
                rows, heads
            ),
            "The training images with the largest influence on themselves.": _gallery(
                [("memorised", result.largest)], ("",) * len(result.largest)
            ),
            "Share of all self-influence in the images that have most of it. A straight line "
            "means that no image is memorised more than another.": draw_lines(
                {"self-influence": list(zip(counts, parts, strict=True))},
                "training images (%), by self-influence",
                "share of self-influence",
                accuracy=True,
            ),
        }

    def tables(self, result: Influence) -> Sequence[Table]:
        rows = [
            (
                f"{one.test.label}, decided {one.decided}",
                _listed(one.helpful),
                _listed(one.harmful),
            )
            for one in result.decisions
        ]
        head = ("Test image", "Helpful: label and influence", "Harmful: label and influence")
        caption = f"Influences by {result.method.replace('_', ' ')}"
        return [
            Table(caption, head, rows),
            Table(
                "Self-influence",
                ("", "Label and influence"),
                [("The largest", _listed(result.largest))],
            ),
        ]


def _heads(kind: str, result: Influence) -> list[str]:
    return [kind] * len(getattr(result.decisions[0], kind))


def _listed(examples: Sequence[Example]) -> str:
    return ", ".join(f"{one.label} ({one.influence:.3g})" for one in examples)


def _example(data: LabelledImages, i: int, influence: float | None = None) -> Example:
    """Return an image of a set as text: a PNG in base64."""
    pixels = torch.as_tensor(data.images[torch.tensor([i])])[0].cpu().numpy()
    shown = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels[:3], 0, -1)
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "png")
    label = data.classes[int(data.labels[i])]
    return Example(b64encode(file.getvalue()).decode(), label, influence)


def _gallery(rows: Sequence[tuple[str, Sequence[Example]]], heads: Sequence[str]) -> Figure:
    """Draw rows of images, each with its name. The label of an image is its title."""
    with matplotlib.rc_context(RC):
        size = (1.3 + 0.62 * len(heads), 0.35 + 0.78 * len(rows))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(rows), len(heads), squeeze=False)
        for (name, examples), cells in zip(rows, grid, strict=True):
            for axes, example, head in zip(cells, examples, heads, strict=True):
                image = Image.open(io.BytesIO(b64decode(example.image)))
                axes.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=255)
                axes.set_xticks([])
                axes.set_yticks([])
                colour = COLOURS.get(head)
                if colour is not None:
                    axes.spines[:].set(visible=True, color=colour, linewidth=1.5)
                axes.set_title(example.label, size=6.5, pad=2.0)
            cells[0].set_ylabel(name, rotation=0, ha="right", va="center", size=6.5)
    return figure
