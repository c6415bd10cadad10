"""A network before a batch of noise, and the gradient of a penalty there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from torch import Tensor
from torch.func import functional_call

from darts_noise.data.batches import Batch
from darts_noise.nets.supernet import SuperNet
from darts_noise.noise.penalties.penalty import OfLoss, Penalty, Trial
from darts_noise.search.architecture import Architecture
from darts_noise.search.gradients import (
    AlphaGradient,
    Pass,
    noise_pass,
    still_statistics,
    unrounded,
)
from darts_noise.search.hypergradients import InnerStep, batch_objective, hypergradient


@dataclass(frozen=True)
class FacingNoise:
    """What a penalty is differentiated at; see `darts_noise.noise.penalties.penalty.Facing`.

    Attributes:
        net: whose weights face the noise, in train mode.
        arch: α.
        noise: a batch of noise.
        real: a batch of validation images.
        num_classes: among how many classes a guess on noise is.
        method: of `hypergradient`.
        step: the step of ``net`` that all methods but ``first_order`` look through.
    """

    net: SuperNet
    arch: Architecture
    noise: Batch
    real: Batch
    num_classes: int
    method: str = "first_order"
    step: InnerStep | None = None

    @property
    def is_first_order(self) -> bool:
        return self.method == "first_order"

    def in_one_pass(self, of_loss: OfLoss) -> tuple[AlphaGradient, Pass | None]:
        """The penalty's gradient and the pass, which is a training step of ``net``."""
        return noise_pass(self.net, self.arch, self.noise, self.num_classes, of_loss)

    def differentiate(self, penalty: Penalty) -> tuple[AlphaGradient, Pass | None]:
        """The gradient at the weights that a step on the noise would lead to, and no pass.

        Nothing is changed: not the weights, not the norms' statistics, no random numbers.
        """
        # Until the gradients are there: the supernet asks for its mode in the backward pass too.
        with _running_statistics(self.net) if penalty.norms == "running" else nullcontext():
            found = hypergradient(
                lambda weights: self._value(penalty, weights),
                batch_objective(self.net, self.arch, self.noise),
                list(self.net.parameters()),
                list(self.arch.parameters()),
                method=self.method,
                step=self.step,
            )
        return found, None

    def _value(self, penalty: Penalty, weights: Sequence[Tensor]) -> Tensor:
        """The penalty as a function of the weights.

        One relaxation of α serves all passes, so that a sampled one is the same before and after a
        step.
        """
        relaxed = self.arch()
        names = [name for name, _ in self.net.named_parameters()]

        def logits(values: Sequence[Tensor], images: Tensor) -> Tensor:
            parameters = dict(zip(names, values, strict=True))
            return unrounded(functional_call(self.net, parameters, (images, relaxed)))

        with still_statistics(self.net) if penalty.norms == "batch" else nullcontext():
            return penalty(Trial(logits, weights, self.noise, self.real, self.num_classes))


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
