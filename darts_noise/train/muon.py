"""The optimiser Muon, for networks whose layers are convolutions.

References:
    Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks,
    https://kellerjordan.github.io/posts/muon
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration, from the reference."""
BIASES = 0.015
"""Learning rate of Adam as a multiple of the rate of the matrices. In a network of bounded gain, a
bias acts with the whole logit scale, so it needs small steps."""


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return a matrix with nearly the same singular vectors, and singular values of about 1.

    For the singular value decomposition U S Vᵀ of the input it is U S' Vᵀ, where the values S' are
    between about 0.7 and 1.2. Values of S far below the largest one stay smaller.

    Args:
        matrix: (rows, columns).
        steps: steps of the Newton-Schulz iteration. Default: 5.
    """
    a, b, c = QUINTIC
    is_tall = len(matrix) > matrix.shape[1]
    x: Tensor = matrix / (matrix.norm() + 1e-7)
    x = x.T if is_tall else x
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if is_tall else x


class Muon(Optimizer):
    """Momentum whose step of each matrix is orthogonalised; other weights are trained by Adam.

    A convolution kernel (C_out, C_in, height, width) is the matrix (C_out, C_in · height · width).
    All singular values of a step are about equally large, so weak directions are learnt as fast as
    strong ones. `torch.optim.Muon` accepts only weights of two dimensions.

    Args:
        parameters: the weights. Biases and the weights of norms are trained by Adam.
        lr: learning rate of the matrices. Each step changes a matrix by about this times an
            orthogonal matrix. Adam's is `BIASES` times this, also where both groups of weights get
            the same rate from a schedule. Default: 0.02.
        momentum: momentum of the matrices; it is Nesterov's. Default: 0.95.
        weight_decay: factor on the weights in each step, as a share of the learning rate. Default:
            0.
    """

    found_inf: Tensor | None = None
    """A step changes no weight if this is above 0; see `darts_noise.finite`."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        everything = list(parameters)
        matrices = [p for p in everything if _is_matrix(p)]
        others = [p for p in everything if not _is_matrix(p)]
        groups = [{"params": matrices}, {"params": others}]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step; see `torch.optim.Optimizer.step`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        of_matrices, of_others = self.param_groups
        kinds = ((of_matrices, _direction, 1.0), (of_others, _adam_direction, BIASES))
        for group, update, factor in kinds:
            rate, decay = factor * group["lr"], group["weight_decay"]
            for weight in group["params"]:
                if weight.grad is not None:
                    change = update(weight.grad, self.state[weight], group["momentum"])
                    if self.found_inf is not None:
                        change = torch.where(self.found_inf > 0, 0, change)
                    kept = 1 - rate * decay
                    if decay and self.found_inf is not None:
                        kept = torch.where(self.found_inf > 0, 1, kept)
                    weight.mul_(kept).sub_(rate * change)
        return loss


def _is_matrix(weight: Tensor) -> bool:
    """Return whether a weight has rows of several entries. A bias (C, 1, 1) has not."""
    return weight.ndim > 1 and weight[0].numel() > 1


def _direction(grad: Tensor, state: dict[str, Any], momentum: float) -> Tensor:
    """Return the step of a matrix or kernel at learning rate 1."""
    if not state:
        state["momentum"] = torch.zeros_like(grad)
    average: Tensor = state["momentum"]
    average.lerp_(grad, 1 - momentum)
    step = grad.lerp(average, momentum).flatten(1)
    rows, columns = step.shape
    scale: float = max(1.0, rows / columns) ** 0.5
    return orthogonalised(step).view(grad.shape) * scale


def _adam_direction(grad: Tensor, state: dict[str, Any], momentum: float) -> Tensor:
    """Return the step of Adam at learning rate 1, with its usual betas."""
    beta_1, beta_2 = 0.9, 0.999
    if not state:
        state.update(first=torch.zeros_like(grad), second=torch.zeros_like(grad), steps=0)
    state["steps"] += 1
    first: Tensor = state["first"]
    second: Tensor = state["second"]
    steps: int = state["steps"]
    first.lerp_(grad, 1 - beta_1)
    second.lerp_(grad.square(), 1 - beta_2)
    return first / (1 - beta_1**steps) / (second / (1 - beta_2**steps)).sqrt().add(1e-8)
