"""The penalty ``gram``: the cost of fitting noise labels, compared with the real labels.

References:
    [1] Arora, Du, Hu, Li and Wang, Fine-grained analysis of optimization and generalization for
        overparameterized two-layer neural networks, ICML 2019, arXiv:1901.08584.
    [2] Mohamadi, Bae and Sutherland, A fast, well-founded approximation to the empirical neural
        tangent kernel, ICML 2023, arXiv:2206.12543.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from darts_noise.errors import SettingError
from darts_noise.noise.penalties.penalty import Penalty, PenaltyInputs, register_penalty

TINY = 1e-12
"""Prevents a division by 0 for a kernel of zeros and for labels that are all equal."""


def tangent_kernel(
    logits: Callable[[Sequence[Tensor], Tensor], Tensor], weights: Sequence[Tensor], images: Tensor
) -> Tensor:
    """Compute K = J Jᵀ. A row of J is the gradient of Σ_c f_c / √C of one image.

    The gradient is with respect to all weights. The sum over the classes approximates the C single
    classes, so an image costs one backward pass instead of C [2]. Each image passes through the
    network alone. The function works for every network whose output for an image does not depend on
    the rest of the batch.

    Args:
        logits: (weights, images (1, channels, H, W)) → (1, C).
        weights: the P weights in any number of tensors.
        images: (B, channels, H, W).

    Returns:
        (B, B) in the weights' precision, differentiable.
    """
    weights = [w if w.requires_grad else w.detach().requires_grad_() for w in weights]
    rows = []
    for image in torch.split(images, 1):
        f = logits(weights, image)
        slope = torch.autograd.grad(
            f.sum() / math.sqrt(f.shape[1]),
            weights,
            create_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        rows.append(torch.cat([g.flatten() for g in slope]))
    jacobian = torch.stack(rows)
    return jacobian @ jacobian.t()


def fitting_cost(kernel: Tensor, labels: Tensor, jitter: float) -> Tensor:
    """Compute tr(Yᵀ(K + εI)⁻¹Y) / tr(YᵀY) with one-hot labels Y minus their mean over the batch.

    yᵀK⁻¹y is the squared distance that the weights of the linearised network move until they fit y.
    It also bounds the generalisation error [1]. A constant guess already fits the mean, so the mean
    is subtracted.

    Args:
        kernel: K, (B, B).
        labels: (B,), the numbers of the classes.
        jitter: ε as a share of K's mean diagonal. It is needed if the network maps several images
            to nearly the same output.

    Returns:
        A scalar in float64, more than 0 unless all labels are equal.
    """
    kernel = kernel.double()
    y = (labels[:, None] == labels).to(kernel)
    y = y / y.sum(0).sqrt()  # YYᵀ as of one-hot labels, whose width only the host could read
    y = y - y.mean(0)
    ridge = jitter * kernel.diagonal().mean() + TINY
    factor, _ = torch.linalg.cholesky_ex(kernel + ridge.expand(len(y)).diag())
    return (y * torch.cholesky_solve(y, factor)).sum() / (y.square().sum() + TINY)


def relative_ease(noise: Tensor, real: Tensor) -> Tensor:
    """Return P = real / (real + noise) of two costs, in [0, 1]. It is small if noise costs more.

    >>> relative_ease(torch.tensor(3.0), torch.tensor(1.0)).item()
    0.25
    """
    return real / (real + noise + TINY)


@register_penalty("gram")
class Gram(Penalty):
    """A penalty on how easily the tangent kernel of w fits noise labels, relative to real labels.

    P = a_real / (a_real + a_noise), where a is `fitting_cost` on the first images of the validation
    batch and of the noise batch. P is 1/2 if noise is as easy to fit as data, and tends to 0 if
    noise is hard to fit. If all noise images look the same to the network, a_noise is at its bound,
    1 / ε divided by the scale of the kernel; P and its slope are then of the order of ε. A network
    that ignores its input has P = 1/2, because data is as hard for it as noise.

    With several processes, each process compares its own images, and P is the mean of the ratios.

    No twin is trained: the kernel predicts the result of training on the labels. Batch norms use
    their running statistics, because with batch statistics the output for one image would depend on
    the others. The running statistics are not meaningful in the first steps of a search, so set
    ``model.warmup_epochs``. Passes are in float32, the B × B system is in float64.

    Args:
        samples: B, the number of noise images and the number of real images. The cost grows with B.
            Default: 8.
        jitter: ε, the share of the kernel's mean diagonal that is added to the diagonal. Default:
            0.001.
    """

    weights = "own"
    norms = "running"

    def __init__(self, samples: int = 8, jitter: float = 1e-3) -> None:
        if samples < 2:
            raise SettingError("samples", f"expected at least 2, got {samples}")
        if not 0 < jitter <= 1:
            raise SettingError("jitter", f"expected more than 0 and at most 1, got {jitter}")
        self.samples, self.jitter = samples, jitter

    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        with torch.autocast(inputs.noise[0].device.type, enabled=False):
            noise, real = (self._cost(inputs, *batch) for batch in (inputs.noise, inputs.real))
            return relative_ease(noise, real).to(inputs.weights[0].dtype)

    def _cost(self, inputs: PenaltyInputs, images: Tensor, labels: Tensor) -> Tensor:
        images, labels = images[: self.samples], labels[: self.samples]
        kernel = tangent_kernel(inputs.logits, inputs.weights, images)
        return fitting_cost(kernel, labels, self.jitter)
