"""Control networks for a measurement of noise fit, each a `Factory`: (num_classes, in_channels).

References:
    [1] He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, CVPR 2016,
        arXiv:1512.03385.
    [2] Zhang, Bengio, Hardt, Recht and Vinyals, Understanding deep learning requires rethinking
        generalization, ICLR 2017, arXiv:1611.03530.
"""

from collections.abc import Mapping
from dataclasses import replace

import torchvision
from torch import nn

from darts_noise.space.genotype import Genotype
from darts_noise.space.macro import MACRO
from darts_noise.train.factories import Factory

WITH_BATCH_NORM = "with batch norm"
"""The name of the control that `with_batch_norm` makes."""


def with_batch_norm(genotype: Genotype) -> Genotype | None:
    """Return the same cell with batch norm, which fits noise, as a control for the cell itself.

    The macro choices of size stay, so that the control takes about as long as the cell. It sees the
    whole image, without a filter, and has both reduction cells.

    Args:
        genotype: the cell.

    Returns:
        The control, or None if the cell has batch norm and sees the whole image.
    """
    limiting = ("normalisation", "gain", "contrast", "colour", "input_filter")
    if all(genotype.choice(name) == MACRO[name][0] for name in limiting):
        return None
    size = ("width", "pooling", "reduction")
    macro = {name: value for name, value in genotype.macro.items() if name in size}
    return replace(genotype, macro=macro, meta={})


def resnet18(num_classes: int, in_channels: int, stem_stride: int = 1) -> nn.Module:
    """Return torchvision's ResNet-18 [1] for small images: a 3×3 stem without max-pool ([1], 4.2).

    It has batch norm and 11 million parameters. It is the positive control: it must fit any noise.

    Args:
        num_classes: number of classes.
        in_channels: channels of the images.
        stem_stride: stride of the stem. 1 (the default) suits images of 32 pixels; 2 takes a
            quarter of the time.

    >>> sum(p.numel() for p in resnet18(10, 3).parameters())
    11173962
    """
    net: nn.Module = torchvision.models.resnet18(weights=None, num_classes=num_classes)
    net.conv1 = nn.Conv2d(in_channels, 64, 3, stem_stride, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


def alexnet(num_classes: int, in_channels: int) -> nn.Module:
    """Return the small AlexNet of [2], appendix A.

    It has two convolutions and two hidden layers, without batch norm. Each convolution is 5×5,
    followed by max-pooling and local response normalisation. An adaptive pooling makes the feature
    map 6×6 for any image size.

    >>> sum(p.numel() for p in alexnet(10, 3).parameters())
    1068298
    """

    def block(channels: int) -> list[nn.Module]:
        return [
            nn.Conv2d(channels, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
            nn.LocalResponseNorm(9, alpha=0.001, beta=0.75),
        ]

    return nn.Sequential(
        *block(in_channels),
        *block(64),
        nn.AdaptiveAvgPool2d(6),
        nn.Flatten(),
        nn.Linear(64 * 36, 384),
        nn.ReLU(),
        nn.Linear(384, 192),
        nn.ReLU(),
        nn.Linear(192, num_classes),
    )


def pooled_cnn(num_classes: int, in_channels: int) -> nn.Module:
    """Return three convolutions with strong average pooling and no norms, for images of 28 pixels.

    28×28 becomes 7×7, 3×3 and, after the last convolution, 1×1. For larger images the final map is
    averaged. Images need at least 24 pixels.

    >>> sum(p.numel() for p in pooled_cnn(10, 1).parameters())
    14634
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 5, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(4),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(32, 32, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, num_classes),
    )


def pooled_cnn_wide(num_classes: int, in_channels: int) -> nn.Module:
    """Return four convolutions with average pooling and no norms, for images of 32 pixels.

    >>> sum(p.numel() for p in pooled_cnn_wide(10, 3).parameters())
    136842
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, 32, 5, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 128, num_classes),
    )


CONTROL_NETWORKS: Mapping[str, Factory] = {
    network.__name__: network for network in (resnet18, alexnet, pooled_cnn, pooled_cnn_wide)
}
