"""A cell in a Lightning project that uses nothing else of this package:
``python -m examples.lightning_project``.

The cell is a block between the layers of the project.
"""

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import darts_noise as dn


class Classifier(pl.LightningModule):
    """A map from grey images (B, 1, H, W) to logits (B, 2)."""

    def __init__(self, genotype: str) -> None:
        super().__init__()
        halved = dn.Cell(genotype, in_channels=8, channels=4, reduction=True)
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            halved,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(halved.out_channels, 2),
        )

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.net(images), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.02)


def stripes(count: int) -> TensorDataset:
    """Return images of horizontal (class 0) and vertical (class 1) stripes."""
    labels = torch.arange(count) % 2
    lying = (torch.arange(8) % 2).float()[:, None].expand(8, 8)
    images = torch.stack([lying.T if label else lying for label in labels])[:, None]
    return TensorDataset(images + 0.1 * torch.randn(count, 1, 8, 8), labels)


def main(genotype: str = "darts_v2") -> float:
    """Train for five epochs, and return the loss of the last step."""
    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        max_epochs=5,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(genotype), DataLoader(stripes(64), batch_size=16, shuffle=True))
    loss = float(trainer.callback_metrics["loss"])
    print(f"loss {loss:.3f}")
    return loss


if __name__ == "__main__":
    main()
