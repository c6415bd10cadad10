"""Cells as the backbone of torchvision's Faster R-CNN: ``python -m examples.detection``.

With the ``imagenet`` stem the maps have strides 4, 8, 16 and 32. torchvision's detectors are made
for these strides, so anchors and region pooling need no settings.
"""

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

import darts_noise as dn


class PyramidBackbone(nn.Module):
    """A map from images (B, 3, H, W) to (B, out_channels, ⌈H/s⌉, ⌈W/s⌉) by name, for each stride
    s."""

    def __init__(self, genotype: str, out_channels: int, **form: int) -> None:
        super().__init__()
        self.body = dn.create_model(genotype, features_only=True, stem="imagenet", **form)
        channels = self.body.feature_info.channels()
        self.fpn = FeaturePyramidNetwork(channels, out_channels, extra_blocks=LastLevelMaxPool())
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.fpn({str(i): m for i, m in enumerate(self.body(x))})
        return maps


def detector(genotype: str, num_classes: int, side: int = 800, **form: int) -> FasterRCNN:
    """Return a detector of ``num_classes - 1`` kinds of objects. Class 0 is the background."""
    backbone = PyramidBackbone(genotype, out_channels=64, **form)
    return FasterRCNN(backbone, num_classes, min_size=side, max_size=side)


def main(genotype: str = "darts_v2") -> dict[str, Tensor]:
    """Make one training step on random boxes, and return the losses."""
    torch.manual_seed(0)
    model = detector(genotype, num_classes=3, side=64, channels=8, num_cells=5)
    images = [torch.rand(3, 64, 64), torch.rand(3, 48, 64)]
    targets = [
        {"boxes": torch.tensor([[4.0, 4.0, 40.0, 36.0]]), "labels": torch.tensor([1])},
        {"boxes": torch.tensor([[8.0, 2.0, 60.0, 30.0]]), "labels": torch.tensor([2])},
    ]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    losses: dict[str, Tensor] = model(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    optimiser.step()
    stem = next(model.backbone.body.stem.parameters())
    print({name: round(loss.item(), 4) for name, loss in losses.items()})
    print("gradient at the stem:", float(stem.grad.norm()))
    return losses


if __name__ == "__main__":
    main()
