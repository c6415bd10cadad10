"""The objectives of a search on a supernet: their values, and their gradient with respect to α."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from darts_noise.data.batches import Batch
from darts_noise.data.images import Normalisation
from darts_noise.nets.gain import used_weights
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.architecture import Architecture
from darts_noise.search.gradients import logits_at, still_statistics
from darts_noise.search.hypergradients import InnerStep, batch_objective, hypergradient
from darts_noise.search.objectives import ObjectiveInputs, Objectives


def objective_values(
    objectives: Objectives,
    net: SuperNet,
    relaxed: Mapping[str, Tensor],
    shares: Mapping[str, Tensor],
    batch: Batch,
    normalisation: Normalisation,
    weights: Sequence[Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return the value of each objective. Batch-norm statistics do not change.

    Args:
        objectives: the objectives.
        net: the supernet.
        relaxed: the relaxed α, with which the supernet runs.
        shares: the probabilities of the operations, which may differ from a sampled ``relaxed``.
        batch: a batch of validation images.
        normalisation: the normalisation of the images.
        weights: w. None: the parameters of the supernet.
    """
    weights = [p.detach() for p in net.parameters()] if weights is None else weights
    logits = logits_at(net, relaxed)
    with still_statistics(net):
        used = partial(used_weights, net)
        inputs = ObjectiveInputs(logits, weights, batch, normalisation, shares, used)
        return objectives.values(inputs)


def objective_gradients(
    objectives: Objectives,
    net: SuperNet,
    arch: Architecture,
    batch: Batch,
    normalisation: Normalisation,
    inner: Batch,
    method: str = "first_order",
    step: InnerStep | None = None,
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return the gradient of Σ weight · T with respect to α, and the value of each objective.

    Args:
        objectives: the objectives.
        net: the supernet with weights w, in train mode.
        arch: α.
        batch: a batch of validation images.
        normalisation: the normalisation of the images.
        inner: a batch of training images, for the next step of w.
        method: the ``method`` of `hypergradient`.
        step: the next step of w. All methods except ``first_order`` differentiate through it.
    """
    found: dict[str, Tensor] = {}
    alphas = list(arch.parameters())

    def total(weights: Sequence[Tensor] | None = None) -> Tensor:
        values = objective_values(
            objectives, net, arch(), arch.expected(), batch, normalisation, weights
        )
        found.update({name: value.detach() for name, value in values.items()})
        summed: Tensor = objectives.total(values)
        return summed

    if not objectives.minimised:
        with torch.no_grad():
            total()
        return [torch.zeros_like(alpha) for alpha in alphas], found
    gradient = hypergradient(
        total,
        batch_objective(net, arch, inner),
        list(net.parameters()),
        alphas,
        method=method,
        step=step,
    )
    return gradient.gradients, found
