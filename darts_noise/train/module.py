"""Training of a discrete network, on real data or on noise, as a LightningModule.

The default recipe is the recipe of DARTS (arXiv:1806.09055, appendix A): SGD with a cosine schedule
to zero, scheduled drop path and an auxiliary head. The recipe of DARTS for ImageNet adds label
smoothing and multiplies the learning rate by a factor after each epoch. All other options are off
by default. The Trainer sets the number of epochs, gradient clipping, gradient accumulation and
precision. The module skips an update if the loss or a gradient is not finite; see
`darts_noise.finite`.

With `adversarial_eps`, each batch is attacked before the step; see `darts_noise.train.adversarial`.
The figures of the training are then those on the attacked images, and the figures of a validation
and of the test those on the images as they are.

With `noisy_labels`, some samples of a batch train and some do not. A method with two networks
trains the second one, the peer, beside the first: both learn from every batch, by one optimiser,
whose step of a weight depends on no other weight. The gradients of each are clipped alone. All
random numbers of the peer have a generator of their own, so the peer changes the first network only
by its choice of samples.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torchmetrics import MeanMetric

from darts_noise.attacks.pixels import Ball
from darts_noise.configured import config_of
from darts_noise.data.batches import Batch, BatchStream
from darts_noise.data.images import Normalisation
from darts_noise.data.module import ImageDataModule
from darts_noise.data.seeds import Stream, drawing
from darts_noise.distributed.agreement import Agreement
from darts_noise.errors import SettingError, within
from darts_noise.finite import FiniteCheck, Term, make_guardable
from darts_noise.loading import PlainModule
from darts_noise.metrics import SplitMetrics, log_validation
from darts_noise.nets.body import dtype_of
from darts_noise.nets.network import Network, WithAuxiliary, auxiliary_fits, create_model
from darts_noise.reading import laid_out, recompute_statistics, whole_set
from darts_noise.space.genotype import Genotype
from darts_noise.space.published import load_genotype
from darts_noise.train.adversarial import Adversary
from darts_noise.train.factories import arguments_of_model
from darts_noise.train.loop import make_optimiser
from darts_noise.train.mixing import BatchMixing
from darts_noise.train.noisy_labels import BatchLosses, make_selection
from darts_noise.train.progress import length_in_epochs
from darts_noise.train.settings import TrainConfig

RISE = 0.3
"""The share of the steps over which Adam's learning rate rises."""
FEW_STEPS = 100
"""Optimiser steps after which the running averages of batch norms have arrived: with torch's
momentum of 0.1, the initial values then have a weight of 0.9¹⁰⁰ = 3e-5."""
ADVICE = "try a smaller model.learning_rate, or trainer.gradient_clip_val"


def usual_optimiser(genotype: object) -> str:
    """Return ``muon`` for a genotype of bounded gain, else ``sgd``.

    The gradients of a bounded network are as large as its logit scale. SGD cannot use the same
    learning rate for its weights, whose scale has no effect, and its biases. Adam needs several
    times as many steps as Muon.
    """
    bounded = isinstance(genotype, Genotype) and genotype.choice("gain") == "bounded"
    return "muon" if bounded else "sgd"


def one_cycle(progress: float) -> float:
    """Return the factor of a learning rate at a share of the steps, from 0 to 1.

    It rises on a cosine from 0.04 to 1 over the first 30%, and then falls to 0 (Smith & Topin
    2017, arXiv:1708.07120).

    >>> [round(one_cycle(share), 2) for share in (0, 0.15, 0.3, 0.65, 1)]
    [0.04, 0.52, 1.0, 0.5, 0.0]
    """
    if progress < RISE:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / RISE)) / 2
    return (1 + math.cos(math.pi * min(1.0, (progress - RISE) / (1 - RISE)))) / 2


def compile_forward(
    net: Network, backend: str | Callable[..., object] = "inductor"
) -> Callable[[Tensor], Tensor | WithAuxiliary]:
    """Return a compiled function that computes ``net(x)`` with the network's own weights.

    The compiler runs at the first call, and its errors are not caught. The function uses later
    values of the weights and of ``net.drop_path``.

    Args:
        net: the network; not changed.
        backend: the backend of torch.compile.
    """
    # The bound method, not the module: a compiled module would be a second child of its owner and
    # appear in the owner's state_dict.
    compiled: Callable[[Tensor], Tensor | WithAuxiliary] = torch.compile(
        net.forward, backend=backend
    )
    return compiled


class TrainModule(PlainModule[TrainConfig]):
    """The training of one discrete network.

    `build` makes the network. If `build` was not called, `setup` makes it for the Trainer's
    `ImageDataModule`. A checkpoint makes it too: ``TrainModule.load_from_checkpoint(path).net`` is
    the trained network.

    Args:
        config: a `TrainConfig`, or the name or file of a genotype.
        settings: fields of `TrainConfig` by name, such as ``channels=16``.

    Raises:
        SettingError: a value out of range, or an unknown name. The methods below raise it too. Its
            key begins with ``model.``.
    """

    config_class = TrainConfig
    net: Network
    peer: Network

    @within("model")
    def __init__(self, config: TrainConfig | str | None = None, **settings: Any) -> None:
        super().__init__()
        self.configure(config_of(TrainConfig, config, settings))
        self.learning_rate = self.config.learning_rate  # of the current epoch
        self.compiled: list[Callable[[Tensor], Tensor | WithAuxiliary]] = []  # forward passes
        self.selection = make_selection(self.config.noisy_labels)
        self.has_peer = self.selection is not None and self.selection.networks == 2
        if self.has_peer and self.config.init is not None:
            raise SettingError(
                "init", "expected null, because two networks must start from different weights"
            )
        c = self.config
        ball = Ball(c.adversarial_norm, c.adversarial_eps)
        self.adversary = Adversary(ball, c.adversarial_steps, c.seed) if c.adversarial_eps else None
        self.label_precision = MeanMetric(nan_strategy="disable")
        self.finite = FiniteCheck(ADVICE)
        self.recomputed_at = -1  # step of the last `_recompute_statistics`

    @within("model")
    def build(self, genotype: Genotype, num_classes: int, in_channels: int) -> "TrainModule":
        """Make ``net`` for the given numbers of classes and channels, and return the module.

        Raises:
            ValueError: a stem or a size that does not exist.
        """
        arguments = arguments_of_model(genotype, num_classes, in_channels, self.config)
        self.configure(replace(self.config, channels=arguments["channels"]))
        arguments["auxiliary"] = self.config.auxiliary_weight > 0
        make = partial(create_model, genotype, **arguments)
        return self.use(make(), num_classes, in_channels, make)

    def leave_out_head(self, genotype: Genotype, shape: tuple[int, int, int]) -> None:
        """Set ``auxiliary_weight`` to 0 if images (C, H, W) are too small for the head."""
        c = self.config
        choices = map(genotype.choice, ("pooling", "reductions"))
        if not auxiliary_fits(shape[1:], c.stem, c.stem_stride, *choices):
            self.configure(replace(c, auxiliary_weight=0.0))

    def use(
        self,
        net: nn.Module,
        num_classes: int,
        in_channels: int,
        make: Callable[[], nn.Module] | None = None,
    ) -> "TrainModule":
        """Train ``net``, which may be any network, and return the module.

        ``drop_path`` has no effect on a network that is not made of cells. A checkpoint of such a
        network holds only its weights, so call `use` again before you load the checkpoint.

        Args:
            net: maps normalised images (B, in_channels, H, W) to logits (B, num_classes).
            num_classes: number of logits.
            in_channels: channels of the images.
            make: makes another such network with new initial weights. Needed if ``noisy_labels``
                names a method with two networks.

        Raises:
            SettingError: `make` is needed and None.
        """
        c = self.config
        self.images_of = {"num_classes": num_classes, "in_channels": in_channels}
        self.net = cast(Network, net)  # the usual type, for the type checker
        if self.has_peer:
            if make is None:
                raise SettingError("model.noisy_labels", "expected `make` of a second network")
            with drawing(c.seed, Stream.PEER):
                self.peer = cast(Network, make())
        if c.channels_last:
            for network in self.networks:
                network.to(memory_format=torch.channels_last)
        mixes = c.mixup or c.cutmix
        self.mixing = BatchMixing(c.mixup, c.cutmix, num_classes, c.seed) if mixes else None
        self.metrics = SplitMetrics(num_classes, "train", "val", "test")
        return self

    def setup(self, stage: str) -> None:
        """Build the network for the Trainer's data if there is none yet.

        Raises:
            ValueError: ``genotype`` is not set, or the data are not an `ImageDataModule`.
        """
        if hasattr(self, "net"):
            return
        data, genotype = self._data, self.config.genotype
        if genotype is None or data is None:
            raise ValueError(
                "the training needs TrainModule(genotype=...) and "
                "trainer.fit(module, datamodule=ImageDataModule(...)), or a call of "
                "module.build(...) before"
            )
        cell = load_genotype(genotype)
        self.leave_out_head(cell, data.image_shape)
        self.build(cell, data.num_classes, data.in_channels)

    @property
    def networks(self) -> list[Network]:
        """The network, and its peer if ``noisy_labels`` names a method with two networks."""
        return [self.net, self.peer] if self.has_peer else [self.net]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.finite.read()
        if isinstance(self.net, Network):
            checkpoint["network"] = {"genotype": self.net.genotype.to_dict(), **self.images_of}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not hasattr(self, "net"):
            if "network" not in checkpoint:
                raise ValueError(
                    "the network of this checkpoint was passed to TrainModule.use; call use again "
                    "before you load the checkpoint"
                )
            network = dict(checkpoint["network"])
            self.build(Genotype.from_dict(network.pop("genotype")), **network)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of normalised images (B, C, H, W)."""
        return _logits(self.net(self._laid_out(x)))

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the loss of the network, or the sum of both networks' losses.

        Args:
            batch: images and labels, and the true labels if some labels were made wrong.
            batch_idx: number of the batch in the epoch.
        """
        images, labels, *true_labels = batch
        targets = labels  # (B,); after mixing (B, num_classes)
        number = (self.current_epoch, batch_idx, self.global_rank)
        if self.mixing is not None:
            images, targets = self.mixing(images, labels, *number)
            labels = targets.argmax(-1)  # the accuracy uses the label with the larger share
        if self.adversary is not None:
            images = self.adversary(self.net, images, labels, self._normalisation(), *number)
        smoothing = self.config.label_smoothing
        outs = self._outputs(self._laid_out(images), *number)
        chosen = self._chosen(outs, labels)
        if true_labels and self.selection is not None:
            self.label_precision.update((labels == true_labels[0])[chosen[0]].float())
        losses: list[Tensor] = []
        for out, index in zip(outs, chosen, strict=True):
            logits = _logits(out)[index]
            loss = F.cross_entropy(logits, targets[index], label_smoothing=smoothing)
            if not losses:  # the figures are those of the first network
                self.metrics.record("train", logits, labels[index], loss)
                # For the progress bar. At the end of the epoch, the epoch's mean replaces it.
                self.log("train/loss", loss.detach(), on_step=True, on_epoch=False, logger=False)
            if isinstance(out, WithAuxiliary):
                auxiliary = F.cross_entropy(
                    out.auxiliary[index], targets[index], label_smoothing=smoothing
                )
                loss = loss + self.config.auxiliary_weight * auxiliary
            losses.append(loss)
        self._require_finite([("the training loss", [loss.detach() for loss in losses])])
        return sum(losses[1:], losses[0])

    @property
    def _data(self) -> ImageDataModule | None:
        """The data of the Trainer, or None if they are of another class."""
        data = getattr(self.trainer, "datamodule", None)
        return data if isinstance(data, ImageDataModule) else None

    def _normalisation(self) -> Normalisation:
        """Return the normalisation of the images, inside of which an attack changes pixels."""
        if self._data is None:
            raise SettingError(
                "model.adversarial_eps",
                "expected 0 without an ImageDataModule, whose normalisation the attack needs",
            )
        return self._data.normalisation

    def _outputs(self, images: Tensor, *number: int) -> list[Tensor | WithAuxiliary]:
        """Return the output of each network for the batch with these numbers."""
        first, *others = self.compiled or self.networks
        outs = [first(images)]
        for peer in others:
            with drawing(self.config.seed, Stream.PEER, *number, device=self.device):
                outs.append(peer(images))
        return outs

    def _chosen(
        self, outs: Sequence[Tensor | WithAuxiliary], labels: Tensor
    ) -> Sequence[Tensor | slice]:
        """Return the indices of the samples that train each network."""
        if self.selection is None:
            return [slice(None)]
        smoothing = self.config.label_smoothing
        losses = [
            F.cross_entropy(
                _logits(out).detach().float(), labels, reduction="none", label_smoothing=smoothing
            )
            for out in outs
        ]
        planted = 0.0 if self._data is None else self._data.config.wrong_labels
        with within("model"):
            return self.selection(
                BatchLosses(torch.stack(losses), labels, self.current_epoch, planted)
            )

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # With fp16 the loss scaler produces infinite gradients while it looks for its scale. It
        # skips these updates itself.
        if self.trainer.precision != "16-mixed":
            found = [p.grad for p in self.parameters() if p.grad is not None]
            self._require_finite([("a gradient", found)])
        self.finite.guard(optimizer)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of each network alone: the norm of one must not shorten the other."""
        if len(self.networks) == 1 or gradient_clip_algorithm == "value":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            for network in self.networks:
                nn.utils.clip_grad_norm_(network.parameters(), gradient_clip_val)

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        if self.trainer.is_last_batch:
            self._require_finite([("a weight", list(self.parameters()))])
            self.finite.read()

    def _require_finite(self, terms: Sequence[Term]) -> None:
        step, epoch = self.global_step, self.current_epoch
        self.finite.look(terms, step=step, epoch=epoch, rate=self.learning_rate)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Return the callbacks of the training.

        One checks that all processes hold the same weights. If ``ema_decay`` is set, the other
        keeps the moving average of the weights and the batch-norm statistics, from the weights of
        the first step on. Lightning uses the average for validation and keeps it as the final
        weights. A checkpoint stores the average as ``state_dict`` and the trained weights as
        ``current_model_state``, from which a run resumes.
        """
        agreement = Agreement(lambda: {"weights": list(self.parameters())})
        decay = self.config.ema_decay
        if not decay:
            return [agreement]
        # The average is made while the network is still on the CPU, so it needs the device.
        device = self.trainer.strategy.root_device
        average: Callable[[float], Callable[..., None]] = get_ema_multi_avg_fn
        return [agreement, WeightAveraging(device=device, multi_avg_fn=average(decay))]

    def on_fit_start(self) -> None:
        self._float32_metrics()
        if self.adversary is not None:
            self._normalisation()  # its error comes before the first step
        if self.config.compile:
            self.compiled = [compile_forward(network) for network in self.networks]

    def on_validation_start(self) -> None:
        self._float32_metrics()

    def on_test_start(self) -> None:
        self._float32_metrics()

    def _float32_metrics(self) -> None:
        """Sum in float32, in which a count of images is exact, whatever the precision is."""
        self.metrics.to_float32()
        self.label_precision.set_dtype(torch.float32)

    def on_train_end(self) -> None:
        if self.config.ema_decay is not None:  # the average has just taken the network's place
            self._recompute_statistics()

    def on_fit_end(self) -> None:
        self.compiled = []  # it cannot be pickled, and only training uses it

    def on_train_start(self) -> None:
        self._follow_schedule()  # on_train_epoch_start is not called if a run resumes in an epoch

    def on_train_epoch_start(self) -> None:
        self._follow_schedule()

    def _follow_schedule(self) -> None:
        epochs = length_in_epochs(self.trainer) or math.inf
        for network in self.networks:
            if isinstance(network, Network):
                network.drop_path = self.config.drop_path * self.current_epoch / epochs
        # Stored at the start of the epoch, because the schedule steps before the epoch's log.
        self.learning_rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def images_for_statistics(self) -> BatchStream | None:
        """Return images on which the statistics of batch norms are computed before an evaluation.

        After a few steps the running averages are still near their initial values, and the network
        would be evaluated with them near chance. So during the first `FEW_STEPS` steps the averages
        are replaced by statistics of training images. The training continues from them. None: keep
        the running averages.
        """
        data = self._data
        if self.global_step > FEW_STEPS or data is None:
            return None
        return whole_set(data.train, data.normalisation, self.device)

    def _recompute_statistics(self) -> None:
        self.recomputed_at = self.global_step
        stream = self.images_for_statistics()
        if stream is not None:
            numbers = range(min(stream.batches_per_epoch, FEW_STEPS))
            images = (self._laid_out(stream.batch(k)[0].to(dtype_of(self.net))) for k in numbers)
            recompute_statistics(self.net, images)

    def on_validation_epoch_start(self) -> None:
        self.metrics.collect("val")  # forget an earlier validation of the same epoch
        if not self.trainer.sanity_checking and self.trainer.state.fn == TrainerFn.FITTING:
            self._recompute_statistics()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        log_validation(self, self.metrics)

    def on_train_epoch_end(self) -> None:
        if self.recomputed_at != self.global_step:  # there was no validation
            self._recompute_statistics()
        figures = self.metrics.collect("train", "val")
        if self.label_precision.update_called:
            figures["train/label_precision"] = self.label_precision.compute()
            self.label_precision.reset()
        self.log_dict(figures | {"lr/weights": self.learning_rate})

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.metrics.collect("test"))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        c = self.config
        kind = c.optimiser or usual_optimiser(getattr(self.net, "genotype", None))
        rates = {"muon": c.muon_learning_rate, "adam": c.adam_learning_rate, "sgd": c.learning_rate}
        decay = c.weight_decay if kind == "sgd" else 0.0
        rule = make_optimiser(kind, self.parameters(), rates[kind], c.momentum, decay)
        make_guardable(rule)
        if kind != "sgd":
            cycle = LambdaLR(rule, lambda step: self._cycle(step))
            return {"optimizer": rule, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
        if c.learning_rate_decay is not None:
            return [rule], [ExponentialLR(rule, c.learning_rate_decay)]
        if self.trainer.max_steps > 0 or (self.trainer.max_epochs or 0) < 1:
            # The number of epochs is known only when the loader is open.
            return [rule], [LambdaLR(rule, lambda epoch: self._cosine(epoch))]
        return [rule], [CosineAnnealingLR(rule, max(self.trainer.max_epochs or 1, 1))]

    def _cosine(self, epoch: int) -> float:
        """Return the factor of the learning rate after some epochs of a run with `max_steps`."""
        if epoch == 0:
            return 1.0
        epochs = length_in_epochs(self.trainer) or math.inf
        return (1 + math.cos(math.pi * min(1.0, epoch / epochs))) / 2

    def _cycle(self, step: int) -> float:
        """Return the factor of the learning rate at a step of one cycle.

        The Trainer is asked for its number of steps only during the training. Before, it would open
        its loader without the position of the resumed run.
        """
        if step == 0:
            return one_cycle(0.0)
        steps = self.trainer.estimated_stepping_batches
        return one_cycle(step / steps) if 0 < steps < math.inf else 1.0

    def _laid_out(self, images: Tensor) -> Tensor:
        """Return the images in the memory format of the network's weights."""
        if self.config.channels_last:
            return laid_out(images)
        return images

    def _evaluate(self, split: str, batch: Batch) -> None:
        images, labels = batch
        logits = self(images).float()
        self.metrics.record(split, logits, labels, F.cross_entropy(logits, labels))


def _logits(out: Tensor | WithAuxiliary) -> Tensor:
    return out.logits if isinstance(out, WithAuxiliary) else out
