"""Deficits of the input, after [1]: real images with wrong pixels or wrong labels.

The labels depend on the images, so a network *learns* these sets instead of memorising them. A
penalty on such a set favours cells that need the information that the deficit removes.
`vertical_flip` and `label_permutation` remove nothing that a network trained from scratch needs.
They are controls: a cell that fits the real images also fits them.

[1] studies temporary deficits in early training. Networks do not recover from blur, but they do
from the other two deficits.

Reference:
    [1] Achille, Rovere and Soatto, Critical learning periods in deep networks, ICLR 2019,
        arXiv:1711.08856.
"""

import torch
import torch.nn.functional as F

from darts_noise.data.images import LabelledImages
from darts_noise.errors import SettingError
from darts_noise.noise.draws import real_images
from darts_noise.noise.families import register_noise

BLUR = 4
"""Factor by which height and width are divided and then multiplied again."""
_CHUNK = 1024
"""Images blurred at once. It limits the memory."""


@register_noise
def blur(size: int, like: LabelledImages, generator: torch.Generator) -> LabelledImages:
    """Scale real images down to 1/4 of height and width and up again; keep their labels.

    Both steps are bilinear. The step down is antialiased; otherwise most pixels would be skipped
    and not averaged. The small image has at least 1 pixel per side. In [1], 32 × 32 images are
    scaled to 8 × 8 in this way, like vision through a cataract.

    Raises:
        ValueError: `size` is larger than the number of real images. This holds for every family in
            this file.
    """
    real = real_images("blur", size, like, generator)
    assert isinstance(real.images, torch.Tensor)
    H, W = like.shape[1:]
    small = max(1, round(H / BLUR)), max(1, round(W / BLUR))
    images = torch.empty_like(real.images)
    for start in range(0, size, _CHUNK):
        part = real.images[start : start + _CHUNK].to(torch.float32)
        part = F.interpolate(part, small, mode="bilinear", antialias=True)
        part = F.interpolate(part, (H, W), mode="bilinear")
        images[start : start + _CHUNK] = part.round_().clamp_(0, 255)
    return LabelledImages(images, real.labels, real.classes)


@register_noise
def vertical_flip(size: int, like: LabelledImages, generator: torch.Generator) -> LabelledImages:
    """Turn real images upside down (top row to the bottom); keep their labels [1]."""
    real = real_images("vertical_flip", size, like, generator)
    assert isinstance(real.images, torch.Tensor)
    return LabelledImages(real.images.flip(2), real.labels, real.classes)


@register_noise
def label_permutation(
    size: int, like: LabelledImages, generator: torch.Generator
) -> LabelledImages:
    """Permute the class labels of real images with one permutation.

    The permutation is uniform over all permutations without a fixed point, so no class keeps its
    label. It depends only on the seed and the number of classes. [1] permutes the labels too.

    Raises:
        ValueError: there are fewer than two classes, or `size` is larger than the number of real
            images.
    """
    if like.num_classes < 2:
        raise SettingError(
            "family", f"expected 2 classes or more for 'label_permutation', got {like.num_classes}"
        )
    identity = torch.arange(like.num_classes)
    renamed = identity
    while bool((renamed == identity).any()):  # about 1 in e permutations has no fixed point
        renamed = torch.randperm(like.num_classes, generator=generator)
    real = real_images("label_permutation", size, like, generator)
    return LabelledImages(real.images, renamed[real.labels], real.classes)
