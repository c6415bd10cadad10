"""The auxiliary head of NASNet and DARTS: a second classifier at two thirds of the depth."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from darts_noise.errors import SettingError

STRIDE = {"cifar": 3, "small": 3, "imagenet": 2}
WINDOW = 5


def _require_map(x: Tensor, smallest: int) -> Tensor:
    if min(x.shape[-2:]) < smallest:
        raise SettingError(
            "auxiliary",
            f"expected images that leave a map of {smallest}×{smallest} pixels or more "
            f"for the auxiliary head, got one of {x.shape[-2]}×{x.shape[-1]}",
        )
    return x


torch.fx.wrap("_require_map")  # a symbolic trace has no sizes for the condition


class AuxiliaryHead(nn.Module):
    """Average pool 5×5 → 1×1 convolution → 2×2 convolution → linear.

    (B, C, H, W) → logits (B, num_classes). H and W must be at least `smallest_map`. Larger maps are
    averaged before the linear layer. The ImageNet head has no second batch norm, because the
    network behind the authors' published figures has none. Source: DARTS (arXiv:1806.09055),
    appendix A.

    Args:
        channels: C.
        linear: makes the last layer for a number of inputs.
        stem: stem of the network.
    """

    WIDTH = 768
    """Number of inputs of the linear layer."""

    def __init__(self, channels: int, linear: Callable[[int], nn.Module], stem: str) -> None:
        super().__init__()
        second_norm = [] if stem == "imagenet" else [nn.BatchNorm2d(self.WIDTH)]
        self.smallest = smallest_map(stem)
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(WINDOW, STRIDE[stem], count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, self.WIDTH, 2, bias=False),
            *second_norm,
            nn.ReLU(),
        )
        self.classifier = linear(self.WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(_require_map(x, self.smallest))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def smallest_map(stem: str) -> int:
    """Return the smallest height and width, in pixels, of a map that the head accepts."""
    return WINDOW + STRIDE[stem]
