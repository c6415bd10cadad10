"""Plant wrong or random labels in a data set, to study how networks learn in spite of them.

References:
    [1] Han et al., Co-teaching: robust training of deep neural networks with extremely noisy
        labels, NeurIPS 2018, arXiv:1804.06872, section 4 and appendix A.
    [2] Zhang et al., Understanding deep learning requires rethinking generalization, ICLR 2017,
        arXiv:1611.03530, section 2.1.
"""

from dataclasses import replace

import torch

from darts_noise.data.images import LabelledImages
from darts_noise.data.seeds import Stream, generator


def with_wrong_labels(data: LabelledImages, share: float, kind: str, seed: int) -> LabelledImages:
    """Return the same images with a share of wrong labels [1].

    [1] makes each label wrong with probability τ. Here, exactly τN labels are wrong, to within one,
    so that seeds differ only in which labels are wrong.

    Args:
        data: N images with their true labels, of C classes.
        share: τ, the share of wrong labels, 0 or more and less than 1. With the same seed, a
            larger share keeps the wrong labels of a smaller one and adds others.
        kind: ``symmetric``: each of the C - 1 other classes is equally likely. ``pairwise``: class
            c becomes class (c + 1) mod C.
        seed: 0 or more.

    Returns:
        The images with the given labels and, in `true_labels`, the true ones.
    """
    count = round(share * len(data))
    random = generator(seed, Stream.WRONG_LABELS)
    chosen = torch.randperm(len(data), generator=random)[:count].to(data.labels.device)
    steps = torch.ones(count, dtype=torch.int64)
    if kind == "symmetric":
        steps = torch.randint(1, data.num_classes, (count,), generator=random)
    labels = data.labels.clone()
    labels[chosen] = (labels[chosen] + steps.to(labels.device)) % data.num_classes
    return replace(data, labels=labels, true_labels=data.labels)


def with_random_labels(data: LabelledImages, share: float, seed: int) -> LabelledImages:
    """Replace a share of the labels by labels uniform over the classes [2].

    A drawn label may be the own one. With the same seed, a larger share only replaces further ones.

    Args:
        data: the images.
        share: from 0, no label, to 1, all labels.
        seed: 0 or more.
    """
    random = generator(seed, Stream.WRONG_LABELS)
    chosen = torch.randperm(len(data), generator=random)[: round(share * len(data))]
    drawn = torch.randint(data.num_classes, (len(data),), generator=random)
    labels = data.labels.clone()
    labels[chosen] = drawn[chosen].to(labels.device)
    return replace(data, labels=labels)
