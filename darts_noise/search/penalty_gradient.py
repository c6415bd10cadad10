"""The gradient of a noise-fit penalty with respect to α, on one batch of noise."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from torch import Tensor

from darts_noise.data.batches import Batch
from darts_noise.nets.supernet import SuperNet
from darts_noise.noise.penalties.penalty import OfLoss, Penalty, PenaltyInputs
from darts_noise.reading import evaluating
from darts_noise.search.architecture import Architecture
from darts_noise.search.gradients import (
    AlphaGradient,
    Pass,
    logits_at,
    noise_pass,
    still_statistics,
)
from darts_noise.search.hypergradients import InnerStep, batch_objective, hypergradient


@dataclass(frozen=True)
class SupernetOnNoise:
    """A network and a batch of noise; see `darts_noise.noise.penalties.penalty.OnNoise`.

    Attributes:
        net: the network that is evaluated on noise, in train mode.
        arch: α.
        noise: a batch of noise.
        real: a batch of validation images.
        num_classes: number of classes of the noise set.
        method: the ``method`` of `hypergradient`.
        step: the next step of ``net``. All methods except ``first_order`` differentiate through it.
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
        """Return the penalty's gradient and the pass, which is also a training step of ``net``."""
        return noise_pass(self.net, self.arch, self.noise, self.num_classes, of_loss)

    def differentiate(self, penalty: Penalty) -> tuple[AlphaGradient, Pass | None]:
        """Return the penalty's gradient at the weights after the next step on noise, and None.

        The weights, the batch-norm statistics and the random number generators do not change.
        """
        # The mode must hold until the gradients exist: the supernet reads it in the backward pass.
        with evaluating(self.net) if penalty.norms == "running" else nullcontext():
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
        """Return the penalty as a function of the weights.

        All passes share one relaxation of α: a sampled relaxation must be the same before and after
        the step.
        """
        logits = logits_at(self.net, self.arch())
        with still_statistics(self.net) if penalty.norms == "batch" else nullcontext():
            return penalty(PenaltyInputs(logits, weights, self.noise, self.real, self.num_classes))
