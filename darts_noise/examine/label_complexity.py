"""Complexity of labels: how far gradient descent must move the weights to fit them.

Near its initial weights a wide network is linear in them, so gradient descent on the squared error
follows a kernel H: the residual after k steps of rate η is (I − ηH)ᵏ y [1]. Labels along large
eigenvalues of H are fitted fast. √(2 yᵀH⁻¹y / n) bounds the test error of a two-layer network that
has fitted the labels y; random labels have a large one, true labels a small one.

H is the closed form of an infinitely wide two-layer ReLU network, or the tangent kernel of the
network itself at its initial weights.

Reference:
    [1] Arora, Du, Hu, Li and Wang, Fine-grained analysis of optimization and generalization for
        overparameterized two-layer neural networks, ICML 2019, arXiv:1901.08584.
"""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from darts_noise.configured import require_at_least
from darts_noise.data.images import LabelledImages
from darts_noise.data.seeds import Stream, generator
from darts_noise.data.wrong_labels import with_random_labels
from darts_noise.errors import SettingError
from darts_noise.examine.influence import weight_gradient
from darts_noise.examine.section import Pieces, Section, Subject, register_section
from darts_noise.reading import evaluating, recompute_statistics
from darts_noise.report.card import percent
from darts_noise.report.lines import draw_lines
from darts_noise.report.page import Table

TWO_LAYER, TANGENT = "two-layer ReLU network", "tangent kernel"
_GRADIENTS = 2**25
"""Numbers in the gradients that are in memory at once."""


def unit_inputs(images: Tensor) -> Tensor:
    """Return images (N, ...) as vectors (N, D), float64, of length 1.

    Raises:
        SettingError: an image is 0 everywhere.
    """
    x = images.flatten(1).double()
    lengths = x.norm(dim=1, keepdim=True)
    if bool((lengths == 0).any()):
        raise SettingError("images", "expected no image whose normalised pixels are all 0")
    units: Tensor = x / lengths
    return units


def relu_kernel(x: Tensor) -> Tensor:
    """Return H^∞ of a two-layer ReLU network, (N, N), float64, whose first layer is trained.

    H_ij = E_w [x_i·x_j 1(w·x_i ≥ 0) 1(w·x_j ≥ 0)] = x_i·x_j (π − arccos(x_i·x_j)) / 2π, with w
    standard normal ([1], equation 2).

    Args:
        x: inputs (N, D) of length 1; see `unit_inputs`.

    >>> relu_kernel(torch.eye(2))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]], dtype=torch.float64)
    """
    products = x.double() @ x.double().T
    products.fill_diagonal_(1.0)  # rounding below 1 would change the angle by its root
    return products * (math.pi - products.clamp(-1, 1).arccos()) / (2 * math.pi)


class TwoLayer(nn.Module):
    """f(x) = Σ_r a_r max(0, w_r·x) / √m with trained w and fixed signs a: (N, D) → (N,), float64.

    Args:
        inputs: D.
        width: m.
        random: generator of the initial weights.
        scale: κ, the standard deviation of the initial weights. The larger, the less the weights
            move compared with their size, and the nearer the training is to its prediction.
    """

    def __init__(
        self, inputs: int, width: int, random: torch.Generator, scale: float = 1.0
    ) -> None:
        super().__init__()
        weight = torch.randn(width, inputs, generator=random, dtype=torch.float64)
        self.weight = nn.Parameter(scale * weight)
        self.signs: Tensor
        signs = 2.0 * torch.randint(2, (width,), generator=random) - 1
        self.register_buffer("signs", signs.double() / math.sqrt(width))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.T).relu() @ self.signs


class Contrast(nn.Module):
    """The difference of the logits of two classes: images (N, C, H, W) → (N,), in float64.

    It is a copy of the network, with its weights, in eval mode.

    Args:
        net: images → logits (N, num_classes), num_classes ≥ 2.
        classes: the class with label 1 and the class with label −1.
    """

    def __init__(self, net: nn.Module, classes: tuple[int, int] = (1, 0)) -> None:
        super().__init__()
        self.net, self.classes = deepcopy(net).double().eval(), classes

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)
        return logits[:, self.classes[0]] - logits[:, self.classes[1]]


def _block(function: nn.Module) -> int:
    """Return the number of images whose gradients take half of the memory."""
    size = sum(weight.numel() for weight in function.parameters() if weight.requires_grad)
    return max(1, _GRADIENTS // (2 * size))


def tangent_kernel(function: nn.Module, inputs: Tensor) -> Tensor:
    """Return the tangent kernel of a network, K_ij = ∇f(x_i) · ∇f(x_j) over all weights, (N, N).

    Args:
        function: inputs (N, ...) → values (N,). It is read in eval mode and keeps its modes.
        inputs: (N, ...), of the dtype of the weights.
    """
    part = _block(function)

    def gradients(images: Tensor) -> Tensor:
        return torch.stack([weight_gradient(function(x[None])[0], function) for x in images])

    kernel = inputs.new_empty(len(inputs), len(inputs))
    with evaluating(function):
        for i in range(0, len(inputs), part):
            left = gradients(inputs[i : i + part])
            for j in range(0, i + 1, part):
                right = left if j == i else gradients(inputs[j : j + part])
                block = left @ right.T
                kernel[i : i + part, j : j + part] = block
                kernel[j : j + part, i : i + part] = block.T
    return kernel


def label_complexity(kernel: Tensor, labels: Tensor) -> float:
    """Return √(2 yᵀH⁻¹y / n), the complexity of labels ([1], theorem 5.1).

    It is infinite if the kernel cannot fit the labels, such as different labels of equal inputs.

    Args:
        kernel: H, symmetric (n, n), float64.
        labels: y, (n,).

    >>> label_complexity(torch.eye(8, dtype=torch.float64) / 2, torch.ones(8))
    2.0
    """
    eigenvalues, parts = _spectrum(kernel, labels)
    fitted = eigenvalues > len(labels) * torch.finfo(torch.float64).eps * eigenvalues.max()
    if parts[~fitted].square().sum() > 1e-12 * parts.square().sum():
        return math.inf
    total = float((parts[fitted].square() / eigenvalues[fitted]).sum())
    return math.sqrt(2 * total / len(labels))


def predicted_losses(kernel: Tensor, labels: Tensor, rate: float, steps: int) -> tuple[float, ...]:
    """Return ½‖(I − ηH)ᵏ y‖², the loss after k = 0 to `steps` steps ([1], theorem 4.1).

    Args:
        kernel: H, symmetric (n, n), float64.
        labels: y, (n,).
        rate: η.
        steps: the last k.
    """
    eigenvalues, parts = _spectrum(kernel, labels)
    left = (1 - rate * eigenvalues) ** (2 * torch.arange(steps + 1, device=kernel.device)[:, None])
    return tuple((left @ parts.square() / 2).tolist())


def measured_losses(
    function: nn.Module, inputs: Tensor, labels: Tensor, rate: float, steps: int
) -> tuple[float, ...]:
    """Train by gradient descent on ½ Σ (f(x_i) − f₀(x_i) − y_i)², and return its losses.

    The initial values f₀ are taken off, so that the first residual is y as in the prediction. The
    module itself is not changed.

    Args:
        function: inputs (N, ...) → values (N,). It is trained in eval mode.
        inputs: (N, ...), of the dtype of the weights.
        labels: y, (N,).
        rate: η.
        steps: number of steps. The result has one loss more: the first is before any step.
    """
    trained = deepcopy(function).eval()
    weights = [weight for weight in trained.parameters() if weight.requires_grad]
    with torch.no_grad():
        target = trained(inputs) + labels
    losses = []
    for step in range(steps + 1):
        loss = (trained(inputs) - target).square().sum() / 2
        losses.append(loss.detach())
        if step < steps:
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.sub_(rate * gradient)
    return tuple(torch.stack(losses).tolist())


def stable_rate(kernel: Tensor) -> float:
    """Return the learning rate ½ / λ_max, a quarter of the largest with which descent is stable."""
    return 0.5 / float(torch.linalg.eigvalsh(kernel)[-1])


def _spectrum(kernel: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues (n,) and the parts of the labels along the eigenvectors (n,)."""
    eigenvalues, vectors = torch.linalg.eigh(kernel.double())
    return eigenvalues, vectors.T @ labels.to(vectors)


@dataclass(frozen=True)
class LabelFit:
    """Labels and the training that fits them.

    Attributes:
        kernel: the closed form of a wide two-layer network, or the tangent kernel of the network.
        random_share: share of the labels that are random.
        complexity: see `label_complexity`. The tangent kernel is scaled to the mean diagonal 1/2 of
            the closed form.
        predicted: predicted loss before each step and after the last.
        measured: the loss of the training.
    """

    kernel: str
    random_share: float
    complexity: float
    predicted: tuple[float, ...]
    measured: tuple[float, ...]

    @property
    def error(self) -> float:
        """The largest error of the prediction, divided by the first loss."""
        pairs = zip(self.predicted, self.measured, strict=True)
        return max(abs(p - m) for p, m in pairs) / self.predicted[0]


@dataclass(frozen=True)
class LabelComplexity:
    """The trainings of `LabelComplexitySection`.

    Attributes:
        classes: the classes with the labels −1 and 1.
        samples: number of images.
        fits: for each kernel, from the true labels to the random ones.
    """

    classes: tuple[str, str]
    samples: int
    fits: tuple[LabelFit, ...]

    def of(self, kernel: str) -> tuple[LabelFit, ...]:
        """Return the fits of a kernel."""
        return tuple(fit for fit in self.fits if fit.kernel == kernel)


@register_section("label_complexity")
class LabelComplexitySection(Section[LabelComplexity]):
    """Compare true and random labels of two classes by two kernels, and train to check them.

    Args:
        shares: shares of random labels. 0 and 1 are always there.
        classes: numbers of the two classes.
        samples: largest number of images.
        width: hidden neurons of the two-layer network that is trained.
        epochs: steps of gradient descent, each on all images.
    """

    title = "Complexity of labels"
    question = "How much more must the weights move for random labels than for true ones?"
    sources = (
        "Arora, Du, Hu, Li and Wang, Fine-grained analysis of optimization and generalization for "
        "overparameterized two-layer neural networks, ICML 2019, arXiv:1901.08584",
    )
    result = LabelComplexity

    def __init__(
        self,
        shares: tuple[float, ...] = (0.5,),
        classes: tuple[int, ...] = (0, 1),
        samples: int = 100,
        width: int = 4096,
        epochs: int = 100,
    ) -> None:
        if any(not 0 <= share <= 1 for share in shares):
            raise SettingError("shares", f"expected 0 to 1, got {shares}")
        if len(classes) != 2 or classes[0] == classes[1] or min(classes) < 0:
            raise SettingError("classes", f"expected two different classes, got {classes}")
        require_at_least(1, width=width, epochs=epochs)
        require_at_least(2, samples=samples)
        self.shares = sorted({0.0, *shares, 1.0})
        self.classes, self.samples, self.width, self.epochs = classes, samples, width, epochs

    def steps(self, subject: Subject) -> float:
        # float64 takes twice the time of float32. In a tangent kernel, an image takes the time of
        # ten steps' images, once for each pair of blocks that its block is in.
        epoch = 2 * self.samples / subject.config.batch_size
        blocks = max(1, self.samples / _block(subject.untrained()))
        return epoch * (10 * (blocks + 1) / 2 + len(self.shares) * self.epochs)

    def measure(self, subject: Subject, pieces: Pieces) -> LabelComplexity:
        data = self._of_two_classes(subject.train, subject.config.seed)
        device, seed = subject.fabric.device, subject.config.seed
        images = subject.inputs(data)
        points = unit_inputs(images)
        random = generator(seed, Stream.LABEL_COMPLEXITY)
        two_layer = TwoLayer(points.shape[1], self.width, random).to(device)
        net = subject.untrained()
        recompute_statistics(net, [images])
        contrast = Contrast(net)  # of the outputs for the classes 1 and 0: any two would do
        kernel = tangent_kernel(contrast, images.double())
        if not float(kernel.diagonal().mean()) > 0:
            raise ValueError("expected a network whose gradients at the start are not all 0")
        compared: Mapping[str, tuple[Tensor, nn.Module, Tensor]] = {
            TWO_LAYER: (relu_kernel(points), two_layer, points),
            TANGENT: (kernel, contrast, images.double()),
        }

        def fit(name: str, share: float) -> LabelFit:
            kernel, function, inputs = compared[name]
            labels = 2.0 * with_random_labels(data, share, seed).labels.to(device) - 1
            rate = stable_rate(kernel)
            return LabelFit(
                name,
                share,
                label_complexity(kernel / (2 * kernel.diagonal().mean()), labels),
                predicted_losses(kernel, labels, rate, self.epochs),
                measured_losses(function, inputs, labels.double(), rate, self.epochs),
            )

        return LabelComplexity(
            (data.classes[0], data.classes[1]),
            len(data),
            tuple(
                pieces(
                    f"{name}, {100 * share:g}% random labels", LabelFit, partial(fit, name, share)
                )
                for name in compared
                for share in self.shares
            ),
        )

    def _of_two_classes(self, data: LabelledImages, seed: int) -> LabelledImages:
        """Return images of the two classes with the labels 0 and 1."""
        first, second = self.classes
        if max(self.classes) >= data.num_classes:
            raise SettingError(
                "classes", f"expected 0 to {data.num_classes - 1}, got {max(self.classes)}"
            )
        of_both = ((data.labels == first) | (data.labels == second)).nonzero()[:, 0].cpu()
        order = torch.randperm(len(of_both), generator=generator(seed, Stream.LABEL_COMPLEXITY, 1))
        data = data.subset(of_both[order[: self.samples]])
        if not 0 < int((data.labels == second).sum()) < len(data):
            raise SettingError("classes", "expected images of both classes")
        names = (data.classes[first], data.classes[second])
        return replace(data, labels=(data.labels == second).long(), classes=names)

    def sentence(self, result: LabelComplexity) -> str:
        parts = []
        for kernel in (TANGENT, TWO_LAYER):
            true, *_, random = result.of(kernel)
            if math.isfinite(random.complexity):
                ratio = random.complexity / true.complexity
                parts.append(f"{ratio:.1f} times as complex as the true ones for the {kernel}")
            else:
                parts.append(f"impossible to fit for the {kernel}")
        error = max(fit.error for fit in result.of(TANGENT))
        return (
            f"Random labels are {parts[0]}, and {parts[1]}. The tangent kernel predicts the loss "
            f"of the network to within {percent(error)} of the first loss."
        )

    def figures(self, result: LabelComplexity) -> Mapping[str, Figure]:
        by_share, drawn = {}, {}
        for kernel in (TWO_LAYER, TANGENT):
            fits = result.of(kernel)
            by_share[kernel] = [(100 * fit.random_share, fit.complexity) for fit in fits]
            lines = {}
            for labels, fit in (("true", fits[0]), ("random", fits[-1])):
                lines[f"{labels}, predicted"] = list(enumerate(fit.predicted))
                lines[f"{labels}, measured"] = list(enumerate(fit.measured))
            name = "network" if kernel == TANGENT else kernel
            drawn[f"Loss of the {name} on true and random labels."] = draw_lines(
                lines, "step", "loss", log_up=True
            )
        caption = "Complexity of the labels by the share of random ones."
        across = "random labels (%)"
        return {caption: draw_lines(by_share, across, "√(2 yᵀH⁻¹y / n)", points=True), **drawn}

    def tables(self, result: LabelComplexity) -> Sequence[Table]:
        rows = [
            (
                fit.kernel,
                f"{100 * fit.random_share:g}%",
                f"{fit.complexity:.3g}" if math.isfinite(fit.complexity) else "∞",
                f"{fit.predicted[-1] / fit.predicted[0]:.3f}",
                f"{fit.measured[-1] / fit.measured[0]:.3f}",
                percent(fit.error),
            )
            for fit in result.fits
        ]
        head = ("Kernel", "Random labels", "Complexity", "Loss predicted", "measured", "Error")
        caption = (
            f"{result.samples} images of {result.classes[0]} and {result.classes[1]}; last losses "
            "divided by the first"
        )
        return [Table(caption, head, rows, numbers=True)]
