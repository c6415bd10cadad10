"""The α gradient of a penalty, whichever weights face the noise and however often.

Pure functions of a penalty, a network, α and batches; which weights they are is up to `module`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from torch import Tensor
from torch.func import functional_call

from darts_noise.data.batches import Batch
from darts_noise.nets.supernet import SuperNet
from darts_noise.noise.penalties.penalty import LossPenalty, Penalty, Trial
from darts_noise.search.architecture import Architecture
from darts_noise.search.gradients import still_statistics
from darts_noise.search.hypergradients import (
    HyperGradient,
    InnerStep,
    Objective,
    hypergradient,
    objective,
)
from darts_noise.search.passes import Pass, batch_loss, noise_pass, unrounded


def noise_gradient(
    penalty: Penalty,
    net: SuperNet,
    arch: Architecture,
    noise: Batch,
    real: Batch,
    num_classes: int,
    *,
    method: str = "first_order",
    step: InnerStep | None = None,
) -> tuple[HyperGradient, Pass | None]:
    """`penalty_gradient`, and the twin's own gradient where the same pass gives both.

    So it is to first order for a penalty that is a function of the twin's loss. That pass is a
    training step of v: its batch norms gather statistics. The arguments are those of
    `penalty_gradient`.
    """
    if isinstance(penalty, LossPenalty) and penalty.weights == "twin" and method == "first_order":
        return noise_pass(net, arch, noise, num_classes, penalty.of_loss)
    found = penalty_gradient(penalty, net, arch, noise, real, num_classes, method=method, step=step)
    return found, None


def penalty_gradient(
    penalty: Penalty,
    net: SuperNet,
    arch: Architecture,
    noise: Batch,
    real: Batch,
    num_classes: int,
    *,
    method: str = "first_order",
    step: InnerStep | None = None,
) -> HyperGradient:
    """The α gradient of any penalty, at the weights that a step on the noise would lead to.

    Nothing is changed: not the weights, not the norms' statistics, no random numbers.

    Args:
        penalty: see `Penalty` for what it is given.
        net: whose weights face the noise, in train mode.
        arch: α.
        noise: a batch of noise.
        real: a batch of validation images.
        num_classes: among how many classes a guess on noise is.
        method: of `hypergradient`.
        step: the step of ``net`` that all methods but ``first_order`` look through.
    """
    # Until the gradients are there: the supernet asks for its mode in the backward pass as well.
    with _running_statistics(net) if penalty.norms == "running" else nullcontext():
        return hypergradient(
            _penalty_objective(penalty, net, arch, noise, real, num_classes),
            objective(net, batch_loss(arch, noise)),
            list(net.parameters()),
            list(arch.parameters()),
            method=method,
            step=step,
        )


def _penalty_objective(
    penalty: Penalty,
    net: SuperNet,
    arch: Architecture,
    noise: Batch,
    real: Batch,
    num_classes: int,
) -> Objective:
    """A penalty as a function of a supernet's weights; for the arguments see `penalty_gradient`.

    One relaxation of α serves all passes, so that a sampled one is the same before and after a
    step.
    """
    names = [name for name, _ in net.named_parameters()]

    def at(weights: Sequence[Tensor]) -> Tensor:
        relaxed = arch()

        def logits(values: Sequence[Tensor], images: Tensor) -> Tensor:
            parameters = dict(zip(names, values, strict=True))
            return unrounded(functional_call(net, parameters, (images, relaxed)))

        with still_statistics(net) if penalty.norms == "batch" else nullcontext():
            return penalty(Trial(logits, weights, noise, real, num_classes))

    return at


@contextmanager
def _running_statistics(net: SuperNet) -> Iterator[None]:
    """Within it the net is in eval mode; each module's own mode comes back afterwards."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
