"""One step of the search: α on validation data and noise, w on training data, v on noise.

One step is three updates (the design's bilevel problem):

    α ← α − Adam(d/dα [L_val(w'(α), α) + λ · P(v'(α), α)])
    w ← w − SGD(∂/∂w L_train(w, α))
    v ← v − SGD(∂/∂v L_noise(v, α))

w' and v' are the weights that the next step would lead to, or w and v themselves (first order).
Each group has its own optimiser and no group's update leaves a gradient in another. To first order
one pass of the twin gives both α and v their gradients: α's noise gradient and v's step belong to
the same batch and the same α, that of before the update. P is `darts_noise.noise.penalties`; with
one that looks at w itself there is no v. No update is made from a loss or a gradient that is not
finite; see `darts_noise.finite`.
"""

from collections.abc import Mapping, Sequence

from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torchmetrics import MeanMetric

from darts_noise.data.batches import Batch, BatchStream
from darts_noise.data.images import LabelledImages
from darts_noise.finite import FiniteCheck, Term
from darts_noise.loading import PlainModule
from darts_noise.metrics import SplitMetrics
from darts_noise.nets.supernet import SuperNet
from darts_noise.noise.penalties.penalty import LossPenalty, Penalty
from darts_noise.search.architecture import Architecture
from darts_noise.search.gradients import assign
from darts_noise.search.hypergradients import InnerStep, hypergradient, objective
from darts_noise.search.passes import Pass, batch_loss, mixed_pass, probing_loss, weights_pass
from darts_noise.search.penalty_gradient import noise_gradient
from darts_noise.search.settings import SearchConfig
from darts_noise.search.variants.variant import Variant, Weights

LOSSES = {
    "train": "L_train, the loss of w on training",
    "noise": "L_noise, the loss of v on noise",
}
ADVICE = "try a smaller model.learning_rate, or model.gradient_clip above 0"


class SearchStep(PlainModule[SearchConfig]):
    """The three updates. What they work on is made by `SearchModule`, which has the settings.

    Attributes:
        arch: α.
        net: the supernet with weights w.
        twin: the same with weights v, or None.
        penalty: P.
        noise_set: what must not be learnt, or None where there is no penalty.
        search_step: how many steps were made.
        twin_step: how many updates of the twin.
        finite: looks at every loss and gradient.
    """

    arch: Architecture
    net: SuperNet
    twin: SuperNet | None
    penalty: Penalty
    variants: Mapping[str, Variant]
    noise_set: LabelledImages | None
    noise_stream: BatchStream
    validation_stream: BatchStream
    metrics: SplitMetrics
    mean_penalty: MeanMetric

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.search_step = 0
        self.twin_step = 0
        self.finite = FiniteCheck(ADVICE)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """α (after the warm-up), then w, then v."""
        alpha, weights, *twin = self._optimisers()
        of_twin = None
        if self.current_epoch >= self.config.warmup_epochs:
            of_twin = self._step_alpha(alpha, batch)
        self._step_weights(weights, batch)
        if twin:
            for _ in range(self.config.twin_steps):
                self._step_twin(twin[0], of_twin)
                of_twin = None
        if self.trainer.is_last_batch:
            self._require_finite(list(self.trained().items()), weights)
            self.finite.read()
        self.search_step += 1

    def trained(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of α, w and (where there is a twin) v, by these names."""
        nets = {"α": self.arch, "w": self.net, **({"v": self.twin} if self.twin else {})}
        return {name: list(net.parameters()) for name, net in nets.items()}

    def _step_alpha(self, alpha: LightningOptimizer, batch: Batch) -> Pass | None:
        """α on validation data through w, and on noise through what faces it; λ weighs the two.

        Returns:
            the twin's pass over noise, where it gave v its own gradient as well.
        """
        validation = self.validation_stream.batch(self.search_step)
        method = self.config.hypergradient
        of_weights, *of_twin = self._inner_steps()
        of_real = hypergradient(
            objective(self.net, batch_loss(self.arch, validation)),
            objective(self.net, batch_loss(self.arch, batch)),
            list(self.net.parameters()),
            list(self.arch.parameters()),
            method=method,
            step=of_weights,
        )
        values = of_real.gradients
        alphas = list(self.arch.parameters())
        terms: list[Term] = [("α", alphas), ("L_val, the loss of w on validation", [of_real.loss])]
        done = None
        if self.noise_set is not None:
            found, done = noise_gradient(
                self.penalty,
                self.net if self.twin is None else self.twin,
                self.arch,
                self._noise_batch(),
                validation,
                self.noise_set.num_classes,
                method=method,
                step=of_twin[0] if of_twin else None,
            )
            self.mean_penalty.update(found.loss)
            weight = self.config.noise_weight
            values = [v + weight * n for v, n in zip(values, found.gradients, strict=True)]
            terms.append(("P, the penalty", [found.loss]))
        self._require_finite([*terms, ("the gradient of α", values)], alpha)
        self._update(alpha, alphas, values)
        return done

    def _inner_steps(self) -> list[InnerStep | None]:
        """The next steps of w and v; no first-order method looks at them."""
        if self.config.hypergradient == "first_order":
            return [None for _ in self._optimisers()[1:]]
        return [InnerStep.of(optimiser.optimizer) for optimiser in self._optimisers()[1:]]

    def _step_weights(self, optimiser: LightningOptimizer, batch: Batch) -> None:
        """One step of w, from training images and, with a penalty that asks for it, from noise."""
        relaxed = self._fixed_alpha()
        for variant in self.variants.values():
            relaxed = variant.perturb(relaxed, probing_loss(self.net, batch))
        noise, penalty = self.noise_set, self.penalty
        if noise is None or not isinstance(penalty, LossPenalty) or not penalty.mixed_batches:
            self._descend(optimiser, self.net, weights_pass(self.net, relaxed, batch), "train")
            return

        weight: float = self.config.noise_weight

        def weighted(loss: Tensor) -> Tensor:
            return weight * penalty.of_loss(loss, noise.num_classes)

        done, of_noise = mixed_pass(self.net, relaxed, batch, self._noise_batch(), weighted)
        self._descend(optimiser, self.net, done, "train")
        self.metrics.record("noise", of_noise.logits, of_noise.labels, of_noise.loss)

    def _step_twin(self, optimiser: LightningOptimizer, done: Pass | None) -> None:
        """One step of v, from the pass that α's noise gradient came from or from one of its own."""
        assert self.twin is not None
        if done is None:
            done = weights_pass(self.twin, self._fixed_alpha(), self._noise_batch())
        self._descend(optimiser, self.twin, done, "noise")
        self.twin_step += 1

    def _noise_batch(self, ahead: int = 0) -> Batch:
        """The batch of noise that is next, or so many after it: each step of v takes another."""
        number = self.search_step if self.twin is None else self.twin_step
        return self.noise_stream.batch(number + ahead)

    def _fixed_alpha(self) -> Weights:
        return {kind: weights.detach() for kind, weights in self.arch().items()}

    def _descend(
        self, optimiser: LightningOptimizer, net: SuperNet, done: Pass, split: str
    ) -> None:
        """One step of w or v."""
        name = "v" if net is self.twin else "w"
        terms = [(LOSSES[split], [done.loss]), (f"the gradient of {name}", done.gradients)]
        self._require_finite(terms, optimiser)
        clip = self.config.gradient_clip
        self._update(optimiser, list(net.parameters()), done.gradients, clip)
        self.metrics.record(split, done.logits, done.labels, done.loss)
        # For the progress bar while the epoch lasts; the epoch's mean takes its place at the end.
        self.log(f"{split}/loss", done.loss.detach(), on_step=True, on_epoch=False, logger=False)

    def _require_finite(self, terms: Sequence[Term], optimiser: LightningOptimizer) -> None:
        """Ends the search unless the terms of the optimiser's update are finite."""
        rate: float = optimiser.param_groups[0]["lr"]
        self.finite.look(terms, step=self.search_step, epoch=self.current_epoch, rate=rate)

    def _update(
        self,
        optimiser: LightningOptimizer,
        parameters: list[nn.Parameter],
        values: list[Tensor],
        clip: float = 0.0,
    ) -> None:
        assign(parameters, values, clip)
        self.finite.guard(optimiser.optimizer)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    def _optimisers(self) -> list[LightningOptimizer]:
        optimisers = self.optimizers()
        assert isinstance(optimisers, list)
        return optimisers
