"""The search as a LightningModule: what it trains, its step, its epochs and its checkpoints.

One step makes three updates:

    α ← α − Adam(d/dα [L_val(w'(α), α) + λ · P(v'(α), α) + Σ weight · T(w'(α), α)])
    w ← w − SGD(∂/∂w L_train(w, α))
    v ← v − SGD(∂/∂v L_noise(v, α))

w' and v' are the weights after the next step, or w and v themselves (first order). α, w and v have
one optimiser each, and the update of one leaves no gradient in the others. P is one of
`darts_noise.noise.penalties`. A penalty that measures w itself needs no twin, so there is no v. The
T are `darts_noise.search.objectives`, by default none. The search skips an update if the loss or a
gradient is not finite; see `darts_noise.finite`.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from darts_noise.configured import config_of
from darts_noise.data.batches import Batch, BatchStream
from darts_noise.data.images import LabelledImages
from darts_noise.data.module import ImageDataModule, place_of
from darts_noise.data.seeds import Stream, derive_seed, drawing
from darts_noise.distributed.agreement import Agreement
from darts_noise.distributed.collectives import average_over_processes
from darts_noise.errors import SettingError, within
from darts_noise.finite import FiniteCheck, Term, make_guardable
from darts_noise.loading import PlainModule
from darts_noise.metrics import SplitMetrics, log_validation
from darts_noise.nets.input_filter import require_colour
from darts_noise.nets.mixed.stacked import module_list
from darts_noise.nets.network import Network, create_model
from darts_noise.nets.supernet import SuperNet, require_implementation
from darts_noise.noise.datasets import root_of_others
from darts_noise.noise.families import fingerprint, make_noise
from darts_noise.search.architecture import Architecture
from darts_noise.search.construction import (
    life_of_twin,
    make_optimisers,
    make_supernet,
    make_twin,
    restart_twin,
)
from darts_noise.search.curvature import curvature_in_alpha
from darts_noise.search.gradients import (
    Pass,
    assign,
    first_order_gradient,
    mixed_pass,
    probing_loss,
    still_statistics,
    weights_pass,
)
from darts_noise.search.hypergradients import (
    InnerStep,
    batch_objective,
    hypergradient,
    require_method,
)
from darts_noise.search.lag import LAG_STEPS, twin_lag
from darts_noise.search.objective_gradient import objective_gradients, objective_values
from darts_noise.search.objectives import SearchedNetworks
from darts_noise.search.parts import make_parts
from darts_noise.search.penalty_gradient import SupernetOnNoise
from darts_noise.search.settings import SearchConfig
from darts_noise.search.symptoms import Symptoms
from darts_noise.search.variants.variant import Weights
from darts_noise.space.genotype import Genotype

LOSSES = {
    "train": "L_train, the loss of w on training",
    "noise": "L_noise, the loss of v on noise",
}
ADVICE = "try a smaller model.learning_rate, or model.gradient_clip above 0"


class SearchModule(PlainModule[SearchConfig]):
    """The search of a cell, on the data of the `ImageDataModule` that the Trainer gets.

    After `setup` the module has `net` (the supernet with weights w), `twin` (the same supernet with
    weights v), `arch` (α) and `noise_set` (fixed for the whole search). `twin` is None if λ is 0 or
    the penalty measures w. `noise_set` is None if λ is 0.

    Args:
        config: a `SearchConfig`, or the name of a search space. The module ignores its ``race``. Of
            a list ``macro``, it takes the first mapping.
        settings: fields of `SearchConfig` by name, such as ``noise_weight=0.5``.

    Raises:
        SettingError: a value out of range, or an unknown name. The methods below raise it too. Its
            key begins with ``model.``, or with ``data.`` for a setting of the data.
    """

    config_class = SearchConfig

    arch: Architecture
    net: SuperNet
    twin: SuperNet | None
    mean_objectives: Sequence[MeanMetric]

    @within("model")
    def __init__(self, config: SearchConfig | str | None = None, **settings: Any) -> None:
        super().__init__()
        self.configure(config_of(SearchConfig, config, settings))
        c = self.config
        parts = make_parts(c)
        self.space, self.strategy, self.variants = parts.space, parts.strategy, parts.variants
        self.penalty, self.objectives = parts.penalty, parts.objectives
        require_method(c.hypergradient)
        require_implementation(c.supernet)
        self.automatic_optimization = False
        self.search_step = 0  # number of steps so far
        self.twin_step = 0  # number of updates of the twin so far
        self.alpha_step = 0  # number of updates of α so far
        self.shared_steps = 0  # number of updates of weights that a strategy's cells share
        self.finite = FiniteCheck(ADVICE)
        self.chosen: Genotype | None = None
        self.stopped_because: str | None = None
        self.symptoms = Symptoms()
        self.dataset_name: str | None = None
        self.noise_set: LabelledImages | None = None
        self.noise_fingerprint: str | None = None

    # ---------------------------------------------------------------- what is trained

    def build(self, data: ImageDataModule) -> None:
        """Make α, the networks and the noise set for the data. A second call changes nothing.

        Args:
            data: the data, after its ``setup``.

        Raises:
            SettingError: a stem or a size that does not exist, or a noise set that cannot be made.
        """
        if not hasattr(self, "arch"):
            self._build_networks(data.num_classes, data.in_channels)
        self.prepare(data)

    def prepare(self, data: ImageDataModule) -> None:
        """Make the noise set, which is all that the training of single cells needs.

        A second call changes nothing. Arguments and errors are those of `build`.
        """
        c = self.config
        with within("model"):
            require_colour(self.space, data.in_channels)
        data.validation_stream(shuffle=True)  # raises if the data have no images to train α on
        self.dataset_name = data.name
        self.num_classes, self.in_channels = data.num_classes, data.in_channels
        if c.noise_weight > 0 and self.noise_set is None:
            root = root_of_others(data.name, data.config.root)
            with within("model.noise_"):
                self.noise_set = make_noise(
                    c.noise_family, c.noise_samples, data.train, c.seed, root
                )
            found = fingerprint(self.noise_set)
            if self.noise_fingerprint is not None:
                require_same_noise(self.noise_fingerprint, found)
            self.noise_fingerprint = found
        networks = SearchedNetworks(self.space, c.channels, data.image_shape, self.discrete)
        with within("model"):
            self.objectives.start(networks)

    @property
    def form(self) -> dict[str, Any]:
        """The arguments of `create_model` that the networks of all cells share."""
        sizes = {key: getattr(self.config, key) for key in ("num_cells", "stem", "stem_stride")}
        return {"num_classes": self.num_classes, "in_channels": self.in_channels, **sizes}

    def discrete(self, genotype: Genotype, channels: int) -> Network:
        """Return a new network of a cell."""
        net: Network = create_model(genotype, channels=channels, **self.form)
        return net

    @within("model")
    def _build_networks(self, num_classes: int, in_channels: int) -> None:
        self.num_classes, self.in_channels = num_classes, in_channels
        with drawing(self.config.seed):
            self.arch = Architecture(self.space)
            self.net = self._supernet()
        with drawing(self.config.seed, Stream.ADDED_ALPHA):
            for variant in self.variants.values():
                variant.change_architecture(self.arch)
        has_twin = self.config.noise_weight > 0 and self.penalty.weights == "twin"
        self.twin = self._fresh_twin(0) if has_twin else None
        self.metrics = SplitMetrics(num_classes, "train", "val", "noise")
        self.mean_penalty = MeanMetric(nan_strategy="disable")
        self.mean_objectives = module_list(
            MeanMetric(nan_strategy="disable") for _ in self.objectives.terms
        )

    def setup(self, stage: str) -> None:
        """Call `build`, and make the streams of batches for α and v."""
        if self.strategy is not None:
            raise SettingError(
                "model.strategy",
                f"expected 'darts', which trains a supernet, got {self.config.strategy!r}; "
                "dn.search runs every strategy",
            )
        data = self._data
        self.build(data)
        if self.noise_set is not None:
            batch_size = min(data.config.batch_size, len(self.noise_set))
            self.noise_stream = BatchStream(
                self.noise_set,
                batch_size - batch_size % self.trainer.world_size,
                data.normalisation,
                seed=derive_seed(self.config.seed, Stream.NOISE),
                **place_of(self.trainer),
            )
        self.validation_stream = data.validation_stream(shuffle=True)

    def genotype(self) -> Genotype:
        """Return `chosen` if the final cell has been chosen, otherwise the cells for the current α.

        The genotype's ``meta`` holds the data set, the epoch and the main settings.
        """
        if self.chosen is not None:
            return self.chosen
        return self.arch.genotype({**self.stated(), "epoch": self.current_epoch})

    def stated(self) -> dict[str, Any]:
        """Return the data set and the main settings, for the ``meta`` of a genotype."""
        keys = ("noise_weight", "noise_family", "penalty", "seed")
        return {
            "dataset": self.dataset_name,
            **{key: getattr(self.config, key) for key in keys},
        }

    @property
    def _data(self) -> ImageDataModule:
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, ImageDataModule):
            raise ValueError(
                "the search needs trainer.fit(module, datamodule=ImageDataModule(...)), "
                f"got a datamodule of {type(data).__name__}"
            )
        return data

    def _supernet(self) -> SuperNet:
        variants = list(self.variants.values())
        return make_supernet(self.space, self.num_classes, self.in_channels, self.config, variants)

    def _fresh_twin(self, restart: int) -> SuperNet:
        return make_twin(self._supernet, self.config.seed, restart)

    @property
    def gradient_steps(self) -> int:
        """Number of updates of w, v and α, or of the weights that cells share, so far."""
        return self.search_step + self.twin_step + self.alpha_step + self.shared_steps

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        """Return the optimisers of α, w and v, and the cosine schedules of w and v.

        v has an optimiser and a schedule only if there is a twin.
        """
        nets = [self.net] if self.twin is None else [self.net, self.twin]
        optimisers, schedules = make_optimisers(self.arch, nets, self.config, self._epochs)
        return [make_guardable(optimiser) for optimiser in optimisers], schedules

    def configure_callbacks(self) -> list[pl.Callback]:
        """Return the callback that checks that all processes hold the same α, w and v."""
        return [Agreement(self.trained)]

    # ---------------------------------------------------------------- the step

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Update α on validation data and noise, then w on training data, then v on noise.

        α stays fixed during the warm-up epochs.
        """
        images, labels, *_ = batch  # true labels may follow
        batch = images, labels
        alpha, weights, *twin = self._optimisers()
        self._let_variants_decide()
        of_twin = None
        if self.current_epoch >= self.config.warmup_epochs:
            of_twin = self._step_alpha(alpha, batch)
            self.alpha_step += 1
        self._step_weights(weights, batch)
        for optimiser in twin * self.config.twin_steps:
            self._step_twin(optimiser, of_twin)
            of_twin = None
        if self.trainer.is_last_batch:
            self._require_finite(list(self.trained().items()), weights)
            self.finite.read()
        self.search_step += 1

    def _let_variants_decide(self) -> None:
        if not self.variants:
            return
        step, steps = self.search_step, self._epochs * int(self.trainer.num_training_batches)
        if self.trainer.max_steps >= 0:
            steps = min(steps, self.trainer.max_steps)

        @cache
        def held(count: int) -> tuple[list[Batch], list[Batch]]:
            validation = [self.validation_stream.batch(step + k) for k in range(count)]
            noise = [self._noise_batch(k) for k in range(count if self.noise_set else 0)]
            return validation, noise

        def objective(relaxed: Weights, batches: int) -> float:
            return self._objective(relaxed, *held(batches))

        for number, variant in enumerate(self.variants.values()):
            with self._drawing(Stream.DECISION, number):
                variant.decide(self.arch, step, steps, objective)

    def _objective(self, relaxed: Weights, validation: list[Batch], noise: list[Batch]) -> float:
        """Return F = L_val + λ · P + Σ weight · T on batches, averaged over processes.

        It changes no state.

        P is the penalty for the mean loss on the noise.
        """

        def mean_loss(net: SuperNet, batches: list[Batch]) -> Tensor:
            losses = [probing_loss(net, batch)(relaxed) for batch in batches]
            return average_over_processes([torch.stack(losses).mean()])[0]

        with torch.no_grad(), self._drawing(Stream.OBJECTIVE):
            value = mean_loss(self.net, validation)
            if self.noise_set is not None:
                fit = mean_loss(self.net if self.twin is None else self.twin, noise)
                penalty = self.penalty.of_fit(fit, self.noise_set.num_classes)
                value = value + self.config.noise_weight * penalty
            for batch in validation if self.objectives.minimised else ():
                found = objective_values(
                    self.objectives,
                    self.net,
                    relaxed,
                    relaxed,
                    batch,
                    self.validation_stream.normalisation,
                )
                [total] = average_over_processes([self.objectives.total(found)])
                value = value + total / len(validation)
        return float(value)

    def _step_alpha(self, alpha: LightningOptimizer, batch: Batch) -> Pass | None:
        """Update α: α ← α − Adam(d/dα [L_val(w'(α), α) + λ · P(v'(α), α) + Σ weight · T]).

        Returns:
            the twin's pass over noise if it also gave the gradient with respect to v, else None.
            The step of v then uses the same batch as the step of α, and α before its update.
        """
        c = self.config
        validation = self.validation_stream.batch(self.search_step)
        of_weights, *of_twin = self._inner_steps()
        with self._drawing(Stream.ALPHA_STEP):
            if c.hypergradient == "first_order":
                real = first_order_gradient(self.net, self.arch, validation)
            else:
                real = hypergradient(
                    batch_objective(self.net, self.arch, validation),
                    batch_objective(self.net, self.arch, batch),
                    list(self.net.parameters()),
                    list(self.arch.parameters()),
                    method=c.hypergradient,
                    step=of_weights,
                )
        values, done = real.gradients, None
        alphas = list(self.arch.parameters())
        terms: list[Term] = [("α", alphas), ("L_val, the loss of w on validation", [real.loss])]
        if self.noise_set is not None:
            on_noise = SupernetOnNoise(
                self.net if self.twin is None else self.twin,
                self.arch,
                self._noise_batch(),
                validation,
                self.noise_set.num_classes,
                c.hypergradient,
                *of_twin,
            )
            with self._drawing(Stream.ALPHA_STEP):  # the same sampled α as for L_val
                noise, done = self.penalty.gradient(on_noise)
            values = [r + c.noise_weight * n for r, n in zip(values, noise.gradients, strict=True)]
            self.mean_penalty.update(noise.loss)
            terms.append(("P, the penalty", [noise.loss]))
        if self.objectives:
            with self._drawing(Stream.ALPHA_STEP):
                more, found = objective_gradients(
                    self.objectives,
                    self.net,
                    self.arch,
                    validation,
                    self.validation_stream.normalisation,
                    batch,
                    c.hypergradient,
                    of_weights,
                )
            values = [v + m for v, m in zip(values, more, strict=True)]
            for (name, value), mean in zip(found.items(), self.mean_objectives, strict=True):
                mean.update(value)
                terms.append((f"the objective {name}", [value]))
        self._require_finite([*terms, ("the gradient of α", values)], alpha)
        self._update(alpha, alphas, values)
        return done

    def _step_weights(self, weights: LightningOptimizer, batch: Batch) -> None:
        """Update w: w ← w − SGD(∂/∂w L_train(w, α)).

        If the penalty uses mixed batches, the loss is L_train + λ · P.
        """
        noise, weight, of_noise = self.noise_set, self.config.noise_weight, None

        def weighted(loss: Tensor) -> Tensor:
            assert noise is not None
            return weight * self.penalty.of_fit(loss, noise.num_classes)

        with self._drawing(Stream.WEIGHTS_STEP):
            relaxed = self._fixed_alpha()
            for number, variant in enumerate(self.variants.values()):
                with self._drawing(Stream.PERTURBATION, number):
                    relaxed = variant.perturb(relaxed, probing_loss(self.net, batch))
            if noise is None or not self.penalty.mixed_batches:
                done = weights_pass(self.net, relaxed, batch)
            else:
                done, of_noise = mixed_pass(self.net, relaxed, batch, self._noise_batch(), weighted)
        frozen: set[int] = set()
        for variant in self.variants.values():
            frozen.update(
                variant.freeze(
                    self.net, done.gradients, lambda: self._gradients_on_validation(relaxed)
                )
            )
        values = [None if place in frozen else g for place, g in enumerate(done.gradients)]
        self._descend(weights, self.net, done, "train", values)
        if of_noise is not None:
            self.metrics.record("noise", of_noise.logits, of_noise.labels, of_noise.loss)

    def _gradients_on_validation(self, relaxed: Weights) -> list[Tensor]:
        """Return ∂/∂w L_val(w, α) on the validation batch of this step. It changes no state."""
        with self._drawing(Stream.VALIDATION_GRADIENT), still_statistics(self.net):
            batch = self.validation_stream.batch(self.search_step)
            return weights_pass(self.net, relaxed, batch).gradients

    def _step_twin(self, twin: LightningOptimizer, done: Pass | None) -> None:
        """Update v: v ← v − SGD(∂/∂v L_noise(v, α)).

        The gradient comes from ``done``, the pass of the α step, or from a new pass if it is None.
        """
        assert self.twin is not None
        if done is None:
            with self._drawing(Stream.TWIN_STEP, self.twin_step):
                done = weights_pass(self.twin, self._fixed_alpha(), self._noise_batch())
        self._descend(twin, self.twin, done, "noise")
        self.twin_step += 1

    def trained(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of α, w and, if there is a twin, v, by these names."""
        nets = {"α": self.arch, "w": self.net, **({"v": self.twin} if self.twin else {})}
        return {name: list(net.parameters()) for name, net in nets.items()}

    def _inner_steps(self) -> list[InnerStep | None]:
        """Return the next steps of w and v. First-order methods ignore these steps."""
        if self.config.hypergradient == "first_order":
            return [None for _ in self._optimisers()[1:]]
        return [InnerStep.of(optimiser.optimizer) for optimiser in self._optimisers()[1:]]

    def _drawing(self, use: Stream, *key: int) -> AbstractContextManager[None]:
        """Inside the context, random numbers depend only on the seed, the step, the use and key."""
        return drawing(self.config.seed, use, self.search_step, *key, device=self.device)

    def _noise_batch(self, ahead: int = 0) -> Batch:
        """Return the next batch of noise, or the batch ``ahead`` steps after it."""
        number = self.search_step if self.twin is None else self.twin_step
        return self.noise_stream.batch(number + ahead)

    def _fixed_alpha(self) -> Weights:
        return {kind: weights.detach() for kind, weights in self.arch().items()}

    def _descend(
        self,
        optimiser: LightningOptimizer,
        net: SuperNet,
        done: Pass,
        split: str,
        values: Sequence[Tensor | None] | None = None,
    ) -> None:
        """Make one step of w or v with ``values``, by default the gradients of the pass."""
        name = "v" if net is self.twin else "w"
        terms = [(LOSSES[split], [done.loss]), (f"the gradient of {name}", done.gradients)]
        self._require_finite(terms, optimiser)
        values = done.gradients if values is None else values
        self._update(optimiser, list(net.parameters()), values, self.config.gradient_clip)
        self.metrics.record(split, done.logits, done.labels, done.loss)
        # For the progress bar during the epoch. At its end the mean over the epoch replaces it.
        self.log(f"{split}/loss", done.loss.detach(), on_step=True, on_epoch=False, logger=False)

    def _require_finite(self, terms: Sequence[Term], optimiser: LightningOptimizer) -> None:
        """Stop the search if a term of the optimiser's update is not finite."""
        rate: float = optimiser.param_groups[0]["lr"]
        self.finite.look(terms, step=self.search_step, epoch=self.current_epoch, rate=rate)

    def _update(
        self,
        optimiser: LightningOptimizer,
        parameters: list[nn.Parameter],
        values: Sequence[Tensor | None],
        clip: float = 0.0,
    ) -> None:
        assign(parameters, values, clip)
        self.finite.guard(optimiser.optimizer)
        # Lightning counts the steps of its wrapper in `global_step` and `max_steps`. Only w makes
        # one step per search step, so only w steps through the wrapper.
        is_counted = optimiser is self._optimisers()[1]
        (optimiser if is_counted else optimiser.optimizer).step()
        optimiser.zero_grad(set_to_none=True)

    def _optimisers(self) -> list[LightningOptimizer]:
        optimisers = self.optimizers()
        assert isinstance(optimisers, list)
        return optimisers

    # ---------------------------------------------------------------- epochs

    def on_fit_start(self) -> None:
        if any(isinstance(module, nn.SyncBatchNorm) for module in self.modules()):
            raise ValueError(
                "sync_batchnorm: Lightning's synchronised batch norm does not work in a supernet; "
                "expected Trainer(plugins=[darts_noise.SynchronisedNorms()])"
            )

    def on_train_start(self) -> None:
        warmup = self.config.warmup_epochs * int(self.trainer.num_training_batches)
        if 0 <= self.trainer.max_steps <= warmup:
            raise SettingError(
                "trainer.max_steps",
                f"expected more than {warmup}, the search steps of model.warmup_epochs "
                f"({self.config.warmup_epochs}), in which α is fixed; got {self.trainer.max_steps}",
            )
        self._start_variants()  # on_train_epoch_start is not called if a run resumes in an epoch

    def on_train_epoch_start(self) -> None:
        epoch, every = self.current_epoch, self.config.twin_restart
        self._start_variants()
        if self.twin is not None and every and epoch and epoch % every == 0:
            restart_twin(
                self.twin,
                self._optimisers()[2].optimizer,
                self._schedules()[1],
                self._fresh_twin(epoch // every),
                life_of_twin(self.config, epoch, self._epochs),
            )

    def _start_variants(self) -> None:
        for variant in self.variants.values():
            variant.start_epoch(self.current_epoch, self.trainer.max_epochs or 1)

    def on_validation_epoch_start(self) -> None:
        self.metrics.collect("val")  # forget an earlier validation of the same epoch

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        logits = self.net(images, self.arch()).float()
        self.metrics.record("val", logits, labels, F.cross_entropy(logits, labels))

    def on_validation_epoch_end(self) -> None:
        log_validation(self, self.metrics)

    def on_train_epoch_end(self) -> None:
        values = self._epoch_metrics()
        for schedule in self._schedules():
            schedule.step()
        self.log_dict(values, sync_dist=False)
        if self.current_epoch >= self.config.warmup_epochs:
            self._look_for_symptoms(values)
            self._ask_variants_to_stop()

    def on_train_end(self) -> None:
        self.symptoms.end()

    def _schedules(self) -> list[LRScheduler]:
        """The schedules of the learning rates of w and, if there is a twin, v."""
        found: Any = self.lr_schedulers()
        return found if isinstance(found, list) else [found]

    @property
    def _epochs(self) -> int:
        return max(self.trainer.max_epochs or 1, 1)

    def _look_for_symptoms(self, values: Mapping[str, float | Tensor]) -> None:
        if self.trainer.is_global_zero:
            loss = None if self.twin is None else float(values["noise/loss"])
            noise = self.noise_set
            classes = self.num_classes if noise is None else noise.num_classes
            self.symptoms.epoch(self.arch.expected(), self.genotype(), loss, classes)

    def _ask_variants_to_stop(self) -> None:
        for name, variant in self.variants.items():
            if reason := variant.stop(self.arch, self._curvature):
                self.stopped_because = f"{name} stopped the search: {reason}"
                self.trainer.should_stop = True

    def _curvature(self) -> float:
        batch = self.validation_stream.batch(self.search_step)
        with self._drawing(Stream.CURVATURE):
            return curvature_in_alpha(self.net, self.arch, batch)

    def _epoch_metrics(self) -> dict[str, float | Tensor]:
        """Return all metrics of the epoch by their names in metrics.csv and W&B."""
        values: dict[str, float | Tensor] = {**self.metrics.collect("train", "val", "noise")}
        if self.mean_penalty.update_called:
            values["noise/penalty"] = self.mean_penalty.compute()
            self.mean_penalty.reset()
        for name, mean in zip(self.objectives.terms, self.mean_objectives, strict=True):
            if mean.update_called:
                values[f"objectives/{name}"] = mean.compute()
                mean.reset()
        if self.twin is not None:
            with self._drawing(Stream.LAG):
                values["noise/lag"] = twin_lag(
                    self.twin,
                    self.arch,
                    self._optimisers()[2].optimizer,
                    [self._noise_batch(ahead) for ahead in range(LAG_STEPS)],
                    self.config.gradient_clip,
                )
        values |= self.arch.figures()
        for name, optimiser in zip(("alpha", "weights", "twin"), self._optimisers(), strict=False):
            values[f"lr/{name}"] = optimiser.param_groups[0]["lr"]
        return values

    # ---------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.finite.read()
        checkpoint["form"] = {
            "num_classes": self.num_classes,
            "in_channels": self.in_channels,
            "dataset": self.dataset_name,
        }
        checkpoint["positions"] = {
            "search": self.search_step,
            "twin": self.twin_step,
            "alpha": self.alpha_step,
        }
        checkpoint["variants"] = {name: v.state() for name, v in self.variants.items()}
        checkpoint["noise"] = self.noise_fingerprint
        checkpoint["stopped_because"] = self.stopped_because
        checkpoint["symptoms"] = self.symptoms.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "positions" not in checkpoint:
            raise ValueError("the checkpoint is not of a search")
        if not hasattr(self, "arch"):
            data = checkpoint["form"]
            self.dataset_name = data["dataset"]
            self._build_networks(data["num_classes"], data["in_channels"])
            self.noise_fingerprint = checkpoint["noise"]
        else:
            require_same_noise(checkpoint["noise"], self.noise_fingerprint)
        positions = checkpoint["positions"]
        self.search_step, self.twin_step = positions["search"], positions["twin"]
        self.alpha_step = positions["alpha"]
        for name, state in checkpoint["variants"].items():
            self.variants[name].load(state)
        self.stopped_because = checkpoint["stopped_because"]
        self.symptoms.load(checkpoint["symptoms"])


def require_same_noise(expected: str | None, found: str | None) -> None:
    """Raise a `SettingError` if the noise set differs from the noise set of the checkpoint."""
    if found != expected:
        raise SettingError(
            "model.noise_family",
            f"expected the noise set of the checkpoint, with fingerprint {expected}, got {found}",
        )
