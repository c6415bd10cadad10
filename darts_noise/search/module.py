"""The search as a LightningModule: its settings, what is made of them, epochs and checkpoints.

What happens in an epoch's steps is `darts_noise.search.step`.
"""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from darts_noise.configured import Setting
from darts_noise.data.batches import Batch, BatchStream
from darts_noise.data.module import ImageDataModule
from darts_noise.data.seeds import Stream, derive_seed
from darts_noise.distributed.agreement import Agreement
from darts_noise.finite import make_guardable
from darts_noise.metrics import SplitMetrics
from darts_noise.nets.supernet import SuperNet
from darts_noise.noise.datasets import root_of_others
from darts_noise.noise.families import fingerprint, make_noise
from darts_noise.noise.penalties.penalty import make_penalty
from darts_noise.search.architecture import Architecture
from darts_noise.search.curvature import curvature_in_alpha
from darts_noise.search.lag import LAG_STEPS, twin_lag
from darts_noise.search.networks import make_optimisers, make_supernet, make_twin, restart_twin
from darts_noise.search.settings import check_settings
from darts_noise.search.step import SearchStep
from darts_noise.search.symptoms import Symptoms
from darts_noise.search.variants.variant import make_variants
from darts_noise.space.genotype import Genotype
from darts_noise.space.spaces import get_space


class SearchModule(SearchStep):
    """Searches a cell; the `ImageDataModule` that the Trainer is given says on which data.

    After `setup`: `net` (the supernet with weights w), `twin` (the same with weights v, or None
    when λ is 0 or the penalty looks at w), `arch` (α) and `noise_set` (fixed, or None when λ is 0).

    Args:
        space: which operations compete; see darts_noise.list_spaces().
        nodes: nodes of a cell; null for the space's own number.
        macro: candidates of some macro choices of the space, in place of all; one alone is decided.
        channels: channels of a state before the first reduction.
        num_cells: cells of the supernet, with reductions at one and two thirds.
        stem: small (8×8 to 28×28 images), cifar or imagenet.
        stem_stride: 1, 2 or 4, of the small or cifar stem.
        noise_weight: λ, weight of the noise-fit penalty; 0 runs no twin.
        penalty: how well α can be trained to fit noise; see darts_noise.list_penalties(). With
            settings: {twin: {form: log}}.
        noise_family: what must not be learnt; see darts_noise.list_noise(). Several with a weight
            each: {uniform: 2, random_pixels: 1}.
        noise_samples: images in the noise set.
        supernet: shared, or textbook: the same function, slower and easier to change.
        hypergradient: first_order, finite_difference, exact or neumann.
        variants: a search variant, or several with settings; see darts_noise.list_variants().
        twin_steps: updates of the twin per search step.
        twin_optimiser: of v, sgd or adam; null for that of w.
        twin_learning_rate: of v at the start; null for that of w.
        twin_restart: start the twin anew every so many epochs; 0 for never.
        candidates: cells that α proposes at the end, measured one by one with F = L_val + λ·P; 1
            for the strongest operations, unmeasured.
        candidate_epochs: of each one's training on the data.
        candidate_parameters: of its network, by its width; null for a width of `channels`.
        warmup_epochs: epochs in which w and v learn and α stands still.
        optimiser: of w and v, sgd or adam, which needs fewer steps; with a cosine schedule.
        learning_rate: of w and v at the start.
        learning_rate_min: of w and v at the end.
        momentum: of w and v with sgd.
        weight_decay: of w and v with sgd.
        gradient_clip: largest gradient norm of w and of v; 0 for none.
        alpha_learning_rate: of α (Adam).
        alpha_betas: of α.
        alpha_weight_decay: of α.
        seed: of the noise set and of the order of its batches.

    Raises:
        ValueError: a value out of range, or an unknown name; the message names the key.
    """

    def __init__(
        self,
        space: str = "darts",
        nodes: int | None = None,
        macro: dict[str, list[str | float]] | None = None,
        channels: int = 16,
        num_cells: int = 8,
        stem: str = "cifar",
        stem_stride: int = 1,
        noise_weight: float = 1.0,
        penalty: dict[str, dict[str, Setting] | None] | str = "twin",
        noise_family: dict[str, Any] | str = "uniform",
        noise_samples: int = 1000,
        supernet: str = "shared",
        hypergradient: str = "first_order",
        variants: str | dict[str, dict[str, Setting] | None] | None = None,
        twin_steps: int = 1,
        twin_optimiser: str | None = None,
        twin_learning_rate: float | None = None,
        twin_restart: int = 0,
        candidates: int = 1,
        candidate_epochs: int = 40,
        candidate_parameters: int | None = None,
        warmup_epochs: int = 0,
        optimiser: str = "sgd",
        learning_rate: float = 0.025,
        learning_rate_min: float = 0.001,
        momentum: float = 0.9,
        weight_decay: float = 3e-4,
        gradient_clip: float = 5.0,
        alpha_learning_rate: float = 3e-4,
        alpha_betas: tuple[float, float] = (0.5, 0.999),
        alpha_weight_decay: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.space = get_space(space, nodes)
        if macro:
            try:
                self.space = self.space.narrowed(macro)
            except ValueError as error:
                raise ValueError(f"model.{error}") from None
        variants = {variants: None} if isinstance(variants, str) else variants
        self.variants = make_variants(variants or {})
        self.penalty = make_penalty(penalty)
        self.save_hyperparameters()
        check_settings(self.hparams, self.penalty)
        self.chosen: Genotype | None = None
        self.stopped_because: str | None = None
        self.symptoms = Symptoms()

    # ---------------------------------------------------------------- what is trained

    def build(self, data: ImageDataModule) -> None:
        """Makes α, the networks and the noise set for data that are set up; once.

        Raises:
            ValueError: a stem or a size that does not exist, or a noise set that cannot be made.
        """
        if hasattr(self, "arch"):
            return
        hparams = self.hparams
        data.validation_stream(shuffle=True)  # refuses data on which α cannot be learnt
        self.num_classes = data.num_classes
        self.in_channels = data.in_channels
        self.dataset_name = data.name
        self.arch = Architecture(self.space)
        for variant in self.variants.values():
            variant.change_architecture(self.arch)
        self.net = self._supernet()
        self.twin = None
        self.noise_set = None
        self.noise_fingerprint: str | None = None
        if hparams["noise_weight"] > 0:
            if self.penalty.weights == "twin":
                self.twin = self._fresh_twin(0)
            self.noise_set = make_noise(
                hparams["noise_family"],
                hparams["noise_samples"],
                data.train,
                hparams["seed"],
                root_of_others(data.name, data.root),
            )
            self.noise_fingerprint = fingerprint(self.noise_set)
        self.metrics = SplitMetrics(self.num_classes, "train", "val", "noise")
        self.mean_penalty = MeanMetric(nan_strategy="disable")

    def setup(self, stage: str) -> None:
        """Builds what `build` has not yet, and opens the streams of α's and v's batches."""
        data = self._data
        self.build(data)
        if self.noise_set is not None:
            batch_size = min(data.batch_size, len(self.noise_set))
            self.noise_stream = BatchStream(
                self.noise_set,
                batch_size - batch_size % self.trainer.world_size,
                data.normalisation,
                seed=derive_seed(self.hparams["seed"], Stream.NOISE),
                device=self.trainer.strategy.root_device,
                rank=self.trainer.global_rank,
                world_size=self.trainer.world_size,
            )
        self.validation_stream = data.validation_stream(shuffle=True)

    def genotype(self) -> Genotype:
        """The discrete cells that α stands for now, or those `chosen` at the end, with where they
        come from."""
        if self.chosen is not None:
            return self.chosen
        hparams = self.hparams
        return self.arch.genotype(
            {
                "dataset": self.dataset_name,
                "noise_weight": hparams["noise_weight"],
                "noise_family": hparams["noise_family"],
                "penalty": hparams["penalty"],
                "seed": hparams["seed"],
                "epoch": self.current_epoch,
            }
        )

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
        return make_supernet(self.space, self.num_classes, self.in_channels, self.hparams, variants)

    def _fresh_twin(self, restart: int) -> SuperNet:
        return make_twin(self._supernet, self.hparams["seed"], restart)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        """Optimisers of α, w and (where there is a twin) v; cosine schedules of w and v."""
        nets = [self.net] if self.twin is None else [self.net, self.twin]
        epochs = max(self.trainer.max_epochs or 1, 1)
        optimisers, schedules = make_optimisers(self.arch, nets, self.hparams, epochs)
        return [make_guardable(optimiser) for optimiser in optimisers], schedules

    def configure_callbacks(self) -> list[pl.Callback]:
        """The check that several processes hold the same α, w and v."""
        return [Agreement(self.trained)]

    # ---------------------------------------------------------------- epochs

    def on_fit_start(self) -> None:
        if any(isinstance(module, nn.SyncBatchNorm) for module in self.modules()):
            raise ValueError(
                "sync_batchnorm: Lightning's own does not suit a supernet; expected "
                "Trainer(plugins=[darts_noise.SynchronisedNorms()]) in its place"
            )

    def on_train_start(self) -> None:
        self._start_variants()  # a run that resumes within an epoch does not start that epoch

    def on_train_epoch_start(self) -> None:
        epoch, every = self.current_epoch, self.hparams["twin_restart"]
        self._start_variants()
        if self.twin is not None and every and epoch and epoch % every == 0:
            restart_twin(
                self.twin, self._optimisers()[2].optimizer, self._fresh_twin(epoch // every)
            )

    def _start_variants(self) -> None:
        for variant in self.variants.values():
            variant.start_epoch(self.current_epoch, self.trainer.max_epochs or 1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        logits = self.net(images, self.arch()).float()
        self.metrics.record("val", logits, labels, F.cross_entropy(logits, labels))

    def on_train_epoch_end(self) -> None:
        schedulers = self.lr_schedulers() or []
        values = self._epoch_metrics()
        for schedule in schedulers if isinstance(schedulers, list) else [schedulers]:
            assert isinstance(schedule, LRScheduler)
            schedule.step()
        self.log_dict(values, sync_dist=False)
        if self.current_epoch >= self.hparams["warmup_epochs"]:
            self._look_for_symptoms(values)
            self._ask_variants_to_stop()

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
        return curvature_in_alpha(self.net, self.arch, batch)

    def _epoch_metrics(self) -> dict[str, float | Tensor]:
        """Every figure of the epoch under the name that metrics.csv and W&B show."""
        values: dict[str, float | Tensor] = {**self.metrics.collect("train", "val", "noise")}
        if self.mean_penalty.update_called:
            values["noise/penalty"] = self.mean_penalty.compute()
            self.mean_penalty.reset()
        if self.twin is not None:
            values["noise/lag"] = twin_lag(
                self.twin,
                self.arch,
                self._optimisers()[2].optimizer,
                [self._noise_batch(ahead) for ahead in range(LAG_STEPS)],
                self.hparams["gradient_clip"],
            )
        values |= self.arch.figures()
        for name, optimiser in zip(("alpha", "weights", "twin"), self._optimisers(), strict=False):
            values[f"lr/{name}"] = optimiser.param_groups[0]["lr"]
        return values

    # ---------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.finite.read()
        checkpoint["positions"] = {"search": self.search_step, "twin": self.twin_step}
        checkpoint["variants"] = {name: v.state() for name, v in self.variants.items()}
        checkpoint["noise"] = self.noise_fingerprint
        checkpoint["stopped_because"] = self.stopped_because
        checkpoint["symptoms"] = self.symptoms.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "positions" not in checkpoint:
            raise ValueError("the checkpoint is not of a search")
        self.search_step = checkpoint["positions"]["search"]
        self.twin_step = checkpoint["positions"]["twin"]
        for name, state in checkpoint["variants"].items():
            self.variants[name].load(state)
        if checkpoint["noise"] != self.noise_fingerprint:
            raise ValueError(
                "model.noise_family: expected the noise set that the checkpoint was made with, "
                f"of fingerprint {checkpoint['noise']}, got {self.noise_fingerprint}"
            )
        self.stopped_because = checkpoint["stopped_because"]
        self.symptoms.load(checkpoint["symptoms"])
