"""The objective ``prunability``: the validation loss after magnitude pruning.

The smallest weights of all convolutions and linear layers together become 0 (Han et al. 2015,
arXiv:1506.02626), as in ``torch.nn.utils.prune.global_unstructured``. That function changes the
modules of a network; here the weights are an argument, so nothing needs to be undone. They are
chosen anew at each step of α. With a bounded gain, the weights are compared as the layers use them,
after the rescaling, and the layers of the pruned network are rescaled again.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_noise.errors import SettingError
from darts_noise.search.objectives.objective import (
    Objective,
    ObjectiveInputs,
    register_objective,
)


def pruned(
    weights: Sequence[Tensor], sparsity: float, used: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """Set the smallest entries of all kernels and matrices to 0. Biases stay as they are.

    Args:
        weights: the parameters of a network.
        sparsity: share of the entries that become 0, from 0 to 1.
        used: the weights whose size counts; see `used_weights`. None: the parameters themselves.

    >>> pruned([torch.tensor([[3.0, -1.0], [0.5, -4.0]]), torch.tensor([0.1])], 0.5)
    [tensor([[ 3., -0.],
            [ 0., -4.]]), tensor([0.1000])]
    """
    sizes = [w.detach().abs() for w in used or weights]
    dense = torch.cat([size.flatten() for size in sizes if size.ndim in (2, 4)])
    count = round(sparsity * len(dense))
    if count == 0:
        return list(weights)
    threshold = dense.kthvalue(count).values
    return [
        w * (size > threshold) if w.ndim in (2, 4) else w
        for w, size in zip(weights, sizes, strict=True)
    ]


@register_objective("prunability")
class Prunability(Objective):
    """The mean cross-entropy in nats on validation images, without the smallest weights.

    Args:
        sparsity: share of the weights that become 0. Default: 0.8.
    """

    def __init__(self, sparsity: float = 0.8) -> None:
        if not 0 < sparsity < 1:
            raise SettingError("sparsity", f"expected more than 0 and less than 1, got {sparsity}")
        self.sparsity = sparsity

    def __call__(self, inputs: ObjectiveInputs) -> Tensor:
        images, labels = inputs.batch
        with torch.no_grad():
            used = inputs.used(inputs.weights)
        left = pruned(inputs.weights, self.sparsity, used)
        return F.cross_entropy(inputs.logits(left, images), labels)
