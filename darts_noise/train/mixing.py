"""Mixed batches: MixUp and CutMix mix each image and its label with another image of the batch.

torchvision does the mixing and draws from torch's global CPU generator. This module seeds that
generator from (seed, number of the batch) for the call and restores it afterwards. So a resumed run
mixes like an uninterrupted run, and other random numbers do not change.

References:
    [1] Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, arXiv:1710.09412.
    [2] Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
        Features, ICCV 2019, arXiv:1905.04899.
"""

import torch
from torch import Tensor
from torchvision.transforms import v2

from darts_noise.data.batches import Batch
from darts_noise.data.seeds import Stream, drawing


class BatchMixing:
    """MixUp [1] or CutMix [2] of a batch. If both are on, each batch uses one of them at random.

    Args:
        mixup: α of the Beta(α, α) distribution of MixUp's share. 0: no MixUp.
        cutmix: α of the Beta(α, α) distribution of CutMix's share. 0: no CutMix.
        num_classes: number of classes.
        seed: seed of all random numbers of the mixing.

    Raises:
        ValueError: both are 0.
    """

    def __init__(self, mixup: float, cutmix: float, num_classes: int, seed: int) -> None:
        alphas = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        self.ways = [way(alpha=alpha, num_classes=num_classes) for way, alpha in alphas if alpha]
        if not self.ways:
            raise ValueError("mixup, cutmix: expected one of them to be more than 0, got 0 and 0")
        self.seed = seed

    def __call__(self, images: Tensor, labels: Tensor, *number: int) -> Batch:
        """Return the mixed batch. It depends only on the arguments and the seed.

        Args:
            images: (B, C, H, W), on any device.
            labels: int64 (B,).
            number: numbers that identify the batch: epoch, index in the epoch, rank.

        Returns:
            Mixed images (B, C, H, W), and labels float32 (B, num_classes) whose rows sum to 1.
        """
        with drawing(self.seed, Stream.AUGMENTATION, *number):
            way = self.ways[int(torch.randint(len(self.ways), ()))]
            mixed: Batch = way(images, labels)
        return mixed
