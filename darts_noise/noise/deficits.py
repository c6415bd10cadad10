"""Deficits of the input, after [1]: real images that are seen, or named, wrongly.

Their labels follow from the images, so that a network *learns* these sets instead of memorising
them. Penalised, they ask for a cell that needs what the deficit takes away; `vertical_flip` and
`label_permutation` take nothing away that a network trained from scratch would miss, and are
controls: what fits the real images fits them. In [1] it is a passing deficit of early training
that is studied: networks do not recover from blur, and do from the other two.

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
"""Height and width are divided by it and multiplied again."""
_CHUNK = 1024
"""Images that are blurred at once, which bounds the memory."""


@register_noise
def blur(size: int, like: LabelledImages, generator: torch.Generator) -> LabelledImages:
    """Real images scaled down to a quarter of height and width and up again, with their labels.

    Bilinear both ways, antialiased on the way down, as everywhere here: without that, most pixels
    would be left out and not averaged. A side has 1 pixel at least in between. In [1] 32 × 32
    images go through 8 × 8 in this way, like vision through a cataract.

    Raises:
        ValueError: more images than there are real ones; so for every family of this file.
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
    """Real images upside down (top row to the bottom), with their labels [1]."""
    real = real_images("vertical_flip", size, like, generator)
    assert isinstance(real.images, torch.Tensor)
    return LabelledImages(real.images.flip(2), real.labels, real.classes)


@register_noise
def label_permutation(
    size: int, like: LabelledImages, generator: torch.Generator
) -> LabelledImages:
    """Real images, the label of each class replaced by another's: one permutation of the classes.

    It is drawn uniformly among those without a fixed point, so that no class keeps its label; in
    [1] the labels are permuted too. It depends on the seed and the number of classes alone.

    Raises:
        ValueError: fewer than two classes, or more images than there are real ones.
    """
    if like.num_classes < 2:
        raise SettingError(
            "family", f"expected 2 classes or more for 'label_permutation', got {like.num_classes}"
        )
    identity = torch.arange(like.num_classes)
    renamed = identity
    while bool((renamed == identity).any()):  # some 1 in e permutations has no fixed point
        renamed = torch.randperm(like.num_classes, generator=generator)
    real = real_images("label_permutation", size, like, generator)
    return LabelledImages(real.images, renamed[real.labels], real.classes)
