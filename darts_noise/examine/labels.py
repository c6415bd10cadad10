"""Wrong labels: a part of the labels of a data set, replaced by a seed.

References:
    [1] Zhang et al., Understanding deep learning requires rethinking generalization, ICLR 2017,
        arXiv:1611.03530, section 2.1.
    [2] Northcutt, Jiang and Chuang, Confident learning, JAIR 2021, arXiv:1911.00068.
"""

from dataclasses import replace

import torch
from torch import Tensor

from darts_noise.data.images import LabelledImages
from darts_noise.data.seeds import Stream, generator
from darts_noise.errors import SettingError, unknown

KINDS = ("symmetric", "pairwise")


def with_random_labels(data: LabelledImages, share: float, seed: int) -> LabelledImages:
    """Replace a share of the labels by labels uniform over the classes [1].

    A drawn label may be the own one. The same seed replaces the same labels by the same labels: a
    larger share only replaces further ones.

    Args:
        data: the images.
        share: from 0, no label, to 1, all labels.
        seed: seed of the draws.
    """
    chosen, random = _chosen(data, share, seed)
    drawn = torch.randint(data.num_classes, (len(data),), generator=random)
    labels = data.labels.cpu().clone()
    labels[chosen] = drawn[chosen]
    return replace(data, labels=labels.to(data.labels.device))


def with_wrong_labels(
    data: LabelledImages, share: float, kind: str, seed: int
) -> tuple[LabelledImages, Tensor]:
    """Replace a share of the labels by other labels, and return which ones, bool (N,).

    Args:
        data: the images, of two classes or more.
        share: from 0 to 1.
        kind: ``symmetric``: any other class. ``pairwise``: the next class, class 0 after the last.
        seed: seed of the draws.

    Raises:
        SettingError: an unknown kind, or a share that is not from 0 to 1.
    """
    if kind not in KINDS:
        raise SettingError("kind", unknown("kind of wrong labels", kind, KINDS))
    chosen, random = _chosen(data, share, seed)
    moved = torch.randint(1, data.num_classes, (len(data),), generator=random)
    if kind == "pairwise":
        moved = torch.ones_like(moved)
    wrong = torch.zeros(len(data), dtype=torch.bool)
    wrong[chosen] = True
    labels = data.labels.cpu()
    labels = torch.where(wrong, (labels + moved) % data.num_classes, labels)
    return replace(data, labels=labels.to(data.labels.device)), wrong


def _chosen(data: LabelledImages, share: float, seed: int) -> tuple[Tensor, torch.Generator]:
    """Return the images of a share, to within one image, and the generator of the labels."""
    if not 0 <= share <= 1:
        raise SettingError("share", f"expected 0 to 1, got {share}")
    random = generator(seed, Stream.WRONG_LABELS)
    order = torch.randperm(len(data), generator=random)
    return order[: round(share * len(data))], random
