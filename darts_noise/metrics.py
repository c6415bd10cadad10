"""Metrics over an epoch: loss and accuracy by split for both modules, and the noise fit.

`NoiseFitMetric` is for your own training loops.
"""

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from darts_noise.noise.penalties.penalty import noise_fit_penalty


class NoiseFitMetric(Metric):
    """A metric of noise fit over an epoch: p = max(0, 1 − L / log C), in [0, 1].

    L is the mean cross-entropy over all samples of all batches and processes, in nats. log C is the
    cross-entropy of a guess. p has the same formula as the default penalty of the search.

    Args:
        num_classes: C, the number of classes of the noise set, at least 2. It may be smaller than
            the number of classes of the network.

    Raises:
        ValueError: there are fewer than 2 classes.

    >>> import torch
    >>> metric = NoiseFitMetric(num_classes=4)
    >>> metric(torch.zeros(8, 4), torch.arange(8) % 4)
    tensor(0.)
    >>> metric(100 * torch.eye(4), torch.arange(4))
    tensor(1.)
    >>> metric.compute()  # 12 samples, of which 4 are fitted
    tensor(0.3333)
    """

    is_differentiable = True
    higher_is_better = False
    full_state_update = False
    loss: Tensor
    samples: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
        self.num_classes = num_classes
        self.add_state("loss", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits (B, classes of the network), labels int64 (B,)."""
        self.loss = self.loss + F.cross_entropy(logits.float(), labels, reduction="sum")
        self.samples = self.samples + labels.numel()

    def compute(self) -> Tensor:
        """Return p, a scalar; NaN before the first sample."""
        return noise_fit_penalty(self.loss / self.samples, self.num_classes).float()


class SplitMetrics(nn.Module):
    """Mean loss and accuracy of an epoch for each split, over all processes.

    Args:
        num_classes: C, the number of classes of the logits.
        splits: names of the splits, for recording and logging.
    """

    def __init__(self, num_classes: int, *splits: str) -> None:
        super().__init__()
        # Without the suffix, "train" would collide with nn.Module.train.
        self.splits = nn.ModuleDict(
            {f"{split}_split": _loss_and_accuracy(num_classes) for split in splits}
        )

    def to_float32(self) -> None:
        """Sum in float32 again, after the precision ``bf16-true`` has converted a whole module."""
        for split in self.splits:
            self._of(split.removesuffix("_split")).set_dtype(torch.float32)

    def record(self, split: str, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Add a batch: logits (B, C), labels (B,), and the batch's mean loss."""
        metrics = self._of(split)
        # One value per image, because the metric ignores a weight if it does not check for NaN.
        metrics["loss"].update(loss.detach().expand(labels.numel()))
        metrics["accuracy"].update(logits.detach(), labels)

    def collect(self, *splits: str) -> dict[str, Tensor]:
        """Return the same as `figures`, and reset the splits."""
        values = self.figures(*splits)
        for split in splits:
            self._of(split).reset()
        return values

    def figures(self, *splits: str) -> dict[str, Tensor]:
        """Return ``{"train/loss": …, "train/accuracy": …}`` of the splits that have a batch."""
        values: dict[str, Tensor] = {}
        for split in splits:
            metrics = self._of(split)
            if metrics["loss"].update_called:
                values |= {f"{split}/{name}": value for name, value in metrics.compute().items()}
        return values

    def _of(self, split: str) -> MetricCollection:
        metrics = self.splits[f"{split}_split"]
        assert isinstance(metrics, MetricCollection)
        return metrics


def log_validation(module: pl.LightningModule, metrics: SplitMetrics) -> None:
    """Log the figures of a validation that has ended, for callbacks that monitor them.

    The callbacks of a run that does not validate at the end of every epoch read them at once. The
    loggers get them with the other figures of the epoch. Lightning's sanity check counts for
    nothing.
    """
    if module.trainer.sanity_checking:
        metrics.collect("val")
    else:
        module.log_dict(metrics.figures("val"), logger=False)


def _loss_and_accuracy(num_classes: int) -> MetricCollection:
    # A check for NaN or for invalid labels would wait for the device at every update.
    accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
    return MetricCollection(
        {"loss": MeanMetric(nan_strategy="disable"), "accuracy": accuracy}, compute_groups=False
    )
