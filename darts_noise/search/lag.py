"""How far the twin is behind the weights that the penalty means, v*(α)."""

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
"""How far the search looks ahead after each epoch. It costs half of a search step, two would cost a
whole one."""


def twin_lag(
    twin: SuperNet,
    arch: Architecture,
    optimiser: Optimizer,
    batches: Sequence[Batch],
    clip: float = 0.0,
) -> Tensor:
    """L_noise(v) − L_noise(v after some further steps), at fixed α, on the first of the batches.

    The steps are those that v would make next, by a throw-away copy of it and of its optimiser.
    v* is where they would end. About 0: v is there, for it has learnt all that it can, be that
    everything or nothing; which of the two, L_noise says. Clearly more than 0: the penalty is still
    too small. Less than 0: the steps lead uphill, the learning rate is too high for this α.

    Nothing is changed: neither v, its statistics and its optimiser, nor α.

    Args:
        twin: with weights v, in train mode.
        arch: α.
        optimiser: of v.
        batches: of the noise set, one for each step.
        clip: largest gradient norm of a step; 0 for none.

    Returns:
        A scalar in nats, the mean over all processes.
    """
    weights = [p.detach().clone().requires_grad_() for p in twin.parameters()]
    make: Callable[..., Optimizer] = type(optimiser)
    follower = make(weights, 0.1)  # every setting of its group is the optimiser's, set next
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
    assert before is not None, "a lag is looked at over one batch at the least"
    return average_over_processes([before - after])[0]
