"""Mixed batches: each image and its label become a convex combination with another of the batch.

The mixing is torchvision's; what is decided here is where its random numbers come from. torchvision
draws from torch's global CPU generator, so that generator is set from (seed, number of the batch)
for the length of the call and put back afterwards: a resumed run mixes as an unbroken one does, and
nothing else that is random is shifted.

References:
    [1] Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, arXiv:1710.09412.
    [2] Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
        Features, ICCV 2019, arXiv:1905.04899.
"""

import torch
from torch import Tensor
from torchvision.transforms import v2

from darts_noise.data.batches import Batch
from darts_noise.data.seeds import Stream, generator


class BatchMixing:
    """MixUp [1] or CutMix [2] of a batch; where both are on, one of the two for each, evenly.

    Args:
        mixup: α of the Beta(α, α) from which MixUp draws its share; 0 for no MixUp.
        cutmix: likewise, of CutMix.
        num_classes: C.
        seed: of everything that is drawn.

    Raises:
        ValueError: neither is on.
    """

    def __init__(self, mixup: float, cutmix: float, num_classes: int, seed: int) -> None:
        alphas = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        self.ways = [way(alpha=alpha, num_classes=num_classes) for way, alpha in alphas if alpha]
        if not self.ways:
            raise ValueError("mixup, cutmix: expected one of them to be more than 0, got 0 and 0")
        self.seed = seed

    def __call__(self, images: Tensor, labels: Tensor, *number: int) -> Batch:
        """The mixed batch, a function of the arguments and the seed alone.

        Args:
            images: (B, C, H, W), on any device.
            labels: int64 (B,).
            number: what tells this batch from all others: its epoch, its place there, the rank.

        Returns:
            Images as before, and labels float32 (B, num_classes), whose rows sum to 1.
        """
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would also seed the GPUs' generators.
            torch.set_rng_state(generator(self.seed, Stream.AUGMENTATION, *number).get_state())
            way = self.ways[int(torch.randint(len(self.ways), ()))]
            mixed: Batch = way(images, labels)
        return mixed
