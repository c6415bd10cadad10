"""Training of a discrete network, on real data or on noise, as a LightningModule.

The recipe is DARTS's (arXiv:1806.09055, appendix A): SGD with a cosine schedule to zero, scheduled
drop path, an auxiliary head; label smoothing is there for ImageNet. The length of the run, gradient
clipping and precision are the Trainer's.
"""

import pytorch_lightning as pl
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from darts_noise.data.batches import Batch
from darts_noise.metrics import SplitMetrics
from darts_noise.nets.network import Network, WithAuxiliary, create_model
from darts_noise.space.genotype import Genotype


class TrainModule(pl.LightningModule):
    """Trains one discrete network.

    Args:
        genotype: a published name, a .json, or a run directory; null for the newest search.
        channels: channels of a state before the first reduction.
        num_cells: cells of the network, with reductions at one and two thirds.
        stem: small (8×8 to 28×28 images), cifar or imagenet.
        stem_stride: 1, 2 or 4, of the small or cifar stem.
        auxiliary_weight: weight of the auxiliary head's loss; 0 for no head.
        drop_path: probability of dropping an operation at the end; rises linearly from 0.
        label_smoothing: share of the label's mass that is spread over all classes.
        learning_rate: at the start (SGD, cosine to 0).
        momentum: of SGD.
        weight_decay: of SGD.

    Raises:
        ValueError: a value out of range, or an unknown name; the message names the key.
    """

    net: Network

    def __init__(
        self,
        genotype: str | None = None,
        channels: int = 36,
        num_cells: int = 20,
        stem: str = "cifar",
        stem_stride: int = 1,
        auxiliary_weight: float = 0.4,
        drop_path: float = 0.2,
        label_smoothing: float = 0.0,
        learning_rate: float = 0.025,
        momentum: float = 0.9,
        weight_decay: float = 3e-4,
    ) -> None:
        super().__init__()
        for key, value in {
            "auxiliary_weight": auxiliary_weight,
            "learning_rate": learning_rate,
            "momentum": momentum,
            "weight_decay": weight_decay,
        }.items():
            if not value >= 0:
                raise ValueError(f"model.{key}: expected 0 or more, got {value}")
        for key, value in {"drop_path": drop_path, "label_smoothing": label_smoothing}.items():
            if not 0 <= value < 1:
                raise ValueError(f"model.{key}: expected 0 or more and less than 1, got {value}")
        self.save_hyperparameters()

    def build(self, genotype: Genotype, num_classes: int, in_channels: int) -> "TrainModule":
        """Makes ``net`` for data of this form; the Trainer may run after that.

        Raises:
            ValueError: a stem or a size that does not exist.
        """
        hparams = self.hparams
        self.net = create_model(
            genotype,
            num_classes=num_classes,
            in_channels=in_channels,
            channels=hparams["channels"],
            num_cells=hparams["num_cells"],
            stem=hparams["stem"],
            stem_stride=hparams["stem_stride"],
            auxiliary=hparams["auxiliary_weight"] > 0,
        )
        self.metrics = SplitMetrics(num_classes, "train", "val", "test")
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes) of normalised images (B, C, H, W)."""
        out = self.net(x)
        return out.logits if isinstance(out, WithAuxiliary) else out

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        smoothing = self.hparams["label_smoothing"]
        out = self.net(images)
        logits = out.logits if isinstance(out, WithAuxiliary) else out
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        self.metrics.record("train", logits, labels, loss)
        if isinstance(out, WithAuxiliary):
            auxiliary = F.cross_entropy(out.auxiliary, labels, label_smoothing=smoothing)
            loss = loss + self.hparams["auxiliary_weight"] * auxiliary
        return loss

    def on_train_epoch_start(self) -> None:
        epochs = max(self.trainer.max_epochs or 1, 1)
        self.net.drop_path = self.hparams["drop_path"] * self.current_epoch / epochs
        # Kept here: by the end of the epoch the schedule has moved on.
        self.learning_rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate("val", batch)

    def on_train_epoch_end(self) -> None:
        self.log_dict(self.metrics.collect("train", "val") | {"lr/weights": self.learning_rate})

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.metrics.collect("test"))

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        hparams = self.hparams
        optimiser = SGD(
            self.net.parameters(),
            lr=hparams["learning_rate"],
            momentum=hparams["momentum"],
            weight_decay=hparams["weight_decay"],
        )
        return [optimiser], [CosineAnnealingLR(optimiser, max(self.trainer.max_epochs or 1, 1))]

    def _evaluate(self, split: str, batch: Batch) -> None:
        images, labels = batch
        logits = self(images).float()
        self.metrics.record(split, logits, labels, F.cross_entropy(logits, labels))
