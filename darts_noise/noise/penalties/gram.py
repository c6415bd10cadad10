"""``gram``: how far the weights would have to go to fit noise labels, beside the real ones.

References:
    [1] Arora, Du, Hu, Li and Wang, Fine-grained analysis of optimization and generalization for
        overparameterized two-layer neural networks, ICML 2019, arXiv:1901.08584.
    [2] Mohamadi, Bae and Sutherland, A fast, well-founded approximation to the empirical neural
        tangent kernel, ICML 2023, arXiv:2206.12543.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_noise.errors import SettingError
from darts_noise.noise.penalties.penalty import Penalty, Trial, register_penalty

TINY = 1e-12
"""Keeps a kernel of zeros, and labels that are all the same, from a division by 0."""


def tangent_kernel(
    logits: Callable[[Sequence[Tensor], Tensor], Tensor], weights: Sequence[Tensor], images: Tensor
) -> Tensor:
    """K = J Jᵀ, with a row of J for each image: the gradient of Σ_c f_c / √C by all weights.

    The sum over the classes stands for each of them, so that an image costs one backward pass and
    not C [2]. One image goes through the network at a time: its row is then its own, and it works
    with every network whose outputs do not depend on the rest of the batch.

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
    """tr(Yᵀ(K + εI)⁻¹Y) / tr(YᵀY) with one-hot labels Y whose mean over the batch is taken away.

    yᵀK⁻¹y is the squared distance that the weights of the linearised network go until they fit y,
    and bounds what they then say of new data [1]. Without its mean Y holds what a guess does not.

    Args:
        kernel: K, (B, B).
        labels: (B,), the numbers of the classes.
        jitter: ε as a share of K's mean diagonal, for images that are alike in the network's eyes.

    Returns:
        A scalar in float64, more than 0 unless all labels are the same.
    """
    kernel = kernel.double()
    y = F.one_hot(labels).to(kernel)
    y = y - y.mean(0)
    ridge = jitter * kernel.diagonal().mean() + TINY
    factor, _ = torch.linalg.cholesky_ex(kernel + ridge * torch.eye(len(y)).to(kernel))
    return (y * torch.cholesky_solve(y, factor)).sum() / (y.square().sum() + TINY)


def relative_ease(noise: Tensor, real: Tensor) -> Tensor:
    """P = real / (real + noise) of two costs, in [0, 1]; small where noise costs more than data.

    >>> relative_ease(torch.tensor(3.0), torch.tensor(1.0)).item()
    0.25
    """
    return real / (real + noise + TINY)


@register_penalty("gram")
class Gram(Penalty):
    """How easily the tangent kernel of w fits the noise labels, beside the real labels.

    P = a_real / (a_real + a_noise), where a is `fitting_cost` on the first images of the validation
    batch and of the noise batch: 1/2 where noise is as easy as data, towards 0 where it is hard.
    Where images of noise look alike to the network, a_noise is at its bound, 1 / ε over the
    kernel's scale, and P and its slope are of the order of ε. A network that sees nothing at all
    has 1/2: data is as hard for it as noise is.

    With several processes each compares images of its own, and P is the mean of their ratios.

    No twin is trained: the kernel says where training on the labels would lead. Batch norms
    use their running statistics, since with those of a batch no image has a row of its own; in the
    first steps of a search they are not there yet, so leave it some ``model.warmup_epochs``. Passes
    are in float32, the B × B system in float64.

    Args:
        samples: B, images of noise and as many of the data; the cost grows with it.
        jitter: ε, the share of the kernel's mean diagonal that is added to it.
    """

    weights = "own"
    norms = "running"

    def __init__(self, samples: int = 8, jitter: float = 1e-3) -> None:
        if samples < 2:
            raise SettingError("samples", f"expected at least 2, got {samples}")
        if not 0 < jitter <= 1:
            raise SettingError("jitter", f"expected more than 0 and at most 1, got {jitter}")
        self.samples, self.jitter = samples, jitter

    def __call__(self, trial: Trial) -> Tensor:
        with torch.autocast(trial.noise[0].device.type, enabled=False):
            noise, real = (self._cost(trial, *batch) for batch in (trial.noise, trial.real))
            return relative_ease(noise, real).to(trial.weights[0].dtype)

    def _cost(self, trial: Trial, images: Tensor, labels: Tensor) -> Tensor:
        images, labels = images[: self.samples], labels[: self.samples]
        kernel = tangent_kernel(trial.logits, trial.weights, images)
        return fitting_cost(kernel, labels, self.jitter)
