"""The hypergradient: the gradient with respect to α through the weights that depend on α.

With lower-level weights w and one step w'(α) = w − η(∇_w L_inner(w, α) + weight decay + momentum),
the gradient of L_outer(w'(α), α) is

    ∂_α L_outer(w', α) − η ∂²_αw L_inner(w, α) · ∂_w' L_outer(w', α)

`METHODS` lists four ways to compute it. Each works for w and for v:

- ``first_order``: η = 0. There is no second term, and w' is w (DARTS, section 2.3).
- ``finite_difference``: two more gradients, at w ± ε·∂_w' L_outer with ε = 0.01 / ‖∂_w' L_outer‖,
  give the second term (DARTS, equation 8). On networks with ReLU and max-pool it does *not*
  approach the exact value: a step of that size crosses many kinks, and the error is as large as the
  gradient itself (relative error 1 to 4 on the reference supernet). On smooth networks the error
  falls as ε².
- ``exact``: automatic differentiation through the step.
- ``neumann``: the limit of many steps. The implicit function theorem needs the inverse Hessian of
  L_inner. The first 1 + ``terms`` terms of its Neumann series approximate it (Lorraine et al.
  2020, arXiv:1911.02590, algorithm 3).

To add a method, write a function of a `Problem` and add it to `METHODS`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from darts_noise.data.batches import Batch
from darts_noise.errors import SettingError, unknown
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.gradients import (
    AlphaGradient,
    gradients,
    still_statistics,
    unrounded,
    vector_product,
    with_weights,
)

Objective = Callable[[Sequence[Tensor]], Tensor]
"""A scalar loss as a function of the lower-level weights. The function captures α."""


@dataclass(frozen=True)
class InnerStep:
    """The next step of the lower-level optimiser.

    Attributes:
        learning_rate: η.
        weight_decay: factor of the weights that are added to the gradient.
        momentum: factor of the momentum buffers that are added to the gradient.
        buffers: one momentum buffer per weight. None for a weight without a buffer yet. Empty for
            no momentum.
    """

    learning_rate: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    buffers: Sequence[Tensor | None] = field(default_factory=tuple)

    def apply(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        """Return the weights after the step that ``torch.optim.SGD`` would make; differentiable."""
        buffers = self.buffers or [None] * len(weights)
        stepped = []
        for w, g, buffer in zip(weights, gradients, buffers, strict=True):
            direction = g + self.weight_decay * w
            if buffer is not None:
                direction = direction + self.momentum * buffer
            stepped.append(w - self.learning_rate * direction)
        return stepped

    @classmethod
    def of(cls, optimiser: Optimizer) -> "InnerStep":
        """Return the next step of an SGD optimiser with one parameter group.

        Raises:
            ValueError: another optimiser, or several parameter groups.
        """
        if not isinstance(optimiser, SGD) or len(optimiser.param_groups) != 1:
            raise ValueError("expected an SGD with one group of parameters")
        [group] = optimiser.param_groups
        buffers = [optimiser.state[p].get("momentum_buffer") for p in group["params"]]
        return cls(group["lr"], group["weight_decay"], group["momentum"], buffers)


@dataclass(frozen=True)
class Problem:
    """The arguments of a method; see `hypergradient`. The weights are leaves with a gradient."""

    outer: Objective
    inner: Objective
    weights: list[Tensor]
    architecture: Sequence[Tensor]
    step: InnerStep
    epsilon: float
    terms: int


def hypergradient(
    outer: Objective,
    inner: Objective,
    weights: Sequence[Tensor],
    architecture: Sequence[Tensor],
    *,
    method: str = "first_order",
    step: InnerStep | None = None,
    epsilon: float = 0.01,
    terms: int = 5,
) -> AlphaGradient:
    """Return the gradient of the outer loss with respect to α, at the weights after one inner step.

    The function changes no weight, no optimiser, no ``.grad`` and no random number generator. Each
    evaluation of an objective draws the same random numbers. Make objectives of networks with batch
    norm by `objective`, which leaves the running statistics alone.

    With several processes, all processes must call this function. A loss is then the mean of the
    losses over processes, so the inner step and every gradient are averaged.

    Args:
        outer: the loss that α minimises, as a function of the weights.
        inner: the loss that the weights minimise, as a function of the weights.
        weights: w (or v), the argument of the objectives.
        architecture: the tensors of α that the objectives depend on.
        method: ``first_order`` (the default), ``finite_difference``, ``exact`` or ``neumann``; see
            the docstring of this module.
        step: the inner step. All methods except ``first_order`` need it.
        epsilon: step size of ``finite_difference``, in units of ‖∂_w' L_outer‖⁻¹.
        terms: number of terms of the series of ``neumann`` after its first.

    Raises:
        ValueError: no such method, or the method needs a step and got none.
    """
    require_method(method)
    if method != "first_order" and step is None:
        raise ValueError(f"hypergradient {method!r} needs the inner step")
    step = step or InnerStep(0.0)
    devices = sorted({w.device.index or 0 for w in weights if w.is_cuda})
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        same = _same_random_numbers(devices)
        point = [w.detach().requires_grad_() for w in weights]
        return METHODS[method](
            Problem(same(outer), same(inner), point, architecture, step, epsilon, terms)
        )


def require_method(method: str) -> None:
    """Raise a `SettingError` that lists the valid methods if ``method`` is not one of them."""
    if method not in METHODS:
        raise SettingError("hypergradient", unknown("method", method, METHODS))


def objective(net: nn.Module, loss: Callable[[Callable[..., Tensor]], Tensor]) -> Objective:
    """Return a loss of a network as a function of the network's parameters.

    Args:
        net: the network. The function calls it with the given parameters and does not change its
            parameters or its batch-norm statistics.
        loss: computes the scalar loss from a callable with the arguments of ``net``.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> f = objective(net, lambda call: call(torch.tensor([2.0])).sum())
    >>> f([torch.tensor([[3.0]])])
    tensor(6.)
    """
    call = with_weights(net)

    def at(weights: Sequence[Tensor]) -> Tensor:
        with still_statistics(net):
            return loss(partial(call, weights))

    return at


def batch_objective(
    net: SuperNet, arch: Callable[[], Mapping[str, Tensor]], batch: Batch
) -> Objective:
    """Return the cross-entropy of a supernet on a batch as a function of the weights.

    ``arch`` is called at each evaluation and returns the relaxed α.
    """
    images, labels = batch
    return objective(net, lambda call: F.cross_entropy(unrounded(call(images, arch())), labels))


def first_order(p: Problem) -> AlphaGradient:
    loss = p.outer([w.detach() for w in p.weights])
    if not loss.requires_grad:  # α acts through the weights alone
        return AlphaGradient(loss, [torch.zeros_like(a) for a in p.architecture])
    return AlphaGradient(loss.detach(), gradients(loss, p.architecture))


def finite_difference(p: Problem) -> AlphaGradient:
    slopes = gradients(p.inner(p.weights), p.weights)
    with torch.no_grad():
        stepped = p.step.apply(p.weights, slopes)
    stepped = [w.requires_grad_() for w in stepped]
    loss = p.outer(stepped)
    both = gradients(loss, [*p.architecture, *stepped])
    direct, vector = both[: len(p.architecture)], both[len(p.architecture) :]
    norm = torch.stack([v.float().square().sum() for v in vector]).sum().sqrt()
    # If the outer loss is flat (a penalty at chance), the vector and the second term are zero.
    scale = p.epsilon / norm.to(vector[0].dtype).clamp(min=1e-12)
    sides = []
    for sign in (1, -1):
        at = [w.detach() + sign * scale * v for w, v in zip(p.weights, vector, strict=True)]
        sides.append(gradients(p.inner(at), p.architecture))
    found = [
        d - p.step.learning_rate * (plus - minus) / (2 * scale)
        for d, plus, minus in zip(direct, *sides, strict=True)
    ]
    return AlphaGradient(loss.detach(), found)


def exact(p: Problem) -> AlphaGradient:
    slopes = gradients(p.inner(p.weights), p.weights, create_graph=True)
    loss = p.outer(p.step.apply(p.weights, slopes))
    return AlphaGradient(loss.detach(), gradients(loss, p.architecture))


def neumann(p: Problem) -> AlphaGradient:
    loss = p.outer(p.weights)
    both = gradients(loss, [*p.architecture, *p.weights])
    direct, vector = both[: len(p.architecture)], both[len(p.architecture) :]
    # The weights converge to the minimum of the loss with weight decay, so the Hessian includes it.
    slopes = gradients(p.inner(p.weights), p.weights, create_graph=True)
    slopes = [g + p.step.weight_decay * w for g, w in zip(slopes, p.weights, strict=True)]
    total, term = list(vector), list(vector)
    for _ in range(p.terms):
        product = vector_product(slopes, p.weights, term)
        term = [t - p.step.learning_rate * h for t, h in zip(term, product, strict=True)]
        total = [s + t for s, t in zip(total, term, strict=True)]
    mixed = vector_product(slopes, p.architecture, total)
    found = [d - p.step.learning_rate * m for d, m in zip(direct, mixed, strict=True)]
    return AlphaGradient(loss.detach(), found)


Method = Callable[[Problem], AlphaGradient]
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "first_order": first_order,
        "finite_difference": finite_difference,
        "exact": exact,
        "neumann": neumann,
    }
)


def _same_random_numbers(devices: list[int]) -> Callable[[Objective], Objective]:
    """Return a wrapper: a wrapped objective draws the same random numbers at each evaluation."""
    cpu = torch.random.get_rng_state()
    cuda = {d: torch.cuda.get_rng_state(d) for d in devices}

    def wrap(objective: Objective) -> Objective:
        def at(weights: Sequence[Tensor]) -> Tensor:
            torch.random.set_rng_state(cpu)
            for device, state in cuda.items():
                torch.cuda.set_rng_state(state, device)
            return objective(weights)

        return at

    return wrap
