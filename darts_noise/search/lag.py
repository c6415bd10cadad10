"""The lag of the twin: how far v is from v*(α), the weights at which the penalty is defined."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from darts_noise.data.batches import Batch
from darts_noise.distributed.collectives import average_over_processes
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.architecture import Architecture
from darts_noise.search.gradients import assign, gradients
from darts_noise.search.hypergradients import batch_objective

LAG_STEPS = 1
"""Steps of v in the measurement after each epoch. One step costs half of a search step."""


def twin_lag(
    twin: SuperNet,
    arch: Architecture,
    optimiser: Optimizer,
    batches: Sequence[Batch],
    clip: float = 0.0,
) -> Tensor:
    """Return L_noise(v) − L_noise(v after the next steps), at fixed α, on the first batch.

    A copy of v and of its optimiser makes the steps. Many such steps lead to v*.

    - About 0: v has reached v*. L_noise then says whether the twin fits the noise or cannot fit it.
    - Clearly more than 0: v is behind v*, so the penalty is still too small.
    - Less than 0: the steps increase the loss, so the learning rate is too high for this α.

    The function changes neither v, its batch-norm statistics and its optimiser, nor α.

    Args:
        twin: the twin with weights v, in train mode.
        arch: α.
        optimiser: the optimiser of v.
        batches: batches of the noise set, one per step.
        clip: largest gradient norm of a step. 0 (the default): no clipping.

    Returns:
        A scalar in nats, averaged over processes.
    """
    weights = [p.detach().clone().requires_grad_() for p in twin.parameters()]
    make: Callable[..., Optimizer] = type(optimiser)
    follower = make(weights, 0.1)  # load_state_dict replaces this learning rate
    follower.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    with torch.enable_grad():
        relaxed = {kind: w.detach() for kind, w in arch().items()}

        def loss(batch: Batch) -> Tensor:
            return batch_objective(twin, lambda: relaxed, batch)(weights)

        before: Tensor | None = None
        for batch in batches:
            now = loss(batch)
            before = now.detach() if before is None else before
            assign(weights, gradients(now, weights), clip)
            follower.step()
        with torch.no_grad():
            after = loss(batches[0])
    assert before is not None, "the lag needs at least one batch"
    return average_over_processes([before - after])[0]
