"""Loss and accuracy over an epoch, by the name of a split: what both modules record."""

from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy


class SplitMetrics(nn.Module):
    """Mean loss and accuracy of an epoch for each split, correct over several processes.

    Args:
        num_classes: C of the logits.
        splits: the names under which values are recorded and logged.
    """

    def __init__(self, num_classes: int, *splits: str) -> None:
        super().__init__()
        # The suffix keeps "train" from colliding with nn.Module.train.
        self.splits = nn.ModuleDict(
            {f"{split}_split": _loss_and_accuracy(num_classes) for split in splits}
        )

    def record(self, split: str, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Adds a batch: logits (B, C), labels (B,), and the batch's mean loss."""
        metrics = self._of(split)
        metrics["loss"].update(loss.detach(), labels.numel())
        metrics["accuracy"].update(logits.detach(), labels)

    def collect(self, *splits: str) -> dict[str, Tensor]:
        """``{"train/loss": …, "train/accuracy": …}`` of splits that saw a batch; resets them."""
        values: dict[str, Tensor] = {}
        for split in splits:
            metrics = self._of(split)
            if metrics["loss"].update_called:
                values |= {f"{split}/{name}": value for name, value in metrics.compute().items()}
            metrics.reset()
        return values

    def _of(self, split: str) -> MetricCollection:
        metrics = self.splits[f"{split}_split"]
        assert isinstance(metrics, MetricCollection)
        return metrics


def _loss_and_accuracy(num_classes: int) -> MetricCollection:
    return MetricCollection(
        {"loss": MeanMetric(), "accuracy": MulticlassAccuracy(num_classes, average="micro")},
        compute_groups=False,
    )
