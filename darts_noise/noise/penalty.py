"""The penalty on noise fit, as a function of the twin's loss on noise.

What may be added here: other bounded functions of what a trained twin achieves. A penalty must be
bounded and must have no gradient where the twin does no better than guess: a negated cross-entropy
has neither property and diverges.
"""

import math

from torch import Tensor


def noise_fit_penalty(noise_loss: Tensor, num_classes: int) -> Tensor:
    """P = max(0, 1 − L_noise / log C), in [0, 1].

    0 where the twin does no better than guess, 1 where it fits the noise perfectly.

    Args:
        noise_loss: scalar cross-entropy of the twin on noise, in nats.
        num_classes: C, at least 2, of the noise set, which may have fewer than the network; log C
            is the loss of a guess among them.

    >>> import torch
    >>> noise_fit_penalty(torch.tensor(0.0), 10)
    tensor(1.)
    >>> noise_fit_penalty(torch.tensor(5.0), 10)
    tensor(0.)
    """
    return (1 - noise_loss / math.log(num_classes)).clamp(min=0)
