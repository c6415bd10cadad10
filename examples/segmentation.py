"""Cells in a segmentation network: ``python -m examples.segmentation``.

The maps of all sizes are scaled to the largest one, and a 1×1 convolution classifies each pixel.
This is the simplest head that uses all maps (Hariharan et al. 2015, arXiv:1411.5752).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import darts_noise as dn


class Segmenter(nn.Module):
    """A map from images (B, 3, H, W) to logits (B, num_classes, H, W)."""

    def __init__(self, genotype: str, num_classes: int, **form: int | str) -> None:
        super().__init__()
        self.body = dn.create_model(genotype, features_only=True, **form)
        self.head = nn.Conv2d(sum(self.body.feature_info.channels()), num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.body(x)
        size = maps[0].shape[-2:]
        columns = torch.cat([F.interpolate(m, size, mode="bilinear") for m in maps], 1)
        logits: Tensor = F.interpolate(self.head(columns), x.shape[-2:], mode="bilinear")
        return logits


def main(genotype: str = "darts_v2", steps: int = 10) -> list[float]:
    """Learn which half of an image is bright, and return the loss before each step."""
    torch.manual_seed(0)
    net = Segmenter(genotype, num_classes=2, channels=4, num_cells=3, stem="small")
    mask = torch.zeros(4, 20, 28, dtype=torch.long)
    mask[:2, :, 14:] = 1
    mask[2:, 10:] = 1
    images = 0.3 * torch.randn(4, 3, 20, 28) + mask[:, None]
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(net(images), mask)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    print(f"loss {losses[0]:.3f} → {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    main()
