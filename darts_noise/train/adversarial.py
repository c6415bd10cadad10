"""Adversarial training: each batch is changed so that the present network errs on it.

A training step first looks for the change within the ball that the network errs on most, by PGD
from one random start. It then learns the labels of the changed images [1, equation 2.1].

The examples are made with all modules in eval mode: batch norms use their running statistics and
keep them, and drop path and the auxiliary head are off. So the example of an image depends on no
other image of the batch, and its attack has the network that an evaluation has. The step that
follows is in train mode, so batch norms see the changed images only. In the first tens
of steps the running statistics have not settled yet, so the examples are weaker.

Reference:
    [1] Madry et al., Towards deep learning models resistant to adversarial attacks, ICLR 2018,
        arXiv:1706.06083.
"""

from torch import Tensor, nn
from torch.nn.utils import parametrize

from darts_noise.attacks.gradient import ascend
from darts_noise.attacks.pixels import Ball, OnPixels
from darts_noise.data.images import Normalisation
from darts_noise.data.seeds import Stream, generator
from darts_noise.reading import evaluating


class Adversary:
    """Makes the examples of a training.

    Args:
        ball: the allowed changes.
        steps: gradient steps of each example.
        seed: seed of the random starts.
    """

    def __init__(self, ball: Ball, steps: int, seed: int) -> None:
        self.ball, self.steps, self.seed = ball, steps, seed

    def __call__(
        self,
        net: nn.Module,
        images: Tensor,
        labels: Tensor,
        normalisation: Normalisation,
        *number: int,
    ) -> Tensor:
        """Return the batch after the attack. It depends on the arguments, the weights and the seed.

        Args:
            net: the network. Its modules keep their modes, its weights get no gradient.
            images: normalised images (B, C, H, W).
            labels: int64 (B,).
            normalisation: the normalisation of the images.
            number: numbers that identify the batch: epoch, index in the epoch, rank.
        """
        random = generator(self.seed, Stream.ADVERSARIAL, *number)
        with evaluating(net), parametrize.cached():  # a bounded weight is computed once
            changed = ascend(
                OnPixels(net, normalisation),
                normalisation.pixels(images),
                labels,
                self.ball,
                self.steps,
                random,
            )
        return normalisation(255 * changed).to(images.dtype)
